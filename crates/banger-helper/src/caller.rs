//! Who asks.

use crate::error::Refusal;

/// Nobody's group (Debian policy section 9.2.2).
pub(crate) const NO_GROUP: u32 = 65_534;

/// The user who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its number.
    pub(crate) uid: u32,
    /// The number of its group.
    pub(crate) gid: u32,
    /// What it is called in names of hosts.
    pub(crate) label: String,
}

impl Caller {
    /// Returns who has started this process by sudo, or root itself.
    pub(crate) fn of_this_process() -> Result<Self, Refusal> {
        if !rustix::process::geteuid().is_root() {
            return Err(Refusal::Caller("banger-helper is for root, and is run by sudo"));
        }
        if !rustix::process::getuid().is_root() {
            return Err(Refusal::Caller(
                "banger-helper is run by sudo, and has no bit that makes its caller root",
            ));
        }
        let variable = |name| std::env::var(name).ok();
        let [uid, gid, user] = ["SUDO_UID", "SUDO_GID", "SUDO_USER"].map(variable);
        Self::named(uid.as_deref(), gid.as_deref(), user.as_deref())
    }

    /// Returns the caller that sudo says, or root where sudo says nothing (sudo(8), "ENVIRONMENT": it sets both itself).
    fn named(uid: Option<&str>, gid: Option<&str>, user: Option<&str>) -> Result<Self, Refusal> {
        let Some(uid) = uid else { return Ok(Self { uid: 0, gid: 0, label: "root".to_owned() }) };
        let gid = gid.map_or(Ok(NO_GROUP), str::parse);
        let gid = gid.map_err(|_| Refusal::Caller("SUDO_GID is no number of a group"))?;
        let uid = uid.parse().map_err(|_| Refusal::Caller("SUDO_UID is no number of a user"))?;
        let label = user.filter(|user| is_label(user)).map_or_else(|| format!("uid{uid}"), str::to_owned);
        Ok(Self { uid, gid, label })
    }
}

/// Leaves the control group that this process was started in, which its caller may freeze (the kernel's `cgroup-v2`,
/// "cgroup.freeze") while it keeps everybody else waiting.
pub(crate) fn leave_control_group() {
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        // Where there is none, or another version of them, no user's group can be frozen.
        let _ = std::fs::write(format!("{root}/cgroup.procs"), "0");
    }
}

/// Whether a user's name may be part of a host's: a label of RFC 1123 section 2.1.
fn is_label(user: &str) -> bool {
    user.parse::<banger_types::VmName>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_says_who_asks() {
        let caller = |uid, user| Caller::named(uid, Some("100"), user).unwrap();
        let alice = Caller { uid: 1001, gid: 100, label: "alice".to_owned() };
        assert_eq!(caller(Some("1001"), Some("alice")), alice);
        assert_eq!(caller(None, None), Caller { uid: 0, gid: 0, label: "root".to_owned() });
        assert_eq!(Caller::named(Some("1001"), None, None).unwrap().gid, NO_GROUP);
        for user in [None, Some("Alice B"), Some("a;b"), Some("$(x)"), Some("a.b"), Some("")] {
            assert_eq!(caller(Some("1001"), user).label, "uid1001");
        }
        for uid in ["", "-1", "x", "4294967296", "1001 "] {
            assert!(Caller::named(Some(uid), Some("1"), Some("alice")).is_err(), "{uid}");
            assert!(Caller::named(Some("1"), Some(uid), Some("alice")).is_err(), "{uid}");
        }
    }
}
