//! Monitors, from the daemon's side: launching one, finding it again, talking to it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use banger_core::command::Commands as _;
use banger_types::address::HostPort;
use banger_types::guest::GuestRequest;
use banger_types::location::variable;
use banger_types::monitor::{MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus, file};
use command_fds::{CommandFdExt as _, FdMapping};
use serde::de::DeserializeOwned;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::commands::HostCommands;
use crate::scope::{Allowance, Scopes, Surroundings};
use crate::socket::{SocketError, connect_to};

/// Longest line that a monitor may send, bytes.
const LINE_LIMIT: u64 = 1 << 20;

/// How long a monitor may take for an answer that costs it nothing. It does nothing that blocks for long.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The number under which a monitor finds the pipe on which it says that it is ready.
const READY_DESCRIPTOR: i32 = 3;

/// Why a monitor could not be launched or asked.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// It could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The monitor's program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It started and gave up; its own words.
    #[error("{0}")]
    Launch(String),
    /// It is not there.
    #[error("its monitor does not answer")]
    Unreachable(#[source] SocketError),
    /// The connection broke.
    #[error("the connection to its monitor broke")]
    Connection(#[source] io::Error),
    /// It answered something else than what was asked.
    #[error("its monitor gave an answer that this version does not understand: {0}")]
    Answer(String),
    /// It answered that it cannot; its own words.
    #[error("{0}")]
    Refused(String),
    /// It was connected to, and does not answer: it is stopped, or waits for a disk that hangs.
    #[error("its monitor does not answer")]
    Mute,
    /// It lives and does not answer, and cannot be ended.
    #[error("its monitor does not answer, and does not end")]
    Hangs,
}

/// Launches monitors.
#[derive(Debug, Clone)]
pub struct MonitorLauncher {
    program: PathBuf,
    /// Where systemd is, each monitor gets a scope of its own.
    scopes: Option<Scopes>,
}

impl MonitorLauncher {
    /// Returns a launcher of this `banger-monitor`, in scopes of systemd's where those can be had.
    pub fn new(program: PathBuf) -> Self {
        let user = std::env::var("USER").ok();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let scopes = Scopes::find(&Surroundings {
            is_root: rustix::process::geteuid().is_root(),
            user: user.as_deref(),
            runtime: runtime.as_deref(),
            root: Path::new("/"),
            find: &|program| HostCommands.find(program),
        });
        Self { program, scopes }
    }

    /// Returns what a user should know about when VMs end, if there is anything.
    pub fn warning(&self) -> Option<String> {
        self.scopes.as_ref().and_then(Scopes::warning).map(str::to_owned)
    }

    /// Returns the command that becomes a monitor.
    fn command(&self, directory: &Path, allowance: Allowance) -> tokio::process::Command {
        let kept = ["PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
        let Some(scopes) = &self.scopes else {
            let mut command = tokio::process::Command::new(&self.program);
            command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == kept[0]));
            return command;
        };
        let id = directory.file_name().unwrap_or_default().to_string_lossy();
        let (program, arguments) = scopes.command(&format!("banger-vm-{id}.scope"), allowance);
        let mut command = tokio::process::Command::new(program);
        // systemd-run needs to find the manager.
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| kept.iter().any(|kept| name == kept)));
        command.args(arguments).arg(&self.program);
        command
    }

    /// Launches what `launch.json` in `directory` says, with no more than that of the host where somebody can see to it. Returns when the VMM has been started, or
    /// why it was not. The monitor belongs to nobody: it outlives the daemon.
    pub async fn launch(
        &self,
        directory: &Path,
        allowance: Allowance,
    ) -> Result<MonitorStatus, MonitorError> {
        let start_error = |source| MonitorError::Start { program: self.program.clone(), source };
        let (ready, child_end) = std::io::pipe().map_err(start_error)?;
        let mut command = self.command(directory, allowance);
        command
            .arg(directory)
            .current_dir(directory)
            .env(variable::READY_DESCRIPTOR, READY_DESCRIPTOR.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // No process group here: the monitor makes a session of its own, which a group's leader cannot. In ours,
            // our end would leave its group an orphan, and the kernel hangs up on those that have a stopped member
            // (setpgid(2)).
            .kill_on_drop(false)
            .fd_mappings(vec![FdMapping { parent_fd: child_end.into(), child_fd: READY_DESCRIPTOR }])
            .map_err(|error| start_error(io::Error::other(error)))?;
        let mut child = command.spawn().map_err(start_error)?;
        // Our copy of the write end: without it, the pipe ends with the monitor.
        drop(command);
        // Reaped whenever it ends, while this daemon lives; by init after that.
        tokio::spawn(async move { child.wait().await });
        let ready = pipe::Receiver::from_owned_fd(ready.into()).map_err(start_error)?;
        let mut line = Vec::new();
        BufReader::new(ready)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await
            .map_err(MonitorError::Connection)?;
        if line.is_empty() {
            let log = directory.join(file::MONITOR_LOG);
            return Err(MonitorError::Launch(format!("its monitor ended at once; see {}", log.display())));
        }
        serde_json::from_slice::<Result<MonitorStatus, String>>(&line)
            .map_err(|error| MonitorError::Answer(error.to_string()))?
            .map_err(MonitorError::Launch)
    }
}

