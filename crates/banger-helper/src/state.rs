//! Who has what: one file, of root's, for as long as the host runs, as what it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_types::VmId;
use banger_types::helper::Ipv4Block;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::foreign::Foreign;

/// Where directories of running systems are (file-hierarchy(7)).
const RUN: &str = "/run";
const DIRECTORY: &str = "banger";
const STATE: &str = "state.json";
/// Half written.
const PARTIAL: &str = ".state.json.partial";
/// Held by whoever changes anything, and before it the one of its user's: so one user's flood has one place in the others' queue.
const LOCK: &str = "lock";
/// How long somebody else may have it.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
/// The form of what is written here.
const VERSION: u32 = 1;
/// Longest state, bytes.
const LONGEST: u64 = 16 << 20;

/// Everything that the helper has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// The users that have a network, by number.
    pub(crate) users: BTreeMap<u32, User>,
    /// What the host's settings were before they were changed, by their paths below `/proc/sys`.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, users: BTreeMap::new(), settings: BTreeMap::new() }
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
    /// Other firewalls that were told of it.
    #[serde(default)]
    pub(crate) told: BTreeSet<Foreign>,
    /// The VMs in it.
    pub(crate) vms: BTreeMap<VmId, Vm>,
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
    directory: OwnedFd,
    path: PathBuf,
    /// None for who only looks.
    locks: Vec<OwnedFd>,
}

impl StateFile {
    /// Waits until it is this process's.
    pub(crate) fn open(uid: u32) -> Result<Self, Refusal> {
        Self::open_in(Path::new(RUN), uid)
    }

    fn open_in(parent: &Path, uid: u32) -> Result<Self, Refusal> {
        let (directory, path) = open_directory(parent)?;
        // The user's own queue first.
        let locks = vec![lock(&directory, &path, &format!("{LOCK}-{uid}"))?, lock(&directory, &path, LOCK)?];
        Ok(Self { directory, path, locks })
    }

    /// Returns the file as it is, for who changes nothing.
    pub(crate) fn look() -> Result<Self, Refusal> {
        let (directory, path) = open_directory(Path::new(RUN))?;
        Ok(Self { directory, path, locks: Vec::new() })
    }

    /// Starts a program that outlives this one, and must not have the locks.
    pub(crate) fn without_heirs<T>(&self, start: impl FnOnce() -> T) -> Result<T, Refusal> {
        let inherit = |flags| {
            let mut locks = self.locks.iter();
            let set = locks.try_for_each(|lock| rustix::io::fcntl_setfd(lock, flags));
            set.map_err(|error| Refusal::file("cannot change", &self.path)(error.into()))
        };
        inherit(FdFlags::CLOEXEC)?;
        let started = start();
        inherit(FdFlags::empty())?;
        Ok(started)
    }

    /// Returns what is written there.
    pub(crate) fn load(&self) -> Result<State, Refusal> {
        let path = self.path.join(STATE);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.directory, STATE, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(State::default()),
            Err(error) => return Err(Refusal::file("cannot read", path)(error.into())),
        };
        check_owner(&file, &path)?;
        let mut text = Vec::new();
        File::from(file).take(LONGEST).read_to_end(&mut text).map_err(Refusal::file("cannot read", &path))?;
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
        let path = self.path.join(STATE);
        let write = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&self.directory, PARTIAL, flags, Mode::from_raw_mode(0o600))?);
            file.write_all(&serde_json::to_vec_pretty(state)?)?;
            file.sync_all()?;
            renameat(&self.directory, PARTIAL, &self.directory, STATE)?;
            Ok(())
        };
        write().map_err(Refusal::file("cannot write", path))
    }

    /// Takes the file away: there is nothing that it could speak of.
    pub(crate) fn remove(&self) -> Result<(), Refusal> {
        self.remove_file(STATE)
    }

    /// Takes another file beside it away, if there is one.
    pub(crate) fn remove_file(&self, name: &str) -> Result<(), Refusal> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(Refusal::file("cannot remove", self.path.join(name))(error.into())),
        }
    }
}

/// Opens the directory below `parent` where the state is, which is made if there is none.
fn open_directory(parent: &Path) -> Result<(OwnedFd, PathBuf), Refusal> {
    let path = parent.join(DIRECTORY);
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        let parent = rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match mkdirat(&parent, DIRECTORY, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        openat(&parent, DIRECTORY, flags, Mode::empty())
    };
    let directory = open().map_err(|error| Refusal::file("cannot open", &path)(error.into()))?;
    check_owner(&directory, &path)?;
    Ok((directory, path))
}

/// Takes a lock. The programs that this process starts inherit it: should it be killed, nobody begins before they have ended.
fn lock(directory: &OwnedFd, path: &Path, name: &str) -> Result<OwnedFd, Refusal> {
    let failed = |error: rustix::io::Errno| Refusal::file("cannot lock", path.join(name))(error.into());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
    let file = openat(directory, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    // The lock is of both, which are one open file; the thread ends with this process if nobody gives it away in time.
    let same = file.try_clone().map_err(Refusal::file("cannot lock", path.join(name)))?;
    let (done, taken) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(flock(&same, FlockOperation::LockExclusive)));
    match taken.recv_timeout(LOCK_LIMIT) {
        Ok(result) => result.map(|()| file).map_err(failed),
        Err(_) => Err(Refusal::Busy { path: path.join(name), seconds: LOCK_LIMIT.as_secs() }),
    }
}

/// Makes sure that nobody but this process's user can have made a file, or change it.
pub(crate) fn check_owner(file: &OwnedFd, path: &Path) -> Result<(), Refusal> {
    let status = fstat(file).map_err(|error| Refusal::file("cannot look at", path)(error.into()))?;
    let why = if status.st_uid != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if status.st_mode & 0o022 != 0 {
        "may be written by others"
    } else if !matches!(FileType::from_raw_mode(status.st_mode), FileType::RegularFile | FileType::Directory)
    {
        "is no file"
    } else {
        return Ok(());
    };
    Err(Refusal::Planted { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
        let left: Vec<_> = std::fs::read_dir(run.path().join(DIRECTORY)).unwrap().flatten().collect();
        assert_eq!(left.len(), 3, "the locks: {left:?}");
    }

    #[test]
    fn what_others_could_have_planted_is_not_used() {
        let run = tempfile::tempdir().unwrap();
        let (place, elsewhere) = (run.path().join(DIRECTORY), run.path().join("elsewhere"));
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
        assert!(
            matches!(StateFile::open_in(run.path(), 1), Err(Refusal::File { .. })),
            "a link in the place of the directory"
        );
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateFile::open_in(run.path(), 1).unwrap_err();
        assert!(matches!(error, Refusal::Planted { why: "may be written by others", .. }), "{error}");
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = StateFile::open_in(run.path(), 1).unwrap();
        // Links where it reads, and where it writes.
        let secret = elsewhere.join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, place.join(STATE)).unwrap();
        assert!(file.load().is_err());
        std::os::unix::fs::symlink(&secret, place.join(PARTIAL)).unwrap();
        assert!(file.save(&sample()).is_err());
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    }

    #[test]
    fn a_state_of_another_version_is_not_guessed_at() {
        let run = tempfile::tempdir().unwrap();
        let file = StateFile::open_in(run.path(), 1).unwrap();
        file.save(&State { version: VERSION + 1, ..sample() }).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("another version"));
    }
}
