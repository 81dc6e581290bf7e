//! Names that the host resolves: lines of hosts(5) that end with a mark. All others are somebody's, and stay byte by byte.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_types::VmId;
use banger_types::helper::{DOMAIN, Ipv4Block};
use rustix::fs::OFlags;

use crate::device;
use crate::error::Refusal;
use crate::state::State;

const HOSTS: &str = "/etc/hosts";
/// What our lines end with.
const MARK: &str = "# by banger";
/// Longest file that is changed, bytes.
const LONGEST: u64 = 4 << 20;

/// Makes the host resolve the names that there are, and no other of ours.
pub(crate) fn apply(state: &State) -> Result<(), Refusal> {
    apply_to(Path::new(HOSTS), state)
}

fn apply_to(path: &Path, state: &State) -> Result<(), Refusal> {
    let metadata = std::fs::symlink_metadata(path).map_err(Refusal::file("cannot look at", path))?;
    let named = state.users.values().flat_map(|user| user.vms.values()).next().is_some();
    if !metadata.is_file() && !named {
        // None of ours was ever written there.
        return Ok(());
    }
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(Refusal::Planted { path: path.to_owned(), why: "is no plain file of lines" });
    }
    let before = std::fs::read(path).map_err(Refusal::file("cannot read", path))?;
    let after = with_names(&before, state);
    if after == before {
        return Ok(());
    }
    replace(path, &metadata, &after).map_err(Refusal::file("cannot write", path))
}

/// Puts a file in the place of another, with its owner and mode: whoever reads it meanwhile reads one of the two.
fn replace(path: &Path, like: &std::fs::Metadata, content: &[u8]) -> std::io::Result<()> {
    let partial = partial(path);
    // What an earlier one left is root's own, for the directory is.
    std::fs::remove_file(&partial).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&partial)?;
    file.write_all(content)?;
    std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
    file.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o777))?;
    file.sync_all()?;
    std::fs::rename(&partial, path).or_else(|error| {
        std::fs::remove_file(&partial)?;
        // A file that is mounted there, as containers have it, can be written and not replaced.
        if error.kind() == std::io::ErrorKind::ResourceBusy {
            std::fs::write(path, content)
        } else {
            Err(error)
        }
    })
}

fn partial(path: &Path) -> PathBuf {
    let mut name = OsStr::from_bytes(b".").to_owned();
    name.push(path.file_name().unwrap_or_default());
    name.push(".banger");
    path.with_file_name(name)
}

/// Returns the file with the names that there are.
fn with_names(before: &[u8], state: &State) -> Vec<u8> {
    let is_ours = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).ends_with(MARK.as_bytes());
    let mut after: Vec<u8> = before
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !is_ours(line))
        .flatten()
        .copied()
        .collect();
    let names = lines(state);
    if !names.is_empty() && after.last().is_some_and(|byte| *byte != b'\n') {
        after.push(b'\n');
    }
    after.extend(names.bytes());
    after
}

/// Returns the addresses of a name of ours in a network, as everybody may read them. Nobody is told of another user's.
pub(crate) fn addresses(name: &str, block: Ipv4Block, v6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    addresses_in(&std::fs::read_to_string(HOSTS).unwrap_or_default(), name, block, v6)
}

fn addresses_in(text: &str, name: &str, block: Ipv4Block, v6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    let is_of_network = |address: &IpAddr| match address {
        IpAddr::V4(address) => block.contains(*address),
        IpAddr::V6(address) => v6.is_some_and(|first| address.to_bits() >> 64 == first.to_bits() >> 64),
    };
    let lines = text.lines().filter_map(|line| line.strip_suffix(MARK)?.trim_end().split_once(' '));
    let named = lines.filter(|(_, other)| *other == name);
    named.filter_map(|(address, _)| address.parse().ok()).filter(is_of_network).collect()
}

fn lines(state: &State) -> String {
    let mut lines = String::new();
    for user in state.users.values() {
        for vm in user.vms.values() {
            let v6 = device::address_v6(user, vm).map(IpAddr::from);
            for address in [IpAddr::from(vm.address)].into_iter().chain(v6) {
                lines.extend([&address.to_string(), " ", &vm.name, " ", MARK, "\n"]);
            }
        }
    }
    lines
}

