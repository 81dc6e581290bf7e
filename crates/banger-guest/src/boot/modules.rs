//! Kernel modules of the initramfs: just those that are needed to mount the root.

use std::fs::{self, File};
use std::path::Path;

use banger_types::guest::ModulePurpose;
use rustix::io::Errno;

use super::BootError;
use crate::virtio::Device;

/// Where the initramfs keeps them, with their `list`.
pub(super) const DIRECTORY: &str = "/modules";

/// Loads what the root and the control channel need.
pub(super) fn load_for_root() -> Result<(), BootError> {
    load_all(ModulePurpose::Root)?;
    // The bus is up now, and says what else there is.
    for (device, purpose) in
        [(Device::Console, ModulePurpose::Console), (Device::Socket, ModulePurpose::Socket)]
    {
        if device.is_there() {
            load_all(purpose)?;
        }
    }
    Ok(())
}

/// Loads every module of the list that is for `purpose`; what is not needed takes time, 0.1 to 0.2 s for an emulated
/// processor's network card. A module that is there already, or built in, is fine.
pub(super) fn load_all(purpose: ModulePurpose) -> Result<(), BootError> {
    let directory = Path::new(DIRECTORY);
    let list = directory.join("list");
    let lines = fs::read_to_string(&list).map_err(|source| BootError::File {
        action: "read",
        path: list.clone(),
        source,
    })?;
    let entries = lines.lines().filter_map(|line| line.split_once(' '));
    let mut failed = Ok(());
    // All of them, whatever becomes of one: others may do without it.
    for (name, _) in entries.filter(|(_, named)| ModulePurpose::from_name(named) == Some(purpose)) {
        let loaded = load(&directory.join(name));
        let loaded = loaded.map_err(|source| BootError::Module { name: name.to_owned(), source });
        failed = failed.and(loaded);
    }
    failed
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
