//! Control groups of the second version (the kernel's `cgroup-v2`).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_types::VmId;
use banger_types::helper::JailTerms;
use banger_types::monitor::control_group;
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::Refusal;

/// The group that all of ours are in.
const OURS: &str = "banger";
/// What the caller writes to end what is in a group, and to let it stand still.
const CALLERS: [&str; 2] = [control_group::KILL, control_group::FREEZE];
/// The period in which processors' time is counted, microseconds.
const PERIOD: u64 = 100_000;
/// How long what is killed may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Makes a VM's group what it has to be. Returns its directory.
pub(super) fn ensure(caller: u32, id: &VmId, terms: JailTerms) -> Result<PathBuf, Refusal> {
    let root = root().ok_or_else(|| {
        Refusal::Missing("this host has no control groups of the second version".to_owned())
    })?;
    let (ours, group) = (root.join(OURS), root.join(OURS).join(name(caller, id)));
    for directory in [&ours, &group] {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Refusal::file("cannot make", directory)(error));
            }
            _ => {}
        }
        // Those that are divided there: which of them there are is the host's to say.
        for controller in ["+memory", "+pids", "+cpu"] {
            let _ = std::fs::write(directory.with_file_name("cgroup.subtree_control"), controller);
        }
    }
    let limits = [
        ("memory.max", (terms.memory.0 << 20).to_string()),
        ("pids.max", terms.tasks.to_string()),
        ("cpu.max", format!("{} {PERIOD}", u64::from(terms.processors) * PERIOD)),
    ];
    for (file, limit) in limits {
        let path = group.join(file);
        if path.exists() {
            std::fs::write(&path, limit).map_err(Refusal::file("cannot write", path))?;
        }
    }
    for file in CALLERS {
        let path = group.join(file);
        std::os::unix::fs::chown(&path, Some(caller), None).map_err(Refusal::file("cannot give", path))?;
    }
    Ok(group)
}

/// Moves this process into a VM's group.
pub(super) fn enter(caller: u32, id: &VmId) -> Result<(), Refusal> {
    let missing = || Refusal::Missing(format!("VM {id} has no control group"));
    let path = directory(caller, id).ok_or_else(missing)?.join(control_group::PROCESSES);
    std::fs::write(&path, "0").map_err(Refusal::file("cannot write", path))
}

/// Ends whatever is in a VM's group, and takes it away, if it is there.
pub(super) fn remove(caller: u32, id: &VmId) -> Result<(), Refusal> {
    let Some(group) = directory(caller, id) else { return Ok(()) };
    let write = |file: &str, text: &str| {
        let path = group.join(file);
        std::fs::write(&path, text).map_err(Refusal::file("cannot write", path))
    };
    write(control_group::KILL, "1")?;
    until_empty(&group)?;
    std::fs::remove_dir(&group).map_err(Refusal::file("cannot remove", &group))?;
    if let Some(ours) = group.parent() {
        // It stays as long as it has others.
        let _ = std::fs::remove_dir(ours);
    }
    Ok(())
}

/// Waits until nothing runs in a group; the kernel tells of each change of that file.
fn until_empty(group: &Path) -> Result<(), Refusal> {
    let path = group.join(control_group::EVENTS);
    let failed = |error| Refusal::file("cannot read", &path)(error);
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let events = std::fs::File::open(&path).map_err(failed)?;
        if std::io::read_to_string(&events).map_err(failed)?.contains("populated 0") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = left.try_into().map_err(|_| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let mut changed = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)];
        if poll(&mut changed, Some(&limit)).map_err(|error| failed(error.into()))? == 0 {
            return Err(Refusal::Busy { path, seconds: END_LIMIT.as_secs() });
        }
    }
}

/// Returns the name of a VM's group.
fn name(caller: u32, id: &VmId) -> String {
    format!("{caller}-{id}")
}

/// Returns a VM's group, if it is there.
fn directory(caller: u32, id: &VmId) -> Option<PathBuf> {
    root().map(|root| root.join(OURS).join(name(caller, id))).filter(|group| group.exists())
}

/// Returns where the groups of the second version are (proc(5), `/proc/PID/mountinfo`).
pub(super) fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Those before it are mounted over, and not to be seen.
    let mut places = mounts.lines().rev().filter_map(mounted).map(PathBuf::from);
    places.find(|place| place.join(control_group::PROCESSES).exists())
}

/// Returns where a mount is, if it is one of the whole tree of groups.
fn mounted(line: &str) -> Option<&str> {
    let (place, kind) = line.split_once(" - ")?;
    let mut fields = place.split(' ').skip(3);
    let (root, path) = (fields.next()?, fields.next()?);
    (kind.split(' ').next() == Some("cgroup2") && root == "/").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_their_whole_tree_is_mounted() {
        let of = |line: &str| mounted(line).map(str::to_owned);
        assert_eq!(
            of("29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"),
            Some("/sys/fs/cgroup".to_owned())
        );
        assert_eq!(of("29 22 0:26 /a/b /mnt rw - cgroup2 cgroup2 rw"), None);
        assert_eq!(of("29 22 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(of(""), None);
    }
}
