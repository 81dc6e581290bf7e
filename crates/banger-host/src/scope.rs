//! Scopes of systemd, so that a VM does not end with whatever started the daemon.
//!
//! A service's processes end with it (`systemd.kill(5)`), and a login session's may end with the session. A monitor
//! in a scope of its own belongs to neither: `systemd-run --scope` asks systemd for one, and then *becomes* the
//! program (`systemd-run(1)`), so that pipes and the process id stay what they are.

use std::path::{Path, PathBuf};

use banger_types::size::Mebibytes;

/// The program.
const PROGRAM: &str = "systemd-run";

/// What a VM may take of its host, with all its processes, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The guest's memory.
    pub memory: Mebibytes,
    /// The guest's virtual CPUs.
    pub vcpus: u32,
}

/// What a VMM and its helpers need beside the guest's memory, MiB: an emulator's translations alone take one GiB.
const BESIDE_MEMORY: u64 = 1536;
/// Most threads and processes: a VMM has as many as disks are asked for at once, a filter as names.
const MOST_TASKS: u32 = 512;

impl Allowance {
    /// Returns the limits as systemd has them (`systemd.resource-control(5)`).
    fn properties(self) -> [String; 3] {
        let memory = self.memory.0 + self.memory.0 / 8 + BESIDE_MEMORY;
        // The guest's processors, and one for what is done for them.
        let quota = u64::from(self.vcpus + 1) * 100;
        [format!("MemoryMax={memory}M"), format!("TasksMax={MOST_TASKS}"), format!("CPUQuota={quota}%")]
    }
}

/// What there is of systemd for this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scopes {
    program: PathBuf,
    /// The user's own manager; else the system's, which is root's.
    of_user: bool,
    /// Whether the user's manager, and with it every scope, ends when the user logs out.
    ends_at_logout: bool,
}

/// What decides it.
pub(crate) struct Surroundings<'a> {
    pub(crate) is_root: bool,
    /// The user's name, if it is known.
    pub(crate) user: Option<&'a str>,
    /// `$XDG_RUNTIME_DIR`.
    pub(crate) runtime: Option<&'a Path>,
    /// The host's root; only tests have another.
    pub(crate) root: &'a Path,
    pub(crate) find: &'a dyn Fn(&str) -> Option<PathBuf>,
}

impl Scopes {
    /// Returns how to get scopes, or `None` where there is no systemd that would give any.
    pub(crate) fn find(surroundings: &Surroundings<'_>) -> Option<Self> {
        // systemd is process 1 where this is (`sd_booted(3)`).
        if !surroundings.root.join("run/systemd/system").is_dir() {
            return None;
        }
        let program = (surroundings.find)(PROGRAM)?;
        if surroundings.is_root {
            return Some(Self { program, of_user: false, ends_at_logout: false });
        }
        // The private socket of the user's own manager.
        let manager = surroundings.runtime?.join("systemd/private");
        if !manager.exists() {
            return None;
        }
        let lingers = surroundings
            .user
            .is_some_and(|user| surroundings.root.join("var/lib/systemd/linger").join(user).exists());
        Some(Self { program, of_user: true, ends_at_logout: !lingers })
    }

    /// Returns the program and the arguments that come before the monitor's own.
    pub(crate) fn command(&self, unit: &str, allowance: Allowance) -> (PathBuf, Vec<String>) {
        let mut arguments: Vec<String> = if self.of_user { vec!["--user".to_owned()] } else { Vec::new() };
        arguments.extend(["--scope", "--quiet", "--collect"].map(str::to_owned));
        arguments.extend([format!("--unit={unit}"), "--description=banger VM".to_owned()]);
        // A manager that has not been given a resource to divide does not know of its limit.
        arguments.extend(allowance.properties().map(|property| format!("--property={property}")));
        arguments.push("--".to_owned());
        (self.program.clone(), arguments)
    }

    /// Returns what the user should know.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        self.ends_at_logout.then_some(
            "VMs end when you log out of this host; to keep them: `loginctl enable-linger`, then restart them",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(is_root: bool, files: &[&str]) -> Option<Scopes> {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let runtime = root.path().join("run/user/1000");
        Scopes::find(&Surroundings {
            is_root,
            user: Some("dev"),
            runtime: Some(&runtime),
            root: root.path(),
            find: &|program| Some(PathBuf::from("/usr/bin").join(program)),
        })
    }

    const ALLOWANCE: Allowance = Allowance { memory: Mebibytes(2048), vcpus: 2 };
    const SYSTEMD: &str = "run/systemd/system/x";
    const MANAGER: &str = "run/user/1000/systemd/private";

    #[test]
    fn without_systemd_there_are_no_scopes() {
        assert_eq!(find(false, &[]), None);
        assert_eq!(find(true, &[]), None);
        assert_eq!(find(false, &[SYSTEMD]), None, "no manager of the user's");
    }

    #[test]
    fn a_users_scopes_are_its_managers_and_end_with_it_unless_it_lingers() {
        let scopes = find(false, &[SYSTEMD, MANAGER]).unwrap();
        assert!(scopes.warning().unwrap().contains("enable-linger"));
        let (program, arguments) = scopes.command("banger-vm-0123456789ab.scope", ALLOWANCE);
        assert_eq!(program, Path::new("/usr/bin/systemd-run"));
        assert_eq!(arguments.first().unwrap(), "--user");
        assert!(arguments.contains(&"--unit=banger-vm-0123456789ab.scope".to_owned()));
        assert_eq!(arguments.last().unwrap(), "--");
        for limit in ["MemoryMax=3840M", "TasksMax=512", "CPUQuota=300%"] {
            assert!(arguments.contains(&format!("--property={limit}")), "{limit}: {arguments:?}");
        }
        let lingering = find(false, &[SYSTEMD, MANAGER, "var/lib/systemd/linger/dev"]).unwrap();
        assert_eq!(lingering.warning(), None);
    }

    #[test]
    fn roots_scopes_are_the_systems() {
        let scopes = find(true, &[SYSTEMD]).unwrap();
        assert_eq!(scopes.warning(), None);
        assert!(!scopes.command("u", ALLOWANCE).1.contains(&"--user".to_owned()));
    }
}
