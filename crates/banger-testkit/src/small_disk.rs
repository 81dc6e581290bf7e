//! A file system that is soon full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::not_run::not_run;

/// A small file system of its own. It goes with its mount, and that with this.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    /// Where it is, if that was made for it.
    directory: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// Mounts one; says so when that is not permitted.
    pub fn new(test: &str, size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a small disk");
        let at = directory.path().join("disk");
        std::fs::create_dir(&at).expect("a small disk");
        let mut disk = Self::at(test, &at, size)?;
        disk.directory = Some(directory);
        Some(disk)
    }

    /// Mounts one over a directory; says so when that is not permitted.
    pub fn at(test: &str, at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        let mounted = mounted.expect("a small disk");
        if !mounted.status.success() {
            not_run(test, &String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        Some(Self { at: at.to_owned(), directory: None })
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Lets nobody write to it any more, not even root.
    pub fn forbid(&self) {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.at).status();
        assert!(remounted.expect("a small disk").success());
    }

    /// Takes all the room but `left` bytes, until the result is dropped.
    pub fn fill(&self, left: u64) -> Ballast {
        let path = self.at.join("ballast");
        let mut file = File::create(&path).expect("a small disk");
        let free = || {
            let found = rustix::fs::statvfs(&self.at).expect("a small disk");
            found.f_bavail * found.f_frsize
        };
        while free() > left {
            let most = usize::try_from((free() - left).min(1 << 20)).expect("a small disk");
            // Others may be quicker: full is full.
            if file.write_all(&vec![1; most]).is_err() {
                break;
            }
        }
        // tmpfs counts roughly.
        while left == 0 && file.write_all(&[1; 4096]).is_ok() {}
        Ballast(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still runs may have its working directory there.
        Command::new("umount").arg("--lazy").arg(&self.at).status().expect("a small disk");
    }
}

/// What takes the room. It goes with this.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("a small disk");
    }
}
