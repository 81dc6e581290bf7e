//! banger inside of a VM with systemd, as a user there: its VMs are in scopes of their own.
//!
//! The inner VMs have no machine (`banger-test-vmm`): what is tried is whose processes they are.

use std::path::Path;

use banger_core::store::Store as _;
use banger_store::SqliteStore;
use banger_testkit::{Environment, programs, seed, wait_until};

use crate::guest::{DEBIAN, small};

const VM: &str = "host";
/// Where banger is, inside.
const PLACE: &str = "/opt/banger";

/// A VM that is a host to banger.
struct Host {
    environment: Environment,
}

impl Host {
    fn new() -> Self {
        let environment = Environment::new();
        environment.succeed(&[&["vm", "create", VM], &small(&DEBIAN)[..]].concat());
        let host = Self { environment };
        host.root(&format!("install -d -o dev -g dev {PLACE}"));
        for program in ["banger", "bangerd", "banger-monitor", "banger-filter", "banger-tap", "banger-guest"]
        {
            host.copy(&programs().join(program), &format!("{PLACE}/{program}"));
        }
        host.copy(&programs().join("banger-test-vmm"), &format!("{PLACE}/qemu-system-x86_64"));
        host.install_data();
        host
    }

    /// Gives the user inside a kernel and an image. The fake VMM opens the kernel's modules and does not read them.
    fn install_data(&self) {
        let data = tempfile::tempdir().unwrap();
        let kernels = seed::directory().join("kernels");
        let kernel = std::fs::read_dir(&kernels).unwrap().next().unwrap().unwrap().file_name();
        let (from, to) = (kernels.join(&kernel), data.path().join("kernels").join(&kernel));
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            let name = entry.file_name();
            if name == "modules.ext4" {
                std::fs::write(to.join(name), "").unwrap();
            } else {
                std::fs::copy(entry.path(), to.join(name)).unwrap();
            }
        }
        std::fs::copy(seed::directory().join("banger.db"), data.path().join("banger.db")).unwrap();
        let store = SqliteStore::open(&data.path().join("banger.db")).unwrap();
        for image in store.images().unwrap() {
            store.delete_image(&image.id).unwrap();
        }
        store.consolidate().unwrap();
        drop(store);
        self.dev("mkdir -p .local/share");
        self.copy(data.path(), ".local/share/banger");
        self.copy(&seed::directory().join("probe.tar"), "probe.tar");
        self.dev("chmod 700 .local/share/banger");
    }

    fn copy(&self, from: &Path, to: &str) {
        self.environment.succeed(&["cp", &from.display().to_string(), &format!("{VM}:{to}")]);
    }

    fn root(&self, script: &str) -> String {
        self.environment.succeed(&["exec", "-u", "root", VM, "--", "sh", "-c", script])
    }

    /// Runs a command line in a login session of the user's, with banger in its `PATH`.
    fn dev(&self, line: &str) -> String {
        let line = format!("PATH={PLACE}:$PATH; {line}");
        self.environment.succeed(&["ssh", VM, &line])
    }

    /// What is known inside of the VM there.
    fn inner(&self) -> serde_json::Value {
        serde_json::from_str(&self.dev("banger vm show inner --json")).unwrap()
    }
}

#[test]
fn vms_are_in_scopes_that_end_with_nobody_but_the_host() {
    let host = Host::new();
    host.dev("banger image pull tar:probe.tar --name probe");
    host.dev("banger daemon stop");
    // As it is installed: a service of the user's, whose end is the end of all its processes.
    host.dev(&format!(
        "systemd-run --user --quiet --unit=bangerd --setenv=PATH={PLACE}:$PATH {PLACE}/bangerd"
    ));
    let create = "banger vm create inner --image probe --memory 128M --vcpus 1 --net none";
    let said =
        host.dev(&format!("until banger daemon status >/dev/null 2>&1; do sleep 0.1; done; {create} 2>&1"));
    assert!(
        said.contains("warning: VMs end when you log out") && said.contains("loginctl enable-linger"),
        "{said}"
    );
    let id = host.dev("basename $(ls -d .local/share/banger/vms/*)");
    let unit = format!("banger-vm-{}.scope", id.trim());
    assert_eq!(host.dev(&format!("systemctl --user is-active {unit}")), "active\n");
    let pid = &host.inner()["vmm_pid"];
    let group = host.dev(&format!("cat /proc/{pid}/cgroup"));
    assert!(group.trim_end().ends_with(&unit), "{group}");

    // What all of it may take together; the guest has 128 MiB.
    let limit = |file: &str| host.dev(&format!("cat /sys/fs/cgroup$(cut -d: -f3 /proc/{pid}/cgroup)/{file}"));
    assert_eq!(limit("memory.max").trim(), ((128 + 16 + 1536_u64) << 20).to_string());
    assert_eq!(limit("pids.max").trim(), "512");

    // The daemon's service goes, with everything that is in it; the VM is not.
    host.dev("systemctl --user stop bangerd");
    host.dev(&format!("test -d /proc/{pid}"));
    assert_eq!(&host.inner()["vmm_pid"], pid);

    // A host that goes down ends every unit: the guest gets the time to end in order.
    host.dev(&format!("systemctl --user stop {unit}"));
    wait_until(|| host.inner()["state"].to_string(), |state| state == "\"stopped\"");
    let shown = host.inner();
    assert!(shown.to_string().contains("the host was going down"), "{shown:#}");
    let log = host.dev("banger vm logs --monitor inner");
    assert!(log.contains("SIGTERM") && !log.contains("killed"), "{log}");

    host.root("loginctl enable-linger dev");
    host.dev("banger daemon restart && banger vm rm --yes inner");
    let said = host.dev(&format!("{create} 2>&1"));
    assert!(!said.contains("log out"), "{said}");
}
