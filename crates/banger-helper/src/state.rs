//! Who has what: one file, of root's, for as long as the host runs, as what it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use banger_names::NAME_PORT;
use banger_types::VmId;
use banger_types::helper::Ipv4Block;
use rustix::fs::{FlockOperation, flock};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::error::Refusal;
use crate::foreign::Foreign;

/// Where directories of running systems are (file-hierarchy(7)).
const RUN: &str = "/run";
const STATE: &str = "state.json";
/// Held by whoever changes anything, and before it the one of its user's: so one user's flood has one place in the others' queue.
const LOCK: &str = "lock";
/// How long somebody else may have it.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
/// The form of what is written here.
const VERSION: u32 = 1;

/// Everything that the helper has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// The users that have a network, by number.
    pub(crate) users: BTreeMap<u32, User>,
    /// What the host's settings were before they were changed, by their paths below `/proc/sys`.
    pub(crate) settings: BTreeMap<String, String>,
    /// Others' bridges that were there then.
    #[serde(default)]
    pub(crate) bridges: BTreeSet<String>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, users: BTreeMap::new(), settings: BTreeMap::new(), bridges: BTreeSet::new() }
    }
}

/// A user's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// What the user is called in names.
    pub(crate) label: String,
    /// The network's addresses.
    pub(crate) block: Ipv4Block,
    /// The first address of its network of IPv6, a `/64`, if it has one.
    pub(crate) v6: Option<Ipv6Addr>,
    /// Its name server.
    #[serde(default)]
    pub(crate) names: Option<Process>,
    /// The port that it listens on, at the gateway's address: what guests ask there on its usual one comes to this one.
    #[serde(default = "usual_port")]
    pub(crate) names_port: u16,
    /// Other firewalls that were told of it.
    #[serde(default)]
    pub(crate) told: BTreeSet<Foreign>,
    /// The VMs in it.
    pub(crate) vms: BTreeMap<VmId, Vm>,
}

/// The port of name servers that is so for everybody.
const fn usual_port() -> u16 {
    NAME_PORT
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it was started, in ticks since the host was (proc(5), `/proc/PID/stat`, field 22).
    start: u64,
}

impl Process {
    /// Returns the process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may have blanks and brackets of its own; the state is field 3.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!["Z", "X"].contains(&state)).then_some(Self { pid, start })
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// A VM's place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vm {
    /// The number in its device's name, which no other device has.
    pub(crate) device: u32,
    /// The guest's address; that of IPv6 has the same last byte.
    pub(crate) address: Ipv4Addr,
    /// Whether it reaches the host's own addresses.
    pub(crate) allow_host: bool,
    /// Whether it reaches the user's other VMs.
    pub(crate) reaches_others: bool,
    /// The name that the host resolves.
    pub(crate) name: String,
    /// Whom its VMM runs as, if that is in a jail.
    #[serde(default)]
    pub(crate) jail: Option<u32>,
}

impl State {
    /// Returns a number that no VM's device has.
    pub(crate) fn free_device(&self) -> u32 {
        let taken: BTreeSet<u32> =
            self.users.values().flat_map(|user| user.vms.values()).map(|vm| vm.device).collect();
        (1..=u32::MAX).find(|number| !taken.contains(number)).unwrap_or_default()
    }
}

/// The state's file, which nobody else reads or writes meanwhile.
#[derive(Debug)]
pub(crate) struct StateFile {
    directory: Directory,
    /// None for who only looks.
    locks: Vec<OwnedFd>,
}

impl StateFile {
    /// Waits until it is this process's.
    pub(crate) fn open(uid: u32) -> Result<Self, Refusal> {
        Self::open_in(Path::new(RUN), uid)
    }

    fn open_in(parent: &Path, uid: u32) -> Result<Self, Refusal> {
        let directory = Directory::open(parent)?;
        // The user's own queue first.
        let locks = vec![lock(&directory, &format!("{LOCK}-{uid}"))?, lock(&directory, LOCK)?];
        Ok(Self { directory, locks })
    }

