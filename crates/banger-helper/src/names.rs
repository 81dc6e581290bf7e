//! The name server of each user's network: a process of its own, which is root for as long as it takes to listen where only root
//! may. It holds a lock for as long as it lives, by which it is found (fcntl(2), `F_GETLK`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use banger_names::{CONFIGURATION, NAME_PORT, Servers, Service, Sockets, Zone};
use banger_types::helper::DOMAIN;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use rustix::thread::{Gid, Uid};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::caller::{Caller, NO_GROUP};
use crate::error::Refusal;
use crate::hosts;
use crate::network;
use crate::state::{StateFile, User};

/// What this program is told to be the name server of its caller's network. Whoever says that by sudo gets what it is for: the one
/// that there may be, of their own network.
pub(crate) const ROLE: &str = "serve-names";
/// What it says when it listens.
const LISTENS: &str = "listens";
/// How long one that is killed may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Makes sure that a user's network has its name server.
pub(crate) fn ensure(file: &StateFile, uid: u32) -> Result<(), Refusal> {
    if holder(&lock(file, uid)?)?.is_some() {
        return Ok(());
    }
    let failed = |reason: String| Refusal::Tool { tool: ROLE, reason };
    let mut command = Command::new("/proc/self/exe");
    command.arg(ROLE).env_clear().env("SUDO_UID", uid.to_string()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // It outlives this request, and must not keep others out.
    let mut child = file.without_heirs(|| command.spawn())?.map_err(|error| failed(error.to_string()))?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut said).map_err(|error| failed(error.to_string()))?;
    }
    if said.trim() == LISTENS { Ok(()) } else { Err(failed(said.trim().to_owned())) }
}

/// Ends a user's name server, if there is one.
pub(crate) fn end(file: &StateFile, uid: u32) -> Result<(), Refusal> {
    let lock = lock(file, uid)?;
    let failed = |error: rustix::io::Errno| Refusal::Tool { tool: ROLE, reason: error.to_string() };
    while let Some(pid) = holder(&lock)? {
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => continue,
            Err(error) => return Err(failed(error)),
        };
        // It may have ended in between, and its number be another's.
        if holder(&lock)? == Some(pid) {
            pidfd_send_signal(&process, Signal::KILL).map_err(failed)?;
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            let limit = END_LIMIT.try_into().map_err(|_| failed(rustix::io::Errno::INVAL))?;
            if poll(&mut ended, Some(&limit)).map_err(failed)? == 0 {
                return Err(failed(rustix::io::Errno::TIMEDOUT));
            }
        }
    }
    file.remove_file(&lock_name(uid))
}

/// Serves the caller's network, if nobody does. Returns when it cannot.
pub(crate) fn serve() -> Refusal {
    match try_serve() {
        Err(refusal) => {
            // For who has started it.
            let _ = writeln!(std::io::stdout(), "{}", banger_types::error::chain(&refusal));
            refusal
        }
        Ok(never) => match never {},
    }
}

fn try_serve() -> Result<std::convert::Infallible, Refusal> {
    // It was started by another name of this program's file.
    let _ = rustix::thread::set_name(c"banger-names");
    let caller = Caller::of_this_process()?;
    let file = StateFile::look()?;
    let state = file.load()?;
    let user = state.users.get(&caller.uid);
    let user = user.ok_or_else(|| Refusal::Missing(format!("user {} has no network", caller.uid)))?;
    let lock = lock(&file, caller.uid)?;
    let taken = |error: rustix::io::Errno| Refusal::Tool { tool: ROLE, reason: error.to_string() };
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(taken)?;
    let addresses = addresses(caller.uid, user);
    let bound: std::io::Result<Vec<Sockets>> =
        addresses.iter().map(|address| Sockets::bind((*address, NAME_PORT).into())).collect();
    let sockets = bound.map_err(|error| Refusal::Tool { tool: ROLE, reason: error.to_string() })?;
    become_user(caller.uid).map_err(taken)?;
    let service = Service::new(zone(user, addresses), Servers::new(CONFIGURATION));
    let serve = |sockets| service.serve(sockets);
    let begun: std::io::Result<()> = sockets.into_iter().try_for_each(serve);
    begun.map_err(|error| Refusal::Tool { tool: ROLE, reason: error.to_string() })?;
    say_and_close().map_err(|error| Refusal::Tool { tool: ROLE, reason: error.to_string() })?;
    loop {
        std::thread::park();
    }
}

/// Says that it listens, to who waits for that and for nothing more.
fn say_and_close() -> std::io::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{LISTENS}")?;
    output.flush()?;
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nothing)?)
}

/// Gives up all that is root's, for good, before the first thread is made.
fn become_user(uid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(NO_GROUP));
    set_no_new_privs(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn addresses(uid: u32, user: &User) -> Vec<IpAddr> {
    let network = network::describe(uid, user);
    let v6 = network.gateway_v6.map(|(address, _)| IpAddr::from(address));
    [IpAddr::from(network.gateway)].into_iter().chain(v6).collect()
}

/// The names that guests of a network know, beside the world's: each other's, and their host's.
fn zone(user: &User, host: Vec<IpAddr>) -> Zone {
    let (block, v6, hosts_name) = (user.block, user.v6, format!("host.{DOMAIN}"));
    Zone::new(DOMAIN, move |name| {
        let found = hosts::addresses(name, block, v6);
        if found.is_empty() && name == hosts_name { host.clone() } else { found }
    })
}

fn lock_name(uid: u32) -> String {
    format!("names-{uid}")
}

fn lock(file: &StateFile, uid: u32) -> Result<OwnedFd, Refusal> {
    file.open_file(&lock_name(uid))
}

/// Returns who holds the lock.
fn holder(lock: &OwnedFd) -> Result<Option<Pid>, Refusal> {
    let held = fcntl_getlk(lock, &Flock::from(FlockType::WriteLock))
        .map_err(|error| Refusal::Tool { tool: ROLE, reason: error.to_string() })?;
    Ok(held.and_then(|held| held.pid))
}
