//! The name server of each user's network: a process of its own, that is never root's. The helper listens for it where only root may,
//! and writes down who it is before it lets it begin; from then on nobody waits for it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use banger_names::{CONFIGURATION, NAME_PORT, Servers, Service, Sockets, Zone};
use banger_types::helper::{DOMAIN, Ipv4Block};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::allocation;
use crate::caller::NO_GROUP;
use crate::error::Refusal;
use crate::hosts;
use crate::state::{Process, User};

/// What this program is told to be a name server: with its network after that, and the sockets as its standard streams. Whoever says so
/// by sudo has no such sockets, and gets nothing.
pub(crate) const ROLE: &str = "serve-names";
/// Whom that of root's network runs as: nobody (Debian policy section 9.2.2).
const NOBODY: u32 = 65_534;
/// Where it listens if somebody else has the usual port of all of the host's addresses: ports that only root gives away.
const OTHER_PORTS: std::ops::Range<u16> = 600..1024;
/// How long one that is killed may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A name server that has not begun: it ends with this, if it is not let.
#[derive(Debug)]
pub(crate) struct Waiting(io::PipeWriter);

/// Makes sure that a user's network has its name server, and notes where it listens. What is returned is to be let begin when the state with
/// it is saved.
pub(crate) fn ensure(uid: u32, user: &mut User) -> Result<Option<Waiting>, Refusal> {
    if user.names.as_ref().is_some_and(Process::is_alive) {
        return Ok(None);
    }
    let failed = |error: io::Error| Refusal::Tool { tool: ROLE, reason: error.to_string() };
    let (Sockets { datagrams, streams }, port) = listen(user).map_err(failed)?;
    user.names_port = port;
    let (begin, may_begin) = io::pipe().map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.args([
        ROLE,
        &user.block.to_string(),
        &user.v6.map(|first| first.to_string()).unwrap_or_default(),
    ]);
    command.env_clear().current_dir("/");
    command.stdin(OwnedFd::from(datagrams)).stdout(OwnedFd::from(streams)).stderr(Stdio::from(begin));
    // Before it is this program: it has nothing of root's for a moment.
    command.uid(if uid == 0 { NOBODY } else { uid }).gid(NO_GROUP);
    let child = command.spawn().map_err(failed)?;
    user.names = Process::of(child.id());
    Ok(Some(Waiting(may_begin)))
}

/// Listens where the last one did, where everybody does, or where nobody else does. Returns the port as well.
fn listen(user: &User) -> io::Result<(Sockets, u16)> {
    let gateway = allocation::gateway(user.block);
    let mut taken = io::ErrorKind::AddrInUse.into();
    for port in [user.names_port, NAME_PORT].into_iter().chain(OTHER_PORTS) {
        match Sockets::bind(SocketAddr::from((gateway, port))) {
            Ok(sockets) => return Ok((sockets, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

impl Waiting {
    /// Lets it begin.
    pub(crate) fn begin(mut self) {
        // One that has been ended meanwhile is found so the next time.
        let _ = self.0.write_all(b".");
    }
}

/// Ends a user's name server, if there is one.
pub(crate) fn end(user: &User) -> Result<(), Refusal> {
    let Some(server) = &user.names else { return Ok(()) };
    let failed = |error: rustix::io::Errno| Refusal::Tool { tool: ROLE, reason: error.to_string() };
    let pid = i32::try_from(server.pid).ok().and_then(Pid::from_raw);
    let process = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(process)) => process,
        None | Some(Err(rustix::io::Errno::SRCH)) => return Ok(()),
        Some(Err(error)) => return Err(failed(error)),
    };
    // Its number may be another's by now.
    if !server.is_alive() {
        return Ok(());
    }
    pidfd_send_signal(&process, Signal::KILL).map_err(failed)?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let limit = END_LIMIT.try_into().map_err(|_| failed(rustix::io::Errno::INVAL))?;
    match poll(&mut ended, Some(&limit)).map_err(failed)? {
        0 => Err(failed(rustix::io::Errno::TIMEDOUT)),
        _ => Ok(()),
    }
}

/// Serves a network, which the arguments name. Returns when it cannot.
pub(crate) fn serve(arguments: &[std::ffi::OsString]) -> io::Result<()> {
    // It was started by another name of this program's file.
    rustix::thread::set_name(c"banger-names")?;
    rustix::thread::set_no_new_privs(true)?;
    let text = |index: usize| arguments.get(index).and_then(|argument| argument.to_str());
    let block: Ipv4Block = text(0).and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let v6 = text(1).and_then(|text| text.parse().ok());
    let datagrams = UdpSocket::from(io::stdin().as_fd().try_clone_to_owned()?);
    let streams = TcpListener::from(io::stdout().as_fd().try_clone_to_owned()?);
    let address = datagrams.local_addr()?;
    if streams.local_addr()? != address {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Who has started this writes down who it is, or dies: then nobody knows of it.
    let mut begin = io::PipeReader::from(io::stderr().as_fd().try_clone_to_owned()?);
    begin.read_exact(&mut [0])?;
    let host = vec![address.ip()];
    let zone = Zone::new(DOMAIN, move |name| {
        let found = hosts::addresses(name, block, v6);
        if found.is_empty() && name == format!("host.{DOMAIN}") { host.clone() } else { found }
    });
    Service::new(zone, Servers::new(CONFIGURATION)).serve(Sockets { datagrams, streams })?;
    banger_process::forget_beginning();
    loop {
        std::thread::park();
    }
}
