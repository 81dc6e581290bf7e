//! From the command line to the event loop.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use banger_types::error::chain;
use banger_types::location::variable;
use banger_types::monitor::{ChannelSource, LaunchSpec, MonitorPhase, MonitorStatus, file};
use fs_err::File;
use mio::net::UnixListener;
use rustix::fs::{FlockOperation, Mode};

use crate::guest::channel::Door;
use crate::host::clock::ClockWatch;
use crate::host::launch::{LaunchError, launch};
use crate::host::log::{BootLog, LogPipe, RotatingLog};
use crate::host::system;
use crate::host::words::Words;
use crate::monitor::{Monitor, Parts, now_ns};

/// How long a guest has for its way down when the host goes down: less than a service manager waits before it kills
/// (`DefaultTimeoutStopSec`, systemd-system.conf(5): 90 s).
const SHUTDOWN_LIMIT: Duration = Duration::from_mins(1);
/// How long a monitor before this one may take for its last steps.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of `launch.json`.
const LAUNCH_LIMIT: u64 = 4 << 20;

/// Why the monitor did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("usage: banger-monitor DIRECTORY")]
    Usage,
    #[error("{variable} is '{0}', which is no open descriptor above 2", variable = variable::READY_DESCRIPTOR)]
    ReadyDescriptor(String),
    #[error("cannot set up the process")]
    Process(#[source] io::Error),
    #[error("cannot use the directory '{}'", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    #[error("another monitor works in '{}'", .0.display())]
    Locked(PathBuf),
    #[error("cannot use '{0}'")]
    File(&'static str, #[source] io::Error),
    #[error("'{}' is larger than {LAUNCH_LIMIT} bytes", file::LAUNCH)]
    LaunchSize,
    #[error("'{}' cannot be understood", file::LAUNCH)]
    Launch(#[source] serde_json::Error),
    #[error("cannot listen on '{}'", .0.display())]
    Listen(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Programs(#[from] LaunchError),
    #[error("cannot start the event loop")]
    Loop(#[source] io::Error),
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let ready = match take_ready_descriptor() {
        Ok(ready) => ready,
        Err(error) => return fail(None, &error),
    };
    // Kept for messages of a start that fails before there is a log.
    let mut monitor = match start() {
        Ok(monitor) => monitor,
        Err(error) => return fail(ready, &error),
    };
    tell_ready(ready, &Ok(monitor.status().clone()));
    let result = monitor.run();
    // The socket of a monitor that is gone would only answer with an error; so does no socket.
    let _gone = fs_err::remove_file(file::SOCKET);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(None, &StartError::Loop(error)),
    }
}

#[expect(clippy::print_stderr, reason = "standard error is the log, or the spawner's before there is one")]
fn fail(ready: Option<OwnedFd>, error: &StartError) -> ExitCode {
    let text = chain(error);
    eprintln!("banger-monitor: {text}");
    tell_ready(ready, &Err(text));
    ExitCode::FAILURE
}

/// Writes the spawner's line. A spawner that went away is no reason to stop.
fn tell_ready(ready: Option<OwnedFd>, result: &Result<MonitorStatus, String>) {
    if let (Some(ready), Ok(mut line)) = (ready, serde_json::to_vec(result)) {
        line.push(b'\n');
        let _unheard = std::fs::File::from(ready).write_all(&line);
    }
}

/// Takes the spawner's descriptor and closes all others that were inherited.
fn take_ready_descriptor() -> Result<Option<OwnedFd>, StartError> {
    let ready = match std::env::var_os(variable::READY_DESCRIPTOR) {
        None => None,
        Some(text) => {
            let bad = || StartError::ReadyDescriptor(text.to_string_lossy().into_owned());
            let number = text.to_str().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
            Some((number, system::take_inherited(number).map_err(|_| bad())?))
        }
    };
    system::close_inherited(ready.as_ref().map(|(number, _)| *number)).map_err(StartError::Process)?;
    Ok(ready.map(|(_, descriptor)| descriptor))
}

fn start() -> Result<Monitor, StartError> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else { return Err(StartError::Usage) };
    let signals = detach().map_err(StartError::Process)?;
    let lock = enter(directory)?;
    let mut words = Words::open().map_err(|error| StartError::File(file::MONITOR_LOG, error))?;
    words.say(&format!("banger-monitor {} begins", env!("CARGO_PKG_VERSION")));
    let spec = read_launch()?;
    // A VMM whose file has privileges of its own runs without them: with them, the kernel would forget that it is to end
    // with its monitor (PR_SET_PDEATHSIG, prctl(2)). Nothing that is started here needs any, but what leads into a jail, where
    // somebody else sees to that.
    if spec.control_group.is_none() {
        rustix::thread::set_no_new_privs(true).map_err(|error| StartError::Process(error.into()))?;
    }
    let parts = start_programs(spec, signals, words)?;
    let mut monitor = Monitor::new(parts).map_err(StartError::Loop)?;
    monitor.write_status().map_err(|error| StartError::File(file::STATUS, error))?;
    // The lock is held until the process is gone.
    std::mem::forget(lock);
    Ok(monitor)
}

/// Leaves the spawner's session, signals and standard input behind.
fn detach() -> io::Result<OwnedFd> {
    // A process that leads a group already cannot; then its spawner has seen to it.
    let _leader = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    system::take_signals()
}

/// Goes to the VM's directory and locks it. A monitor of the same VM that is on its way out, having told of its VMM's
/// end, is waited for.
fn enter(directory: OsString) -> Result<File, StartError> {
    let directory = PathBuf::from(directory);
    std::env::set_current_dir(&directory).map_err(|error| StartError::Directory(directory.clone(), error))?;
    let fail = |error| StartError::File(file::LOCK, error);
    let lock = fs_err::OpenOptions::new().create(true).append(true).open(file::LOCK).map_err(fail)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) if wait_for_lock(&lock).map_err(fail)? => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Locked(directory)),
        Err(error) => Err(fail(error.into())),
    }
}

