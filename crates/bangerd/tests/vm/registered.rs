//! Root file systems of the user's own, of every kind, and a kernel of the user's own: looked at by a real kernel, and booted.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_image::kernel::cpio::Archive;
use banger_testkit::{Environment, engine, seed};
use banger_types::location::variable;

const SMALL: [&str; 6] = ["--memory", "256M", "--vcpus", "1", "--net", "none"];

/// Every kernel is tried with KVM anew, which takes seconds where KVM opens and boots nothing: not what is tried here.
fn environment() -> Environment {
    let environment = Environment::new();
    if engine().is_some() { environment } else { environment.with_variable(variable::NO_KVM, "1") }
}

/// A tree of files like busybox's image, and places beside it.
struct Files {
    environment: Environment,
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { environment: environment(), directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(files.at("tree")).unwrap();
        let tar = seed::directory().join("busybox.tar");
        files.host("tar", &["-xf", tar.to_str().unwrap(), "-C", &files.text("tree")]);
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn host(&self, program: &str, arguments: &[&str]) {
        let ended = self.environment.outcome(self.environment.command(program).args(arguments));
        assert_eq!(ended.code, 0, "{program}: {} {}", ended.text(), ended.stderr);
    }

    fn ext4(&self, name: &str, tree: &str) -> PathBuf {
        let path = self.text(name);
        self.host("mke2fs", &["-q", "-t", "ext4", "-d", &self.text(tree), &path, "64M"]);
        self.at(name)
    }

    fn register(&self, name: &str, rootfs: &Path, more: &[&str]) -> serde_json::Value {
        let rootfs = rootfs.to_str().unwrap();
        let typed = ["image", "register", "--name", name, "--rootfs", rootfs];
        self.environment.succeed(&[&typed[..], more].concat());
        self.environment.run(&["image", "show", name, "--json"]).json()["registered"]["found"].clone()
    }

    fn refused(&self, rootfs: &Path, more: &[&str]) -> String {
        let typed = ["image", "register", "--name", "refused", "--rootfs", rootfs.to_str().unwrap()];
        let refused = self.environment.run(&[&typed[..], more].concat());
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        refused.stderr
    }

    /// Boots a VM from an image, writes in it, and boots it again. Returns what its root is mounted on.
    fn boot(&self, image: &str) -> String {
        self.environment.succeed(&[&["vm", "create", image, "--image", image], &SMALL[..]].concat());
        let run = |script: &str| {
            self.environment.succeed(&["exec", "-u", "root", image, "--", "/bin/busybox", "sh", "-c", script])
        };
        run("echo kept > /root/kept && rm /etc/passwd && sync");
        self.environment.succeed(&["vm", "restart", image]);
        assert_eq!(run("cat /root/kept; test -e /etc/passwd || echo gone"), "kept\ngone\n");
        let modules = run("ls /lib/modules/$(uname -r) 2>/dev/null | grep -x modules.dep || true");
        self.environment.succeed(&["vm", "rm", "-f", image]);
        modules
    }
}

fn digest(path: &Path) -> String {
    let sum = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(sum.stdout).unwrap()
}

#[test]
fn every_kind_of_file_system_is_found_booted_and_left_as_it_is() {
    let files = Files::new();
    let tree = files.text("tree");
    let ext4 = files.ext4("root.ext4", "tree");
    let (squashfs, erofs, raw) = (files.at("root.squashfs"), files.at("root.erofs"), files.at("disk.raw"));
    files.host("mksquashfs", &[&tree, squashfs.to_str().unwrap(), "-quiet", "-no-progress", "-comp", "zstd"]);
    files.host("mkfs.erofs", &["-zlz4", erofs.to_str().unwrap(), &tree]);
    partitioned(&files, &raw, &ext4);
    let kinds = [
        ("an-ext4", &ext4, "ext4", None),
        ("a-squashfs", &squashfs, "squashfs", None),
        ("an-erofs", &erofs, "erofs", None),
        ("a-raw-disk", &raw, "ext4", Some(2)),
    ];
    for (name, path, file_system, partition) in kinds {
        let before = digest(path);
        let found = files.register(name, path, &[]);
        assert_eq!(found["file_system"], file_system, "{found}");
        assert_eq!(
            found["partition"],
            partition.map_or(serde_json::Value::Null, |n: u32| n.into()),
            "{found}"
        );
        assert_eq!((&found["init"], &found["systemd"]), (&"/bin/sh".into(), &false.into()), "{found}");
        assert_eq!(files.boot(name), "modules.dep\n", "{name}: the kernel's modules are there");
        assert_eq!(digest(path), before, "{name}");
    }
}

/// A disk with a partition of something else, and then one with a root file system.
fn partitioned(files: &Files, disk: &Path, root: &Path) {
    let disk_text = disk.to_str().unwrap();
    std::fs::File::create(disk).unwrap().set_len(80 << 20).unwrap();
    let script = b"label: gpt\nstart=2048, size=8192, type=uefi\nstart=10240, size=131072, type=linux\n";
    let mut sfdisk = files.environment.command("sfdisk");
    let mut child = sfdisk.args(["-q", disk_text]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script).unwrap();
    assert!(child.wait().unwrap().success());
    let of = format!("of={disk_text}");
    let root = format!("if={}", root.display());
    files.host("dd", &[&root, &of, "bs=512", "seek=10240", "conv=notrunc,sparse", "status=none"]);
    // Not empty: an ext4 with somebody's documents on it.
    std::fs::create_dir(files.at("documents")).unwrap();
    std::fs::write(files.at("documents/letter.txt"), "Dear all").unwrap();
    files.host(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", &files.text("documents"), &files.text("small.ext4"), "4M"],
    );
    let small = format!("if={}", files.text("small.ext4"));
    files.host("dd", &[&small, &of, "bs=512", "seek=2048", "conv=notrunc,sparse", "status=none"]);
}

#[test]
fn what_is_no_root_file_system_is_refused() {
    let files = Files::new();
    let text = files.at("notes.txt");
    std::fs::write(&text, "hello\n".repeat(1000)).unwrap();
    let refused = files.refused(&text, &[]);
    assert!(refused.contains("mounts it neither as ext4 nor as squashfs or erofs"), "{refused}");
    std::fs::create_dir(files.at("documents")).unwrap();
    std::fs::write(files.at("documents/letter.txt"), "Dear all").unwrap();
    let refused = files.refused(&files.ext4("documents.ext4", "documents"), &[]);
    assert!(refused.contains("its ext4 has neither an init nor a shell"), "{refused}");
}

#[test]
fn a_file_system_that_was_not_unmounted_is_told_of_and_booted() {
    let files = Files::new();
    let path = files.ext4("root.ext4", "tree");
    // The flag says that the journal holds what was not written yet (Linux, Documentation/filesystems/ext4, "needs_recovery").
    files.host("debugfs", &["-w", "-R", "feature needs_recovery", path.to_str().unwrap()]);
    let before = digest(&path);
    assert_eq!(files.register("unclean", &path, &[])["unclean"], true);
    files.boot("unclean");
    assert_eq!(digest(&path), before);
}

#[test]
fn a_kernel_of_the_users_own_boots_with_modules_from_its_initramfs() {
    let files = Files::new();
    let rootfs = files.ext4("root.ext4", "tree");
    let kernels = seed::directory().join("kernels");
    let bundle = std::fs::read_dir(kernels).unwrap().next().unwrap().unwrap().path();
    let kernel = files.at("vmlinuz");
    std::fs::copy(bundle.join("vmlinuz"), &kernel).unwrap();
    let kernel = ["--kernel", kernel.to_str().unwrap()];
    // Its drivers are modules.
    let refused = files.refused(&rootfs, &kernel);
    assert!(
        refused.contains("the drive /dev/vda did not appear") && refused.contains("--initrd"),
        "{refused}"
    );

    let initrd = files.text("initrd.img");
    std::fs::write(&initrd, initramfs(&files, &bundle)).unwrap();
    files.register("mine", &rootfs, &[&kernel[..], &["--initrd", &initrd]].concat());
    std::fs::remove_file(&initrd).unwrap();
    assert_eq!(files.boot("mine"), "", "the image has none of its modules");
    let shown = files.environment.run(&["kernel", "show", "mine", "--json"]).json();
    let description = std::fs::read_to_string(bundle.join("kernel.json")).unwrap();
    assert!(description.contains(shown["release"].as_str().unwrap()), "{shown}");
}

/// What a distribution would make: all modules, packed one by one, and all that packed again.
fn initramfs(files: &Files, bundle: &Path) -> Vec<u8> {
    let release: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("kernel.json")).unwrap()).unwrap();
    let release = release["release"].as_str().unwrap();
    std::fs::create_dir(files.at("modules")).unwrap();
    let dump = format!("rdump / {}", files.text("modules"));
    files.host("debugfs", &["-R", &dump, bundle.join("modules.ext4").to_str().unwrap()]);
    let mut archive = Archive::new();
    let wanted = ["virtio", "vsock", "overlay", "failover", "squashfs", "crc", "ext4", "jbd2", "mbcache"];
    for path in walk(&files.at("modules")) {
        let name = path.strip_prefix(files.at("modules")).unwrap().to_str().unwrap().to_owned();
        let is_module = path.extension().is_some_and(|extension| extension == "ko");
        if is_module && !wanted.iter().any(|part| name.rsplit('/').next().unwrap().contains(part)) {
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        let place = format!("usr/lib/modules/{release}/{name}");
        archive = if is_module {
            archive.file(&format!("{place}.xz"), 0o644, &packed("xz", &content))
        } else if name == "modules.dep" {
            let text = String::from_utf8(content).unwrap().replace(".ko", ".ko.xz");
            archive.file(&place, 0o644, text.as_bytes())
        } else {
            archive.file(&place, 0o644, &content)
        };
    }
    let microcode = Archive::new().file("kernel/x86/microcode/GenuineIntel.bin", 0o644, &[7; 2048]).finish();
    [microcode, packed("zstd", &archive.finish())].concat()
}

fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(["-c", "-q", "-1"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
