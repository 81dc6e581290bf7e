//! VMMs' programs, and what they say of themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::Unwatched;

/// What a file looked like when it was asked: length, and when it last changed.
type Look = (u64, Option<SystemTime>);

/// Asks programs for their versions, each only once for as long as it is the same file.
pub(crate) struct Versions {
    commands: Arc<dyn Commands>,
    known: Mutex<HashMap<PathBuf, (Look, String)>>,
}

impl Versions {
    pub(crate) fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, known: Mutex::default() }
    }

    /// Returns the first line that the program prints when it is asked for its version.
    pub(crate) fn of(&self, program: &Path) -> Result<String, CommandError> {
        let look = fs_err::metadata(program).map(|file| (file.len(), file.modified().ok())).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, version)) = known.get(program)
            && Some(*before) == look
        {
            return Ok(version.clone());
        }
        let command = HostCommand::new(program.to_string_lossy()).argument("--version");
        let output = self.commands.run(&command, &Unwatched)?;
        let version = String::from_utf8_lossy(&output).lines().next().unwrap_or_default().trim().to_owned();
        if let Some(look) = look {
            known.insert(program.to_owned(), (look, version.clone()));
        }
        Ok(version)
    }
}
