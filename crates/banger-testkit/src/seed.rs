//! Kernel and images for tests: made once, for real, and then shared.
//!
//! They lie in the target directory under a key of the sources that make them, so that a change to
//! the image code never tests yesterday's images.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

use crate::archive::{busybox_archive, probe_archive};
use crate::environment::{Environment, programs};

/// The image with systemd, made of Debian's packages.
pub const DEBIAN: &str = "debian";
/// The image with nothing but busybox.
pub const BUSYBOX: &str = "busybox";
/// The image with a single static program and no shell.
pub const PROBE: &str = "probe";

/// Names a seed that was made elsewhere.
pub(crate) const VARIABLE: &str = "BANGER_TEST_SEED";
/// Names the directory where tests keep what lasts and what does not.
pub(crate) const SCRATCH_VARIABLE: &str = "BANGER_TEST_SCRATCH";

/// Returns the directory where tests keep what lasts and what does not.
pub fn scratch() -> PathBuf {
    if let Some(scratch) = std::env::var_os(SCRATCH_VARIABLE) {
        return PathBuf::from(scratch);
    }
    let target = programs().parent().and_then(Path::parent).map(Path::to_owned).expect("a target directory");
    let scratch = target.join("banger-tests");
    std::fs::create_dir_all(&scratch).expect("make a directory for tests");
    scratch
}

/// Returns the seed's data directory; makes it first when it is not there, which takes a minute.
pub fn directory() -> &'static Path {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    SEED.get_or_init(|| {
        if let Some(seed) = std::env::var_os(VARIABLE).map(PathBuf::from) {
            let lock = std::fs::File::create(seed.join("seed.lock")).expect("make a lock");
            flock(&lock, FlockOperation::LockExclusive).expect("take a lock");
            complete(&seed);
            return seed;
        }
        let seed = scratch().join(format!("seed-{:016x}", sources_key()));
        let lock = std::fs::File::create(scratch().join("seed.lock")).expect("make a lock");
        // Other test programs wait here until the first has made it.
        flock(&lock, FlockOperation::LockExclusive).expect("take a lock");
        if !seed.join("complete").exists() {
            make(&seed);
        }
        complete(&seed);
        seed
    })
}

fn make(seed: &Path) {
    if seed.exists() {
        std::fs::remove_dir_all(seed).expect("take half a seed away");
    }
    std::fs::create_dir_all(seed).expect("make a seed");
    let probe = programs().join("banger-test-probe");
    let (busybox_tar, probe_tar) = (seed.join("busybox.tar"), seed.join("probe.tar"));
    busybox_archive(&busybox_tar, &probe);
    probe_archive(&probe_tar, &probe);
    let environment = Environment::at(seed.to_owned());
    environment.succeed(&["kernel", "pull", "debian"]);
    environment.succeed(&["image", "pull", &format!("tar:{}", busybox_tar.display()), "--name", BUSYBOX]);
    environment.succeed(&["image", "pull", &format!("tar:{}", probe_tar.display()), "--name", PROBE]);
    environment.succeed(&["image", "pull", DEBIAN]);
    drop(environment);
    std::fs::write(seed.join("complete"), []).expect("finish a seed");
}

/// What the daemon knows of KVM, which costs it seconds to find out where it does not work.
const KVM: &str = "kvm.json";

/// Whether a seed's daemon has found out about KVM since the host was started.
fn is_of_this_boot(kvm: &Path) -> bool {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's id");
    std::fs::read_to_string(kvm).is_ok_and(|known| known.contains(boot_id.trim()))
}

/// Lets the daemon choose an engine, once for all tests.
fn complete(seed: &Path) {
    if is_of_this_boot(&seed.join(KVM)) {
        return;
    }
    let environment = Environment::at(seed.to_owned());
    environment.succeed(&["vm", "create", "chooser", "--image", PROBE, "--net", "none", "--no-start"]);
}

/// A key of every source that has a say in what a seed holds.
fn sources_key() -> u64 {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of crates");
    let mut files = Vec::new();
    for directory in ["banger-image/src", "banger-store/src", "banger-types/src", "bangerd/src/catalog"] {
        collect(&crates.join(directory), &mut files);
    }
    let single = ["src/archive.rs", "src/seed.rs", "src/bin/banger-test-probe.rs"];
    files.extend(single.map(|file| crates.join("banger-testkit").join(file)));
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        hasher.write(&std::fs::read(&file).expect("read a source"));
    }
    hasher.finish()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("list sources").flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Gives `home` the seed's images and kernels: the same files, under links of their own.
pub(crate) fn plant(home: &Path) {
    plant_by(home, |file, name| std::fs::hard_link(file, name));
}

/// The same on another file system: the links are symbolic.
pub(crate) fn plant_links(home: &Path) {
    plant_by(home, |file, name| std::os::unix::fs::symlink(file, name));
}

/// Makes a second name of a file.
pub(crate) type Link = fn(&Path, &Path) -> std::io::Result<()>;

fn plant_by(home: &Path, link: Link) {
    let seed = directory();
    link_tree(&seed.join("images"), &home.join("images"), link);
    link_tree(&seed.join("kernels"), &home.join("kernels"), link);
    for file in ["banger.db", KVM] {
        std::fs::copy(seed.join(file), home.join(file)).expect("copy what the daemon knows");
    }
}

pub(crate) fn link_tree(from: &Path, to: &Path, link: Link) {
    std::fs::create_dir_all(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("list a directory").flatten() {
        let (source, destination) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            link_tree(&source, &destination, link);
        } else {
            link(&source, &destination).expect("link a file");
        }
    }
}
