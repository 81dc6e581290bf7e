//! VMMs' programs, and what they say of themselves.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::{CancelGuard, Cancelled, Work};
use banger_types::operation::Unit;

/// What a file looked like when it was asked: length, and when it last changed.
type Look = (u64, Option<SystemTime>);

/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(5);
/// Most that is read of what it says, bytes.
const LONGEST: u64 = 64 << 10;

/// Why a program does not say its version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    /// It cannot be run, or fails.
    #[error(transparent)]
    Command(CommandError),
    /// It goes on and on.
    #[error("it does not end when it is asked for its version, as with --version")]
    Hangs,
}

/// Asks programs for their versions, each only once for as long as it is the same file.
pub(crate) struct Versions {
    commands: Arc<dyn Commands>,
    known: Mutex<HashMap<PathBuf, (Look, String)>>,
}

impl Versions {
    pub(crate) fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, known: Mutex::default() }
    }

    /// Returns the first line that the program prints when it is asked for its version. Blocks until it has, or for
    /// [`LIMIT`].
    pub(crate) fn of(&self, program: &Path) -> Result<String, VersionError> {
        let look = fs_err::metadata(program).map(|file| (file.len(), file.modified().ok())).ok();
        if let Some((before, version)) = self.known().get(program)
            && Some(*before) == look
        {
            return Ok(version.clone());
        }
        let version = self.ask(program)?;
        if let Some(look) = look {
            self.known().insert(program.to_owned(), (look, version.clone()));
        }
        Ok(version)
    }

    fn ask(&self, program: &Path) -> Result<String, VersionError> {
        let command = HostCommand::new(program.to_string_lossy()).argument("--version");
        let mut output = Vec::new();
        let mut read = |reader: &mut dyn Read| {
            reader.take(LONGEST).read_to_end(&mut output)?;
            Ok(())
        };
        self.commands.stream(&command, &Limited(Instant::now() + LIMIT), &mut read).map_err(|error| {
            match error {
                CommandError::Cancelled(_) => VersionError::Hangs,
                error => VersionError::Command(error),
            }
        })?;
        Ok(String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, (Look, String)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that nobody watches, and that is cancelled at this time.
struct Limited(Instant);

impl Work for Limited {
    fn stage(&self, _stage: &str) {}

    fn progress(&self, _done: u64, _total: Option<u64>, _unit: Unit) {}

    fn log(&self, _line: &str) {}

    fn check(&self) -> Result<(), Cancelled> {
        if Instant::now() < self.0 { Ok(()) } else { Err(Cancelled) }
    }

    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        let (done, wait) = mpsc::channel::<()>();
        let left = self.0.saturating_duration_since(Instant::now());
        std::thread::spawn(move || {
            if wait.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                notify();
            }
        });
        CancelGuard::new(move || drop(done))
    }
}
