//! Kernel modules of the initramfs: just those that are needed to mount the root.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;

use super::BootError;

/// Where the initramfs keeps them, with `list`: one file name a line, in the order in which they must be loaded.
pub(super) const DIRECTORY: &str = "/modules";

/// Loads every module of the list. A module that is there already, or built in, is fine.
pub(super) fn load_all() -> Result<(), BootError> {
    let directory = Path::new(DIRECTORY);
    let list = directory.join("list");
    let names = fs::read_to_string(&list).map_err(|source| BootError::File {
        action: "read",
        path: list.clone(),
        source,
    })?;
    for name in names.lines().map(str::trim).filter(|line| !line.is_empty()) {
        load(&directory.join(name)).map_err(|source| BootError::Module { name: name.to_owned(), source })?;
    }
    Ok(())
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
