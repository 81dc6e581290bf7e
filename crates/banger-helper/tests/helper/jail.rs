//! VMMs in jails: in the place of one there is a program that says what it sees.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use banger_testkit::programs;
use banger_types::VmId;
use banger_types::helper::{JailTerms, RUN_VMM, VmJail, VmTerms};
use banger_types::size::Mebibytes;

use crate::host::{ALICE, BOB, Host, terms};

const ALICES: u32 = 1001;

/// A VM's directory as its owner's daemon makes it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        let (jail, elsewhere) = (directory.path("jail"), directory.path("elsewhere"));
        std::fs::create_dir_all(jail.join("run")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::copy(programs().join("banger-test-probe"), elsewhere.join("firecracker")).unwrap();
        std::fs::write(elsewhere.join("base.ext4"), "the image").unwrap();
        symlink(elsewhere.join("firecracker"), jail.join("vmm")).unwrap();
        symlink(elsewhere.join("base.ext4"), jail.join("base")).unwrap();
        std::fs::write(jail.join("machine.json"), "{}").unwrap();
        std::fs::write(jail.join("disk"), "the disk").unwrap();
        let mut own = Command::new("chown");
        assert!(own.args(["-hR", "1001:1001"]).arg(directory.0.path()).status().unwrap().success());
        for (path, mode) in
            [("jail", 0o700), ("elsewhere", 0o700), ("elsewhere/base.ext4", 0o600), ("jail/disk", 0o600)]
        {
            std::fs::set_permissions(directory.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        directory
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

/// Returns a host with control groups of the second version, or says that the test is not run.
fn host(test: &str) -> Option<Host> {
    let host = Host::new(test)?;
    if !host.outcome("mount -t cgroup2 none /sys/fs/cgroup").status.success() {
        banger_testkit::not_run(test, "there are no control groups of the second version");
        return None;
    }
    Some(host)
}

fn jail(host: &Host, vm: u64) -> VmJail {
    let jail = JailTerms { memory: Mebibytes(256), processors: 2, tasks: 64 };
    host.place_as(ALICE, VmTerms { jail: Some(jail), ..terms(vm, "web") }).jail.unwrap()
}

/// Returns the helper that becomes a VMM, as sudo starts it for this user in a VM's directory.
fn vmm(host: &Host, uid: &str, directory: &Path, vm: &str) -> Command {
    let mut command = host.0.command("sh");
    command.args(["-c", "cd \"$0\" && exec \"$@\""]).arg(directory);
    command.args([env!("CARGO_BIN_EXE_banger-helper"), RUN_VMM, vm]);
    command.env_clear().env("PATH", "/usr/bin").env("SUDO_UID", uid).env("SUDO_GID", uid);
    command
}

/// Starts it and returns what it says until it waits.
fn start(command: &mut Command) -> (Child, Vec<String>) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let said: Vec<String> = output.lines().map(Result::unwrap).take_while(|line| line != "waiting").collect();
    if said.is_empty() {
        let error = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        panic!("{error}");
    }
    (child, said)
}

#[test]
fn a_vmm_is_nobody_and_sees_nothing_but_what_it_needs() {
    let Some(host) = host("a_vmm_is_nobody_and_sees_nothing") else { return };
    let before = host.state();
    let (directory, id) = (Directory::new(), VmId::from_random(0x7a11));
    let jail = jail(&host, 0x7a11);
    let (mut child, said) = start(&mut vmm(&host, ALICE, directory.0.path(), id.as_str()));
    let uid = jail.uid;
    let expected = [
        format!("ids: {uid} {uid} 0"),
        "capabilities: CapabilitySet(0x0)".to_owned(),
        "root: base dev disk machine.json run vmm".to_owned(),
        "base: the image".to_owned(),
        "write base: read-only filesystem or storage medium".to_owned(),
        "write machine.json: read-only filesystem or storage medium".to_owned(),
        "write root: permission denied".to_owned(),
        "write disk: written".to_owned(),
        format!("disk's owner: {uid}"),
        format!("kvm's owner: {uid}"),
        "socket: made".to_owned(),
    ];
    assert_eq!(said, expected);
    // Outside all is its owner's, as before, and so is what it has made.
    assert_eq!(std::fs::read_to_string(directory.path("jail/disk")).unwrap(), "writtenk");
    for (path, mode) in [("jail/disk", 0o600), ("jail/run/api.sock", 0), ("elsewhere/base.ext4", 0o600)] {
        let metadata = std::fs::metadata(directory.path(path)).unwrap();
        assert_eq!(metadata.uid(), ALICES, "{path}");
        assert!(mode == 0 || metadata.mode() & 0o777 == mode, "{path}");
    }
    // Its group is limited as far as this host divides things, and its owner can end what is in it; nobody else can.
    let group = jail.control_group.to_str().unwrap();
    let processes = host.run(&format!("cat {group}/cgroup.procs"));
    assert_eq!(processes.lines().count(), 2, "it, and who watches over it: {processes}");
    let end = |uid: &str| {
        let script = format!("echo 1 > {group}/cgroup.kill");
        let mut end = host.0.command("setpriv");
        end.args(["--reuid", uid, "--regid", uid, "--clear-groups", "sh", "-c", &script]);
        end.stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(!end(BOB) && child.try_wait().unwrap().is_none());
    assert!(end(ALICE));
    assert!(!child.wait().unwrap().success());
    // Once more, in the same jail; and it goes with the place, whatever is in it.
    std::fs::remove_file(directory.path("jail/run/api.sock")).unwrap();
    let (mut child, _) = start(&mut vmm(&host, ALICE, directory.0.path(), id.as_str()));
    host.remove(ALICE, &[0x7a11]);
    assert!(!child.wait().unwrap().success());
    assert!(host.outcome(&format!("ls {group}")).stdout.is_empty());
    assert_eq!(host.state(), before);
}

#[test]
fn a_vmm_ends_with_who_has_started_it() {
    let Some(host) = host("a_vmm_ends_with_who_has_started_it") else { return };
    let (directory, id) = (Directory::new(), VmId::from_random(0x7a12));
    let jail = jail(&host, 0x7a12);
    let (mut child, _) = start(&mut vmm(&host, ALICE, directory.0.path(), id.as_str()));
    // As the kernel does when a monitor dies.
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(host.run(&format!("cat {}/cgroup.procs", jail.control_group.display())), "");
    host.remove(ALICE, &[0x7a12]);
}

#[test]
fn nothing_is_shown_in_a_jail_that_its_caller_could_not_open() {
    let Some(host) = host("nothing_is_shown_in_a_jail") else { return };
    let id = VmId::from_random(0x7a13);
    let refused = |uid: &str, vm: &str, spoil: &dyn Fn(&Directory)| {
        let directory = Directory::new();
        spoil(&directory);
        let output = vmm(&host, uid, directory.0.path(), vm).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let nothing = |_: &Directory| {};
    assert!(refused(ALICE, id.as_str(), &nothing).contains("has no jail of this user's"));
    jail(&host, 0x7a13);
    assert!(refused(BOB, id.as_str(), &nothing).contains("has no jail of this user's"), "another's");
    for name in ["", "../../etc", "--help", "000000007a13 "] {
        assert!(refused(ALICE, name, &nothing).contains("the VMM of one VM, by its id"), "{name}");
    }
    // What only root could open: a file, a directory on the way, a device.
    let secret = tempfile::NamedTempFile::new().unwrap();
    for target in [secret.path(), Path::new("/etc/shadow"), Path::new("/dev/kvm"), Path::new("/dev/null")] {
        for name in ["base", "disk", "vmm", "machine.json"] {
            let said = refused(ALICE, id.as_str(), &|directory| {
                let place = directory.path("jail").join(name);
                std::fs::remove_file(&place).unwrap();
                symlink(target, place).unwrap();
            });
            let expected = ["Permission denied", "is neither a file nor a link to one"];
            assert!(expected.iter().any(|words| said.contains(words)), "{}: {said}", target.display());
        }
    }
    // A pipe, on which whoever opens it waits; a link for a directory; a directory that others could fill.
    let fifo = |directory: &Directory| {
        std::fs::remove_file(directory.path("jail/disk")).unwrap();
        assert!(Command::new("mkfifo").arg(directory.path("jail/disk")).status().unwrap().success());
        chown(directory.path("jail/disk"), Some(ALICES), Some(ALICES)).unwrap();
    };
    assert!(refused(ALICE, id.as_str(), &fifo).contains("is neither a file nor a link to one"));
    let link = |directory: &Directory| {
        std::fs::remove_dir(directory.path("jail/run")).unwrap();
        symlink("/etc", directory.path("jail/run")).unwrap();
    };
    assert!(refused(ALICE, id.as_str(), &link).contains("cannot open"));
    let open = |directory: &Directory| {
        std::fs::set_permissions(directory.path("jail"), std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    assert!(refused(ALICE, id.as_str(), &open).contains("is not its caller's alone"));
    host.remove(ALICE, &[0x7a13]);
}
