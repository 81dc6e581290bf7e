//! Starting `bangerd`.
//!
//! Clients that find no daemon at the same moment take turns by a lock: the first starts it and
//! holds the lock until it is ready, the others then find it listening. The daemon tells by a pipe
//! that it is ready, or why not; a pipe that closes without a word means that it died.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banger_types::location::{Locations, unusable_data, variable};
use banger_types::system::SystemStatus;
use banger_types::{ApiError, ErrorKind};
use fs_err as fs;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::{is_listening, warn_of_unknown_vms};
use crate::error::CommandError;
use crate::printer::Printer;

/// The daemon's program.
const PROGRAM: &str = "bangerd";

/// Locked by a client while it starts the daemon; in the data directory.
const LOCK: &str = "start.lock";

/// Most bytes of the daemon's first words.
const WORDS_LIMIT: u64 = 1 << 20;

/// Starts the daemon and waits until it is ready. Returns whether it was this client that did.
pub(crate) async fn start(locations: &Locations, printer: Printer) -> Result<bool, CommandError> {
    let _lock = lock(&locations.data)?;
    if is_listening(locations).await? {
        return Ok(false);
    }
    let program = find_program(|name| std::env::var_os(name))?;
    let (reader, writer) = pipe::pipe()
        .and_then(|(writer, reader)| Ok((reader, writer.into_blocking_fd()?)))
        .map_err(|source| CommandError::io("cannot start bangerd", &source))?;
    let pid = spawn(&program, writer).map_err(|source| {
        CommandError::io(format!("cannot start bangerd from {}", program.display()), &source)
    })?;
    match first_words(reader).await {
        Ok(Ok(status)) => {
            if !printer.is_json() {
                printer.note(&format!("started bangerd {} (process {pid})", status.version));
                warn_of_unknown_vms(printer, &status);
            }
            Ok(true)
        }
        // Somebody else started one, not through this program.
        Ok(Err(error)) if error.kind == ErrorKind::Conflict && is_listening(locations).await? => Ok(false),
        Ok(Err(error)) => Err(error.into()),
        Err(reason) => Err(ApiError::new(ErrorKind::Unreachable, "bangerd ended before it was ready")
            .because(reason)
            .fix("banger daemon logs")
            .into()),
    }
}

/// Returns the lock that makes starts take turns. Waits for whoever has it.
fn lock(data: &Path) -> Result<fs::File, CommandError> {
    let take = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
        let file = fs::File::options().create(true).truncate(false).write(true).open(data.join(LOCK))?;
        file.lock()?;
        Ok(file)
    };
    take().map_err(|source: io::Error| unusable_data(data, &source).into())
}

/// Returns the daemon's program: in `BANGER_PROGRAM_DIR`, else beside this program, else in `PATH`.
fn find_program(environment: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<PathBuf, CommandError> {
    let missing = |place: String, fix: &str| {
        CommandError::failed(ErrorKind::NotPermitted, format!("there is no program 'bangerd' {place}"), fix)
    };
    if let Some(directory) = environment(variable::PROGRAM_DIRECTORY) {
        let program = Path::new(&directory).join(PROGRAM);
        return if program.is_file() {
            Ok(program)
        } else {
            Err(missing(
                format!("in {}", Path::new(&directory).display()),
                "set BANGER_PROGRAM_DIR to the directory that has it, or unset it",
            ))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(PROGRAM)));
    let path = environment("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).filter(|p| p.is_absolute()).map(|p| p.join(PROGRAM)))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            missing("beside 'banger' or in PATH".to_owned(), "install banger's programs into one directory")
        })
}

/// Starts `program` in a session of its own, with `ready` as the pipe that it tells its state to.
/// Returns its process id.
fn spawn(program: &Path, ready: OwnedFd) -> io::Result<u32> {
    let number = ready.as_raw_fd();
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .env(variable::READY_DESCRIPTOR, number.to_string());
    let setup = move || {
        // Neither the terminal's signals nor its end concern the daemon.
        rustix::process::setsid()?;
        rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to start a process in a session of its own")]
    // SAFETY: between fork and exec, the closure makes two system calls and touches no memory that
    // another thread might hold locked.
    let command = unsafe { command.pre_exec(setup) };
    Ok(command.spawn()?.id())
    // Here the closure, and with it this process's write end of the pipe, is dropped.
}

/// Returns what the daemon says first, or why it says nothing.
async fn first_words(reader: pipe::Receiver) -> Result<Result<SystemStatus, ApiError>, String> {
    let mut words = Vec::new();
    let mut reader = reader.take(WORDS_LIMIT);
    loop {
        let count = reader.read_buf(&mut words).await.map_err(|source| source.to_string())?;
        if let Some(end) = words.iter().position(|&byte| byte == b'\n') {
            let line = &words[..end];
            return serde_json::from_slice(line)
                .map_err(|source| format!("its first words make no sense: {source}"));
        }
        if count == 0 {
            return Err("it closed the pipe to say that it is ready without a word".to_owned());
        }
    }
}