    /// Returns the file as it is, for who changes nothing.
    pub(crate) fn look() -> Result<Self, Refusal> {
        Ok(Self { directory: Directory::open(Path::new(RUN))?, locks: Vec::new() })
    }

    /// Starts a program that outlives this one, and must not have the locks.
    pub(crate) fn without_heirs<T>(&self, start: impl FnOnce() -> T) -> Result<T, Refusal> {
        let inherit = |flags| {
            let mut locks = self.locks.iter();
            let set = locks.try_for_each(|lock| rustix::io::fcntl_setfd(lock, flags));
            set.map_err(|error| Refusal::file("cannot change", self.directory.path())(error.into()))
        };
        inherit(FdFlags::CLOEXEC)?;
        let started = start();
        inherit(FdFlags::empty())?;
        Ok(started)
    }

    /// Returns what is written there.
    pub(crate) fn load(&self) -> Result<State, Refusal> {
        let path = self.directory.path().join(STATE);
        let Some(text) = self.directory.read(STATE)? else { return Ok(State::default()) };
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| Refusal::file("cannot understand", &path)(error.into()))?;
        if state.version != VERSION {
            return Err(Refusal::Planted {
                path,
                why: "is of another version of banger: restart the host, or remove it",
            });
        }
        Ok(state)
    }

    /// Puts another in its place.
    pub(crate) fn save(&self, state: &State) -> Result<(), Refusal> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| {
            Refusal::file("cannot write", self.directory.path().join(STATE))(error.into())
        })?;
        self.directory.replace(STATE, &text)
    }

    /// Takes the file away: there is nothing that it could speak of.
    pub(crate) fn remove(&self) -> Result<(), Refusal> {
        self.directory.remove(STATE)
    }
}

/// Takes a lock. The programs that this process starts inherit it: should it be killed, nobody begins before they have ended.
fn lock(directory: &Directory, name: &str) -> Result<OwnedFd, Refusal> {
    let path = directory.path().join(name);
    let file = directory.open_lock(name)?;
    // The lock is of both, which are one open file; the thread ends with this process if nobody gives it away in time.
    let same = file.try_clone().map_err(Refusal::file("cannot lock", &path))?;
    let (done, taken) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(flock(&same, FlockOperation::LockExclusive)));
    match taken.recv_timeout(LOCK_LIMIT) {
        Ok(result) => result.map(|()| file).map_err(|error| Refusal::file("cannot lock", path)(error.into())),
        Err(_) => Err(Refusal::Busy { path, seconds: LOCK_LIMIT.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        let vm = Vm {
            device: 1,
            address: Ipv4Addr::new(10, 0, 0, 2),
            allow_host: false,
            reaches_others: true,
            name: "web.banger".into(),
            jail: None,
        };
        let user = User {
            label: "alice".to_owned(),
            block: "10.0.0.0/24".parse().unwrap(),
            v6: None,
            names: None,
            names_port: NAME_PORT,
            told: [].into(),
            vms: [(VmId::from_random(1), vm)].into(),
        };
        State {
            users: [(1001, user)].into(),
            settings: [("net/ipv4/ip_forward".into(), "0".into())].into(),
            ..State::default()
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_what_is_removed_is_empty() {
        let run = tempfile::tempdir().unwrap();
        let file = StateFile::open_in(run.path(), 1001).unwrap();
        assert_eq!(file.load().unwrap(), State::default());
        file.save(&sample()).unwrap();
        drop(file);
        let file = StateFile::open_in(run.path(), 1002).unwrap();
        assert_eq!(file.load().unwrap(), sample());
        assert_eq!(file.load().unwrap().free_device(), 2);
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), State::default());
        let left: Vec<_> = std::fs::read_dir(file.directory.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 3, "the locks: {left:?}");
    }

    #[test]
    fn a_state_of_another_version_is_not_guessed_at() {
        let run = tempfile::tempdir().unwrap();
        let file = StateFile::open_in(run.path(), 1).unwrap();
        file.save(&State { version: VERSION + 1, ..sample() }).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("another version"));
    }
}