/// Waits for the lock. Returns whether it was had in time.
fn wait_for_lock(lock: &File) -> io::Result<bool> {
    // The lock belongs to what the descriptor refers to, so it is the caller's, too (flock(2)).
    let another = lock.file().try_clone()?;
    let (sender, receiver) = mpsc::channel();
    // flock(2) has no limit. A thread that waits for it in vain ends with this process.
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let _too_late = sender.send(rustix::fs::flock(&another, FlockOperation::LockExclusive));
    })?;
    match receiver.recv_timeout(LOCK_PATIENCE) {
        Ok(locked) => locked.map(|()| true).map_err(io::Error::from),
        Err(_) => Ok(false),
    }
}

fn read_launch() -> Result<LaunchSpec, StartError> {
    use std::io::Read;
    let fail = |error| StartError::File(file::LAUNCH, error);
    let mut bytes = Vec::new();
    let launch = File::open(file::LAUNCH).map_err(fail)?;
    launch.take(LAUNCH_LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LAUNCH_LIMIT {
        return Err(StartError::LaunchSize);
    }
    serde_json::from_slice(&bytes).map_err(StartError::Launch)
}

/// Listens on a path, in the place of whatever a monitor before this one left there.
fn listen(path: &Path) -> Result<UnixListener, StartError> {
    let listen = || {
        match fs_err::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|error| StartError::Listen(path.to_owned(), error))
}

fn log_pipe(name: &'static str, limit: u64) -> Result<(LogPipe, OwnedFd), StartError> {
    RotatingLog::open(Path::new(name), limit)
        .and_then(LogPipe::new)
        .map_err(|error| StartError::File(name, error))
}

fn start_programs(spec: LaunchSpec, signals: OwnedFd, words: Words) -> Result<Parts, StartError> {
    let control = listen(Path::new(file::SOCKET))?;
    let (serial, console) = log_pipe(file::SERIAL_LOG, spec.log_limit)?;
    let (engine, errors) = log_pipe(file::ENGINE_LOG, spec.log_limit)?;
    let boot_log =
        BootLog::begin(Path::new(file::BOOT_LOG)).map_err(|error| StartError::File(file::BOOT_LOG, error))?;
    let clock = ClockWatch::new().map_err(StartError::Process)?;
    let door = match &spec.channel {
        ChannelSource::Pair(_) => None,
        ChannelSource::Dial(terms) => Some(Door::new(listen(&terms.knock)?, terms.clone())),
    };
    let started_at_ns = now_ns();
    let launched = launch(&spec, console, errors)?;
    let status = MonitorStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        monitor_pid: std::process::id(),
        host_boot_id: system::boot_id(),
        vmm_pid: launched.programs.vmm.id(),
        started_at_ns,
        phase: MonitorPhase::Booting,
        guest: None,
        forwards: Vec::new(),
        automatic: Vec::new(),
        sockets: Vec::new(),
    };
    let shutdown_limit = shutdown_limit();
    Ok(Parts {
        spec,
        launched,
        status,
        signals,
        clock,
        control,
        door,
        serial,
        engine,
        boot_log,
        words,
        shutdown_limit,
    })
}

fn shutdown_limit() -> Duration {
    let milliseconds = std::env::var(variable::SHUTDOWN_LIMIT).ok().and_then(|text| text.parse().ok());
    milliseconds.map_or(SHUTDOWN_LIMIT, Duration::from_millis)
}
