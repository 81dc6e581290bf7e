//! Images whose init is systemd: recognising them, and our unit in them.

use std::io;
use std::path::Path;

use super::root::RootDirectory;
use crate::path;

/// Where units live that are there for this boot only.
pub(super) const UNITS: &str = "/run/systemd/system";

/// Places where an image's init may be, in the order in which they are tried.
const CANDIDATES: [&str; 3] = ["/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"];

/// Returns the path to start when the image's init is systemd.
pub(super) fn find(root: &RootDirectory) -> Option<&'static str> {
    // An `/sbin/init` that is something else decides: systemd may be installed and not wanted.
    let first = CANDIDATES.into_iter().find_map(|path| Some((path, root.real_path(path).ok()?)))?;
    is_systemd(&first.1).then_some(first.0)
}

fn is_systemd(real_path: &Path) -> bool {
    real_path.ends_with("systemd/systemd")
}

/// Returns the unit of the agent.
///
/// - No default dependencies, and wanted by sysinit.target: it starts with the first units. It isn't stopped by
///   shutdown.target either, but lives until systemd, as its last act, ends all processes that are left: sessions work while
///   services stop, and the agent can then see in process 1's command line where it goes.
/// - `KillMode=process`: sessions live on when the agent is started anew.
/// - `OOMPolicy=continue`: one session's process that is killed for memory takes the others not with it.
/// - No limits: the sessions' programs are its children.
fn agent_unit() -> String {
    format!(
        "[Unit]\n\
         Description=banger guest agent and SSH server\n\
         DefaultDependencies=no\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={} agent\n\
         Restart=always\n\
         RestartSec=100ms\n\
         KillMode=process\n\
         OOMPolicy=continue\n\
         OOMScoreAdjust=-900\n\
         TasksMax=infinity\n\
         LimitNOFILE=1024:524288\n\
         IgnoreSIGPIPE=no\n\
         Delegate=yes\n",
        path::BINARY
    )
}

/// Returns the unit of the image's service (see [`crate::service`]).
///
/// - Wanted by basic.target, which every state but rescue comes through, whatever default target the image has; and after
///   it, so that the image's sockets, mounts and temporary files are there, and it is stopped before they go.
/// - `KillMode=mixed`: the stop signal is our process's to give to the program; what is left after the patience is killed.
/// - Our process ends with success only when there is nothing to run.
fn service_unit() -> String {
    format!(
        "[Unit]\n\
         Description=The image's entrypoint and command\n\
         After=basic.target network.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={} service\n\
         Restart=on-failure\n\
         RestartSec=1s\n\
         KillMode=mixed\n\
         TimeoutStopSec=10s\n\
         OOMPolicy=continue\n\
         TasksMax=infinity\n\
         LimitNOFILE=1024:524288\n\
         IgnoreSIGPIPE=no\n",
        path::BINARY
    )
}

/// Returns the unit of the console's shell.
///
/// - With the first units, so that it is there for a boot that hangs. The states for rescue have a shell of their own on the same line.
/// - Nothing prevents another start but that there is no line.
fn console_unit() -> String {
    format!(
        "[Unit]\n\
         Description=Shell on the serial line\n\
         DefaultDependencies=no\n\
         After=banger-guest.service\n\
         Before=rescue.service emergency.service\n\
         Conflicts=rescue.service emergency.service\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={} console\n\
         Restart=always\n\
         RestartSec=1s\n\
         RestartPreventExitStatus=0\n\
         SendSIGHUP=yes\n\
         OOMPolicy=continue\n\
         TasksMax=infinity\n\
         LimitNOFILE=1024:524288\n\
         IgnoreSIGPIPE=no\n",
        path::BINARY
    )
}

/// Writes our units, the service's if it is wanted, and masks what would wait for a device that only udev could announce.
pub(super) fn write_units(root: &RootDirectory, service: bool) -> io::Result<()> {
    root.write(format!("{UNITS}/banger-guest.service"), agent_unit().as_bytes(), 0o644)?;
    root.link(format!("{UNITS}/sysinit.target.wants/banger-guest.service"), "../banger-guest.service")?;
    root.write(format!("{UNITS}/banger-console.service"), console_unit().as_bytes(), 0o644)?;
    root.link(format!("{UNITS}/sysinit.target.wants/banger-console.service"), "../banger-console.service")?;
    if service {
        root.write(format!("{UNITS}/banger-service.service"), service_unit().as_bytes(), 0o644)?;
        root.link(format!("{UNITS}/basic.target.wants/banger-service.service"), "../banger-service.service")?;
    }
    // It would ask for a password, which most images do not have; and without udev in the image it is waited for for 90 s.
    root.link(format!("{UNITS}/serial-getty@ttyS0.service"), "/dev/null")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn image(files: &[&str], links: &[(&str, &str)]) -> Option<&'static str> {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for file in files {
            std::fs::write(at(file), "").unwrap();
        }
        for (path, target) in links {
            symlink(target, at(path)).unwrap();
        }
        find(&RootDirectory::open(directory.path().canonicalize().unwrap()).unwrap())
    }

    #[test]
    fn systemd_is_found_where_distributions_put_it() {
        let systemd = "usr/lib/systemd/systemd";
        let merged = [("lib", "usr/lib"), ("sbin", "usr/sbin"), ("usr/sbin/init", "../lib/systemd/systemd")];
        assert_eq!(image(&[systemd], &merged), Some("/sbin/init"));
        assert_eq!(
            image(&["lib/systemd/systemd"], &[("sbin/init", "/lib/systemd/systemd")]),
            Some("/sbin/init")
        );
        assert_eq!(image(&[systemd], &[]), Some("/usr/lib/systemd/systemd"));
    }

    #[test]
    fn another_init_or_none_is_not_systemd() {
        assert_eq!(image(&["bin/busybox"], &[("sbin/init", "../bin/busybox")]), None);
        assert_eq!(
            image(&["bin/busybox", "usr/lib/systemd/systemd"], &[("sbin/init", "/bin/busybox")]),
            None
        );
        assert_eq!(image(&["app"], &[]), None);
        assert_eq!(image(&[], &[("sbin/init", "../../../../lib/systemd/systemd")]), None);
    }

    #[test]
    fn units_start_the_binary_where_it_is() {
        assert!(agent_unit().contains("\nExecStart=/run/initramfs/banger-guest agent\n"));
        assert!(console_unit().contains("\nExecStart=/run/initramfs/banger-guest console\n"));
        assert!(service_unit().contains("\nExecStart=/run/initramfs/banger-guest service\n"));
    }

    #[test]
    fn the_service_has_a_unit_only_when_it_is_wanted() {
        for service in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let root = RootDirectory::open(directory.path().canonicalize().unwrap()).unwrap();
            write_units(&root, service).unwrap();
            assert!(root.has(format!("{UNITS}/sysinit.target.wants/banger-guest.service")));
            let wanted = format!("{UNITS}/basic.target.wants/banger-service.service");
            assert_eq!(root.resolve(&wanted, rustix::fs::OFlags::PATH).is_ok(), service);
        }
    }
}