/// Returns the last state that a monitor wrote into the VM's directory, if any.
pub fn read_last_status(directory: &Path) -> Option<MonitorStatus> {
    serde_json::from_slice(&fs_err::read(directory.join(file::STATUS)).ok()?).ok()
}

/// A connection to a monitor: requests and replies in turn.
#[derive(Debug)]
pub struct MonitorConnection {
    stream: BufReader<UnixStream>,
}

impl MonitorConnection {
    /// Connects to the monitor of the VM in `directory`.
    pub fn open(directory: &Path) -> Result<Self, MonitorError> {
        let path = directory.join(file::SOCKET);
        let stream = connect_to(&path).map_err(|error| match error {
            // It lives, and has not accepted anybody for long.
            SocketError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
                MonitorError::Mute
            }
            error => MonitorError::Unreachable(error),
        })?;
        let stream = UnixStream::from_std(stream).map_err(MonitorError::Connection)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Returns the monitor's state.
    pub async fn status(&mut self) -> Result<MonitorStatus, MonitorError> {
        match self.ask_soon(&MonitorRequest::Status).await? {
            MonitorReply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Passes a request to the guest's agent and waits for its answer.
    pub async fn guest(
        &mut self,
        request: GuestRequest,
    ) -> Result<banger_types::guest::GuestReply, MonitorError> {
        match self.ask(&MonitorRequest::Guest(request)).await? {
            MonitorReply::Guest(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Kills the VMM and waits until it has ended.
    pub async fn kill(&mut self) -> Result<(), MonitorError> {
        match self.ask(&MonitorRequest::Kill).await? {
            MonitorReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends a forward.
    pub async fn remove_forward(&mut self, listen: HostPort) -> Result<(), MonitorError> {
        match self.ask_soon(&MonitorRequest::ForwardRemove(listen)).await? {
            MonitorReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Says whether what listens in the guest is forwarded to.
    pub async fn forward_automatically(&mut self, wanted: bool) -> Result<(), MonitorError> {
        match self.ask_soon(&MonitorRequest::ForwardAutomatically(wanted)).await? {
            MonitorReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets somebody else have an address that an automatic forward may have.
    pub async fn yield_forward(&mut self, listen: HostPort) -> Result<(), MonitorError> {
        match self.ask_soon(&MonitorRequest::ForwardYield(listen)).await? {
            MonitorReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a forward. Returns it with the port that was taken.
    pub async fn add_forward(
        &mut self,
        forward: banger_types::monitor::Forward,
    ) -> Result<banger_types::monitor::Forward, MonitorError> {
        match self.ask_soon(&MonitorRequest::ForwardAdd(forward)).await? {
            MonitorReply::Forward(forward) => Ok(forward),
            other => Err(unexpected(&other)),
        }
    }

    /// Turns the connection into a stream of the monitor's states, the present one first.
    pub async fn watch(mut self) -> Result<StatusStream, MonitorError> {
        match self.ask_soon(&MonitorRequest::Watch).await? {
            MonitorReply::Status(status) => Ok(StatusStream { next: Some(status), connection: Some(self) }),
            other => Err(unexpected(&other)),
        }
    }

    /// Turns the connection into the guest's serial console.
    pub async fn console(
        mut self,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, MonitorError> {
        match self.ask_soon(&MonitorRequest::Console).await? {
            MonitorReply::Connected => Ok(self.stream),
            other => Err(unexpected(&other)),
        }
    }

    /// For what a monitor answers by itself: [`MonitorError::Mute`] when it does not.
    async fn ask_soon(&mut self, request: &MonitorRequest) -> Result<MonitorReply, MonitorError> {
        tokio::time::timeout(ANSWER_LIMIT, self.ask(request)).await.unwrap_or(Err(MonitorError::Mute))
    }

    async fn ask(&mut self, request: &MonitorRequest) -> Result<MonitorReply, MonitorError> {
        let mut line =
            serde_json::to_vec(request).map_err(|error| MonitorError::Answer(error.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await.map_err(MonitorError::Connection)?;
        match self.line().await? {
            Some(MonitorReply::Failed(reason)) => Err(MonitorError::Refused(reason)),
            Some(reply) => Ok(reply),
            None => Err(MonitorError::Connection(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MonitorError> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await
            .map_err(MonitorError::Connection)?;
        if read == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|error| MonitorError::Answer(error.to_string()))
    }
}

fn unexpected(reply: &MonitorReply) -> MonitorError {
    MonitorError::Answer(format!("{reply:?}"))
}

/// A monitor's states as they change.
#[derive(Debug)]
pub struct StatusStream {
    next: Option<MonitorStatus>,
    /// `None` when the monitor had ended before it could be asked.
    connection: Option<MonitorConnection>,
}

impl StatusStream {
    /// Returns the states of the monitor that was just launched in `directory`. A VMM may end so soon that nobody
    /// can be asked any more: then its end, which the monitor has written down, is the only state.
    pub async fn of_launched(directory: &Path) -> Result<Self, MonitorError> {
        let asked = match MonitorConnection::open(directory) {
            Ok(connection) => connection.watch().await,
            Err(error) => Err(error),
        };
        let gone = matches!(asked, Err(MonitorError::Unreachable(_) | MonitorError::Connection(_)));
        let last = read_last_status(directory).filter(|_| gone);
        match last {
            Some(end) if matches!(end.phase, MonitorPhase::Ended(_)) => {
                Ok(Self { next: Some(end), connection: None })
            }
            _ => asked,
        }
    }

    /// Returns the next state, or `None` when the monitor has gone.
    pub async fn next(&mut self) -> Result<Option<MonitorStatus>, MonitorError> {
        if let Some(status) = self.next.take() {
            return Ok(Some(status));
        }
        match &mut self.connection {
            Some(connection) => connection.line().await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use banger_types::monitor::EndReason;

    use super::*;
    use crate::socket::bind_private;

    fn status(phase: MonitorPhase) -> MonitorStatus {
        MonitorStatus {
            version: String::new(),
            monitor_pid: 1,
            vmm_pid: 2,
            host_boot_id: String::new(),
            started_at_ns: 3,
            phase,
            guest: None,
            forwards: Vec::new(),
            automatic: Vec::new(),
            sockets: Vec::new(),
        }
    }

    fn ended() -> MonitorStatus {
        let message = "qemu exited with code 3".to_owned();
        status(MonitorPhase::Ended(EndReason {
            code: Some(3),
            signal: None,
            announced: None,
            killed: false,
            host_shutdown: false,
            message,
        }))
    }

    fn write(directory: &Path, status: &MonitorStatus) {
        fs_err::write(directory.join(file::STATUS), serde_json::to_vec(status).unwrap()).unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_vmm_that_ended_at_once_is_not_lost() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        write(at, &ended());
        let mut states = StatusStream::of_launched(at).await.unwrap();
        assert_eq!(states.next().await.unwrap(), Some(ended()));
        assert_eq!(states.next().await.unwrap(), None);

        // It took the connection, and ended before it had an answer.
        let listener = bind_private(&at.join(file::SOCKET)).unwrap();
        let monitor = std::thread::spawn(move || {
            listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        });
        let mut states = StatusStream::of_launched(at).await.unwrap();
        monitor.join().unwrap();
        assert_eq!(states.next().await.unwrap(), Some(ended()));
    }

    #[tokio::test]
    async fn a_monitor_that_went_without_a_word_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &status(MonitorPhase::Booting));
        let states = StatusStream::of_launched(directory.path()).await;
        assert!(matches!(states, Err(MonitorError::Unreachable(_))), "{states:?}");
    }
}