/// Returns the name that a user's VM gets: its own below ours; with its owner's between where another VM has it, or with its own id, which
/// none of the same user's has.
pub(crate) fn name_for(state: &State, uid: u32, label: &str, id: &VmId, name: &str) -> String {
    let taken = |wanted: &String| {
        let vms = state.users.iter().flat_map(|(other, user)| user.vms.iter().map(move |vm| (*other, vm)));
        vms.filter(|(other, (other_id, _))| (*other, *other_id) != (uid, id))
            .any(|(_, (_, vm))| vm.name == *wanted)
    };
    let candidates = [format!("{name}.{DOMAIN}"), format!("{name}.{label}.{DOMAIN}")];
    let free = candidates.into_iter().find(|candidate| !taken(candidate));
    free.unwrap_or_else(|| format!("{name}.{id}.uid{uid}.{DOMAIN}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::state::{User, Vm};

    fn state(names: &[(u32, &str, u8)]) -> State {
        let mut state = State::default();
        for (uid, name, last) in names {
            let user = state.users.entry(*uid).or_insert_with(|| User {
                label: format!("user{uid}"),
                block: "10.213.0.0/24".parse().unwrap(),
                v6: Some("fd00::".parse().unwrap()),
                names: None,
                names_port: banger_names::NAME_PORT,
                told: [].into(),
                vms: [].into(),
            });
            let (address, name) = (Ipv4Addr::new(10, 213, 0, *last), (*name).to_owned());
            user.vms.insert(
                VmId::from_random((*last).into()),
                Vm { device: 1, address, allow_host: false, reaches_others: true, name, jail: None },
            );
        }
        state
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let others = b"127.0.0.1\tlocalhost\n# \xff not text\n\n10.0.0.1 printer # by bangers\n::1 ip6";
        std::fs::write(&path, others).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        apply_to(&path, &state(&[(1001, "web.banger", 2)])).unwrap();
        let expected =
            [&others[..], b"\n10.213.0.2 web.banger # by banger\nfd00::2 web.banger # by banger\n"].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        apply_to(&path, &state(&[(1001, "api.banger", 3)])).unwrap();
        apply_to(&path, &State::default()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [&others[..], b"\n"].concat());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("target"), directory.path().join("hosts"));
        std::fs::write(&target, "secret").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(apply_to(&path, &state(&[(1, "a.banger", 2)])), Err(Refusal::Planted { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        // Where it would write.
        std::os::unix::fs::symlink(&target, partial(&path)).unwrap();
        apply_to(&path, &state(&[(1, "a.banger", 2)])).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "secret");
        assert!(std::fs::read_to_string(&path).unwrap().contains("a.banger"));
    }

    #[test]
    fn a_name_is_known_in_its_own_network_alone() {
        let text = format!("127.0.0.1 localhost web.banger\n{}", lines(&state(&[(1001, "web.banger", 2)])));
        let ask = |name: &str, block: &str, v6: Option<&str>| -> Vec<String> {
            let (block, v6) = (block.parse().unwrap(), v6.map(|v6| v6.parse().unwrap()));
            addresses_in(&text, name, block, v6).iter().map(ToString::to_string).collect()
        };
        assert_eq!(ask("web.banger", "10.213.0.0/24", Some("fd00::")), ["10.213.0.2", "fd00::2"]);
        assert_eq!(ask("web.banger", "10.213.0.0/24", None), ["10.213.0.2"]);
        assert!(ask("web.banger", "10.213.1.0/24", Some("fd01::")).is_empty());
        assert!(ask("eb.banger", "10.213.0.0/24", None).is_empty());
    }

    #[test]
    fn who_comes_second_has_its_owner_in_its_name() {
        let others = state(&[(1002, "web.banger", 2), (1003, "web.alice.banger", 3)]);
        assert_eq!(name_for(&others, 1001, "alice", &VmId::from_random(9), "api"), "api.banger");
        assert_eq!(
            name_for(&others, 1001, "alice", &VmId::from_random(9), "web"),
            "web.000000000009.uid1001.banger"
        );
        assert_eq!(name_for(&others, 1001, "bob", &VmId::from_random(9), "web"), "web.bob.banger");
        assert_eq!(name_for(&others, 1002, "carol", &VmId::from_random(2), "web"), "web.banger", "its own");
        assert_eq!(
            name_for(&others, 1002, "carol", &VmId::from_random(9), "web"),
            "web.carol.banger",
            "another VM of the same user's"
        );
    }
}
