//! Root file systems and kernels of the user's own, used where they are. What is in them a guest says that is not there:
//! see `vm/registered.rs` for real ones.

use std::path::{Path, PathBuf};

use banger_testkit::Environment;
use banger_types::ErrorKind;
use banger_types::operation::OperationStatus;
use serde_json::json;

use crate::support::{Daemon, SMALL, assert_left, assert_says, names, refuse};

/// What the seed has.
const SEED: (usize, usize) = (3, 1);

/// An environment, and files of a user's.
struct Own {
    environment: Environment,
    files: tempfile::TempDir,
}

impl Own {
    fn new() -> Self {
        Self { environment: Environment::with_fake_vmm(), files: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file that is a kernel by its first bytes.
    fn kernel(&self) -> PathBuf {
        self.write("vmlinux", b"\x7fELF and so on")
    }

    fn register(&self, rootfs: &Path, more: &[&str]) -> String {
        let typed = ["image", "register", "--rootfs", rootfs.to_str().unwrap()];
        self.environment.succeed(&[&typed[..], more].concat())
    }

    fn refused(&self, code: i32, rootfs: &Path, more: &[&str]) -> String {
        let typed = ["image", "register", "--rootfs", rootfs.to_str().unwrap()];
        let said = refuse(&self.environment, code, &[&typed[..], more].concat());
        assert_left(&self.environment, 0, SEED.0, SEED.1);
        said
    }

    fn create(&self, name: &str, image: &str, more: &[&str]) {
        let small = &SMALL[2..];
        self.environment.succeed(&[&["vm", "create", name, "--image", image], small, more].concat());
    }

    fn shown(&self, noun: &str, name: &str) -> serde_json::Value {
        self.environment.run(&[noun, "show", name, "--json"]).json()
    }
}

#[test]
fn a_root_file_system_is_used_where_it_is() {
    let own = Own::new();
    let rootfs = own.write("my root, 1.ext4", &[7; 4096]);
    assert_eq!(own.register(&rootfs, &[]), "my root, 1\n");
    let image = own.shown("image", "my root, 1");
    assert_eq!(image["source"], rootfs.to_str().unwrap());
    assert_eq!(image["registered"]["found"]["init"], "/sbin/init");
    assert_eq!((&image["digest"], &image["size"]), (&json!(null), &json!(4096)));
    // Nothing of it is in the store.
    assert_left(&own.environment, 0, SEED.0, SEED.1);

    own.create("web", "my root, 1", &[]);
    let directory = PathBuf::from(own.environment.vm("web")["directory"].as_str().unwrap());
    let launch = std::fs::read_to_string(directory.join("launch.json")).unwrap();
    let drive = format!("{},readonly=on", rootfs.to_str().unwrap().replace(',', ",,"));
    assert!(launch.contains(&drive), "{launch}");
    own.environment.succeed(&["vm", "stop", "web"]);

    // Gone: told of, and nothing else is the worse for it.
    let elsewhere = rootfs.with_extension("elsewhere");
    std::fs::rename(&rootfs, &elsewhere).unwrap();
    let listed = own.environment.succeed(&["image", "ls"]);
    assert!(listed.contains(&format!("'{}' is not there", rootfs.display())), "{listed}");
    let refused = refuse(&own.environment, 1, &["vm", "start", "web"]);
    assert!(refused.contains("is not there") && refused.contains("put it back"), "{refused}");
    own.create("other", "probe", &[]);
    std::fs::rename(&elsewhere, &rootfs).unwrap();
    own.environment.succeed(&["vm", "start", "web"]);
    assert_eq!(own.shown("image", "my root, 1")["problem"], json!(null));
    own.environment.succeed(&["vm", "stop", "web"]);

    // Another one: told of to whoever starts a VM from it.
    std::fs::write(&rootfs, [8; 8192]).unwrap();
    let started = own.environment.run(&["vm", "start", "web"]);
    assert_eq!(started.code, 0, "{}", started.stderr);
    assert!(started.stderr.contains("has changed since it was registered"), "{}", started.stderr);

    own.environment.succeed(&["vm", "rm", "-f", "web", "other"]);
    own.environment.succeed(&["image", "rm", "-y", "my root, 1"]);
    assert_eq!(std::fs::read(&rootfs).unwrap(), [8; 8192], "it is the user's");
}

#[test]
fn a_kernel_that_comes_with_it_is_what_its_vms_boot() {
    let own = Own::new();
    let (rootfs, kernel) = (own.write("root.ext4", &[7; 4096]), own.kernel());
    let with_kernel = ["--name", "mine", "--kernel", kernel.to_str().unwrap()];
    own.register(&rootfs, &with_kernel);
    let shown = own.shown("kernel", "mine");
    assert_eq!(shown["source"], kernel.to_str().unwrap());
    assert_eq!(shown["release"], "6.1.0-fake", "as the guest says");
    own.create("web", "mine", &[]);
    assert_eq!(own.environment.vm("web")["spec"]["kernel"], shown["id"]);
    own.create("other", "mine", &["--kernel", "debian"]);
    assert_eq!(own.environment.vm("other")["spec"]["kernel_name"], "debian");
    let in_use = refuse(&own.environment, 4, &["kernel", "rm", "-y", "mine"]);
    assert!(in_use.contains("in use by web"), "{in_use}");
    own.environment.succeed(&["vm", "rm", "-f", "web", "other"]);
    let in_use = refuse(&own.environment, 4, &["kernel", "rm", "-y", "mine"]);
    assert!(in_use.contains("in use by mine"), "{in_use}");

    // Anew: VMs keep what they were made from.
    own.create("kept", "mine", &["--no-start"]);
    own.register(&rootfs, &with_kernel);
    let images = own.environment.succeed(&["image", "ls", "-q"]);
    assert_eq!(images.lines().filter(|name| name.starts_with("mine")).count(), 2, "{images}");
    assert_eq!(own.environment.vm("kept")["spec"]["kernel"], shown["id"]);
    let before = format!("mine@{}", shown["id"].as_str().unwrap());
    assert_eq!(own.shown("kernel", &before)["id"], shown["id"]);

    // A new build of the kernel is taken in by whoever makes a VM.
    std::fs::write(&kernel, b"\x7fELF and so on, newer").unwrap();
    assert!(own.shown("kernel", "mine")["problem"].as_str().unwrap().contains("has changed"));
    own.create("newer", "mine", &[]);
    let now = own.shown("kernel", "mine");
    assert_eq!((&now["problem"], &now["release"]), (&json!(null), &json!("6.1.0-fake")));
    own.environment.succeed(&["vm", "stop", "newer"]);
    std::fs::write(&kernel, b"\x7fELF and so on, newest").unwrap();
    let refused = refuse(&own.environment, 1, &["vm", "start", "newer"]);
    assert!(refused.contains("has changed") && refused.contains("`banger kernel pull 'mine'`"), "{refused}");
    own.environment.succeed(&["kernel", "pull", "mine"]);
    own.environment.succeed(&["vm", "start", "newer"]);
    own.environment.succeed(&["vm", "stop", "newer"]);
    std::fs::remove_file(&kernel).unwrap();
    let again = own.environment.run(&["kernel", "pull", "mine"]);
    assert!(again.code == 3 && again.stderr.contains("`banger image register`"), "{}", again.stderr);
    let refused = refuse(&own.environment, 1, &["vm", "start", "newer"]);
    assert!(refused.contains("the kernel 'mine'") && refused.contains("is not there"), "{refused}");

    own.environment.succeed(&["vm", "rm", "-f", "kept", "newer"]);
    for image in images.lines().filter(|name| name.starts_with("mine")) {
        own.environment.succeed(&["image", "rm", "-y", image]);
    }
    assert_left(&own.environment, 0, SEED.0, SEED.1);
}

#[test]
fn what_no_vm_could_be_made_from_is_refused_and_leaves_nothing() {
    let own = Own::new();
    let rootfs = own.write("root.ext4", &[7; 4096]);
    let (kernel, text) = (own.kernel(), own.write("notes.txt", b"hello"));
    let (kernel, text) = (kernel.to_str().unwrap(), text.to_str().unwrap());
    assert!(own.refused(3, &rootfs.with_extension("gone"), &[]).contains("No such file"));
    assert!(own.refused(2, own.files.path(), &[]).contains("is no regular file"));
    assert!(own.refused(2, &own.write("empty", b""), &[]).contains("is empty"));
    assert!(own.refused(1, &rootfs, &["--kernel", text]).contains("is no kernel that a VM can boot"));
    let initrd = own.refused(1, &rootfs, &["--kernel", kernel, "--initrd", text]);
    assert!(initrd.contains("no cpio archive"), "{initrd}");
    let taken = own.refused(4, &rootfs, &["--kernel", kernel, "--name", "debian"]);
    assert!(taken.contains("the name 'debian' is taken"), "{taken}");

    let inspection = |features: &[&str], root: serde_json::Value| {
        let features = [&["block"], features].concat();
        let said = json!({"kernel_release": "6.1", "features": features, "root": root});
        own.environment.behave(&json!({"inspection": said}));
    };
    let root = json!({"Ok": {"file_system": "erofs", "partition": 2, "unclean": true, "init": null, "systemd": false}});
    inspection(&["overlay", "ext4", "console"], json!({"Err": "it is a picture"}));
    let picture = own.refused(1, &rootfs, &[]);
    assert!(picture.contains("no root file system in") && picture.contains("it is a picture"), "{picture}");
    inspection(&["ext4", "console"], root.clone());
    let lacks = own.refused(1, &rootfs, &["--kernel", kernel]);
    assert!(lacks.contains("the kernel 6.1 has no overlayfs") && lacks.contains("--initrd"), "{lacks}");
    own.environment
        .behave(&json!({"console": ["Kernel panic - not syncing: no working init"], "exit_at_boot": 0}));
    let panics = own.refused(1, &rootfs, &["--kernel", kernel]);
    assert!(panics.contains("ends after 'Kernel panic - not syncing: no working init'"), "{panics}");

    // What is odd is said, and is no obstacle.
    inspection(&["overlay", "ext4", "console", "erofs"], root);
    let typed = ["image", "register", "--rootfs", rootfs.to_str().unwrap(), "--kernel", kernel];
    let registered = own.environment.run(&typed);
    assert_eq!(registered.code, 0, "{}", registered.stderr);
    for warning in ["no vsock", "no network", "was not unmounted", "neither an init nor a shell"] {
        assert!(registered.stderr.contains(warning), "{warning}: {}", registered.stderr);
    }
    let refused = own.environment.run(&["vm", "create", "lonely", "--image", "root", "--net", "user"]);
    assert!(refused.code == 6 && refused.stderr.contains("no virtio-net"), "{}", refused.stderr);
    own.environment.succeed(&["image", "rm", "-y", "root"]);

    // One that QEMU's guests could not be spoken to by is not tried.
    let root = json!({"Ok": {"file_system": "ext4", "partition": null, "unclean": false, "init": null, "systemd": false}});
    inspection(&["overlay", "ext4", "socket"], root);
    own.register(&rootfs, &["--kernel", kernel]);
    let typed = [&["vm", "create", "mute", "--image", "root"], &SMALL[2..], &["--engine", "qemu"]].concat();
    let refused = own.environment.run(&typed);
    assert!(
        refused.code == 6 && refused.stderr.contains("its kernel has no virtio-console"),
        "{}",
        refused.stderr
    );
    own.environment.succeed(&["image", "rm", "-y", "root"]);
}

#[test]
fn a_registration_is_cancelled_while_a_kernel_looks() {
    let files = tempfile::tempdir().unwrap();
    let daemon = Daemon::new();
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("root.ext4"), [7; 4096]).unwrap();
    std::fs::write(path("vmlinux"), b"\x7fELF").unwrap();
    daemon.environment.behave(&json!({"silent": true}));
    let request = |rootfs: PathBuf, kernel| banger_api::request::RegisterRequest {
        rootfs,
        kernel,
        initrd: None,
        name: None,
    };
    let asked = request(path("root.ext4"), Some(path("vmlinux")));
    let operation = daemon.call(daemon.client.register_image(&asked)).unwrap();
    daemon.reach(&operation, "image: let a kernel look at it");
    let ended = daemon.finish(daemon.client.cancel_operation(operation.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    assert_left(&daemon.environment, 0, SEED.0, SEED.1);
    assert_eq!(names(&daemon.environment.data().join("templates")), Vec::<String>::new());
    let relative = daemon.refused(daemon.client.register_image(&request("root.ext4".into(), None)));
    assert_says(&relative, ErrorKind::Usage, "is relative");
}
