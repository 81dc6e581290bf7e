//! The disk that test hosts begin with, and copies of it.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::{IMAGE_NAME, NAME, PLACE, PROCESSORS, TestHost, User, create, emulated};
use crate::environment::Environment;
use crate::seed;

/// What a host has beside what every Debian image has.
const IMAGE: &str = "debian:bookworm+e2fsprogs+erofs-utils+fdisk+iproute2+nftables+passt+qemu-system-x86+squashfs-tools+strace+util-linux\
    +xz-utils+zstd";

/// Run once, as root, when its disk is made: a user who is nobody special, and a place for the seed.
const SETUP: &str = "set -e
    groupadd --force --system kvm
    useradd --create-home --shell /bin/bash --uid 1001 --groups kvm plain
    usermod --append --groups kvm dev
    mkdir -p /srv/banger/seed /srv/banger/programs /srv/banger/scratch
    chown plain: /srv/banger/seed /srv/banger/scratch";

/// A host's disk at one moment.
#[derive(Debug)]
pub struct Snapshot {
    disk: NamedTempFile,
}

impl TestHost {
    /// Keeps the host's disk as it is now. What runs in the host goes on.
    pub fn snapshot(&self) -> Snapshot {
        let disk = NamedTempFile::new_in(seed::scratch()).expect("make a file");
        self.succeed(User::Root, &["sync"]);
        // Nothing is written meanwhile; the file system is one that lost its power right after the sync.
        self.environment.succeed(&["vm", "pause", NAME]);
        copy_sparse(&self.disk(), disk.path());
        self.environment.succeed(&["vm", "resume", NAME]);
        Snapshot { disk }
    }

    /// Boots the host from its disk as it was at a snapshot. What has run in it since is lost.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.environment.succeed(&["vm", "kill", NAME]);
        self.boot_from(snapshot);
    }

    /// The same with a host that does not run.
    pub(super) fn boot_from(&self, snapshot: &Snapshot) {
        copy_sparse(snapshot.disk.path(), &self.disk());
        self.boot();
    }

    fn disk(&self) -> PathBuf {
        let vm = self.environment.vm(NAME);
        Path::new(vm["directory"].as_str().expect("a VM's directory")).join("disk.ext4")
    }

    /// Gives a host that has not booted yet the disk that hosts begin with.
    pub(super) fn take_disk(&self, prepared: &Path) {
        copy_sparse(&prepared.join("disk.ext4"), &self.disk());
    }

    /// Copies the kernel, the images and the database into the host.
    fn take_seed(&self, seed: &Path) {
        let mut tar = Command::new("tar")
            .args(["--create", "--sparse", "--file=-", "--directory"])
            .arg(seed)
            .args(["banger.db", "images", "kernels", "busybox.tar", "probe.tar"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tar");
        let place = format!("{PLACE}/seed");
        let extract = ["tar", "--extract", "--sparse", "--file=-", "--no-same-owner", "--directory", &place];
        let mut take = self.command(User::Plain, &extract);
        take.stdin(tar.stdout.take().expect("its output"));
        let taken = self.environment.outcome(&mut take);
        // Other tests link the same files meanwhile, which is a change to tar (its exit code 1) and none of their content.
        let code = tar.wait().expect("wait for tar").code();
        assert!(matches!(code, Some(0 | 1)), "tar ended with {code:?}");
        assert_eq!(taken.code, 0, "{}", taken.stderr);
    }
}

/// Returns the directory with the image and the disk that hosts begin with; makes it when it is not there.
pub(super) fn prepared() -> PathBuf {
    let seed = seed::directory();
    let mut hasher = DefaultHasher::new();
    for part in [IMAGE, SETUP, &seed.file_name().expect("a seed's name").to_string_lossy()] {
        hasher.write(part.as_bytes());
    }
    let place = seed::scratch().join(format!("host-{:016x}", hasher.finish()));
    let lock = File::create(seed::scratch().join("host.lock")).expect("make a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("take a lock");
    if !place.join("disk.ext4").exists() {
        make(&place, seed);
    }
    place
}

fn make(place: &Path, seed: &Path) {
    if place.exists() {
        std::fs::remove_dir_all(place).expect("take half a host away");
    }
    std::fs::create_dir_all(place).expect("make a host's directory");
    seed::plant(place);
    let environment = emulated(Environment::at(place.to_owned()));
    environment.succeed(&["image", "pull", IMAGE, "--name", IMAGE_NAME]);
    create(&environment, PROCESSORS, &[]);
    let host = TestHost { environment, boot_time: Duration::ZERO };
    host.succeed(User::Root, &["sh", "-c", SETUP]);
    host.take_seed(seed);
    host.environment.succeed(&["vm", "stop", NAME]);
    // Its name says that it is complete.
    let partial = place.join("partial.ext4");
    copy_sparse(&host.disk(), &partial);
    std::fs::rename(partial, place.join("disk.ext4")).expect("name the disk");
}

fn copy_sparse(from: &Path, to: &Path) {
    let copy = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(copy.expect("run cp").success(), "cannot copy {}", from.display());
}
