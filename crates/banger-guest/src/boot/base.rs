//! The image's drive: where its root file system is, and of what kind.

use std::fs;
use std::path::{Path, PathBuf};

use banger_types::guest::{ModulePurpose, drive};
use banger_types::image::FileSystem;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use super::filesystems::mount_on;
use super::root::RootDirectory;
use super::{BootError, modules};

/// What a root file system has, one of them at least.
const ROOTS_ENTRIES: [&str; 6] = ["bin", "sbin", "usr/bin", "usr/sbin", "lib", "usr/lib"];

/// What was mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) file_system: FileSystem,
    /// Number of the partition, from 1; none if it is the whole drive.
    pub(super) partition: Option<u32>,
    /// Whether it was mounted without what its journal holds.
    pub(super) unclean: bool,
}

/// Mounts the image's root file system on `target`, read-only: the whole drive, else the first partition that looks like one.
pub(super) fn mount(target: &Path) -> Result<Base, BootError> {
    let whole = match mount_device(drive::BASE, target) {
        Ok((file_system, unclean)) => return Ok(Base { file_system, partition: None, unclean }),
        Err(error) => error,
    };
    for (number, device) in partitions() {
        let Ok((file_system, unclean)) = mount_device(&device, target) else { continue };
        if looks_like_root(target) {
            return Ok(Base { file_system, partition: Some(number), unclean });
        }
        let _ = unmount(target, UnmountFlags::DETACH);
    }
    Err(whole)
}

/// Whether what is mounted here has anything that a root file system has.
pub(super) fn looks_like_root(target: &Path) -> bool {
    RootDirectory::open(target).is_ok_and(|root| {
        super::inspection::init(&root).is_some() || ROOTS_ENTRIES.iter().any(|entry| root.has(entry))
    })
}

/// Mounts a device as whatever it is. Returns its kind, and whether its journal was left alone.
fn mount_device(device: &str, target: &Path) -> Result<(FileSystem, bool), BootError> {
    let mount = |file_system: FileSystem, options| {
        mount_on(device, target, file_system.name(), MountFlags::RDONLY, options)
    };
    let error = match mount(FileSystem::Ext4, "") {
        Ok(()) => return Ok((FileSystem::Ext4, false)),
        Err(error) => error,
    };
    // One that was not unmounted wants its journal replayed, which nobody may write here (ext4's `noload`).
    if mount(FileSystem::Ext4, "noload").is_ok() {
        return Ok((FileSystem::Ext4, true));
    }
    // Only those who need them pay for these modules. A kernel may have none of them.
    let _ = modules::load_all(ModulePurpose::Image);
    for file_system in [FileSystem::Squashfs, FileSystem::Erofs] {
        if mount(file_system, "").is_ok() {
            return Ok((file_system, false));
        }
    }
    // Of the reasons, the first kind's is the best: the others' may be that the kernel does not know them.
    Err(error)
}

/// Returns the drive's partitions, by number.
fn partitions() -> Vec<(u32, String)> {
    let name = drive::BASE.trim_start_matches("/dev/");
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name)).into_iter().flatten().flatten();
    let number = |path: PathBuf| fs::read_to_string(path.join("partition")).ok()?.trim().parse().ok();
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| number(entry.path()))
        .map(|n| (n, format!("{}{n}", drive::BASE)))
        .collect();
    found.sort();
    found
}
