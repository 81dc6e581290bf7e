//! A guest that only gives blocks of its first drive back: the private disk of a VM that does not run.
//!
//! Whoever used the VM may have written anything to it: it is a kernel in a VM of its own that mounts it, as it would for that VM.

use std::fs::File;
use std::path::Path;

use banger_types::guest::{ModulePurpose, TRIMMED_PREFIX, drive};
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use super::filesystems::{make, mount_on};
use super::{BootError, devices, modules};
use crate::log;
use crate::trim::trim;

/// Where it is mounted.
const TARGET: &str = "/private";

/// Returns the line that the guest was asked for.
pub(super) fn words() -> String {
    let trimmed = trim_drive().map_err(|error| log::chain(&error));
    format!("{TRIMMED_PREFIX}{}", serde_json::to_string(&trimmed).unwrap_or_default())
}

fn trim_drive() -> Result<u64, BootError> {
    modules::load_all(ModulePurpose::Root)?;
    // The first drive, whose letter is that of an image elsewhere.
    devices::wait_for(&[drive::BASE])?;
    make(TARGET)?;
    mount_on(drive::BASE, Path::new(TARGET), "ext4", MountFlags::NOATIME, "noinit_itable")?;
    let error = |source| BootError::File { action: "trim", path: TARGET.into(), source };
    let trimmed = File::open(TARGET).and_then(trim).map_err(error);
    // With what its journal held written out.
    let unmounted = unmount(TARGET, UnmountFlags::empty()).map_err(|errno| error(errno.into()));
    trimmed.and_then(|bytes| unmounted.map(|()| bytes))
}
