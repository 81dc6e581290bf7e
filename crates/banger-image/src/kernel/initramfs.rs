//! The initramfs of a kernel bundle and a build of `banger-guest`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use super::cpio::Archive;
use super::{KernelError, RECIPE, describe, file, key};
use crate::publish::write_file;

/// How many archives stay in a bundle's directory: that of this build, and one more, which a daemon
/// that is just being replaced may be about to boot. VMs have names of their own for theirs.
const KEPT: usize = 2;
const PREFIX: &str = "initramfs-";
const SUFFIX: &str = ".cpio";
/// How often an archive may be removed by another build's daemon just after it was made.
const ATTEMPTS: usize = 5;

/// A build of `banger-guest`, hashed once.
#[derive(Debug, Clone)]
pub struct GuestBinary {
    path: PathBuf,
    key: String,
}

impl GuestBinary {
    /// Reads the binary and takes its digest.
    pub fn load(path: &Path) -> Result<Self, KernelError> {
        let bytes = fs::read(path).map_err(KernelError::io("read banger-guest"))?;
        Ok(Self { path: path.to_owned(), key: key(&bytes) })
    }

    /// Returns the first 16 hexadecimal digits of its SHA-256 digest.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Returns the path of the initramfs in the bundle's directory, and makes it if it is not there.
/// Safe to call from several threads and processes at once: the name says the content.
pub fn assemble(bundle: &Path, guest: &GuestBinary) -> Result<PathBuf, KernelError> {
    let description = describe(bundle)?;
    if description.recipe != RECIPE {
        return Err(KernelError::Outdated { path: bundle.to_owned(), found: description.recipe });
    }
    let path = bundle.join(format!("{PREFIX}{}-{}{SUFFIX}", description.modules_key, guest.key));
    if path.exists() {
        return Ok(path);
    }
    let mut archive =
        fs::read(bundle.join(file::MODULES_ARCHIVE)).map_err(KernelError::io("read the modules' archive"))?;
    let binary = fs::read(&guest.path).map_err(KernelError::io("read banger-guest"))?;
    if key(&binary) != guest.key {
        let changed = std::io::Error::other(format!("'{}' has changed meanwhile", guest.path.display()));
        return Err(KernelError::io("read banger-guest")(changed));
    }
    archive.extend(Archive::new().file("init", 0o755, &binary).finish());
    write_file(&path, &archive, 0o644)?;
    remove_old(bundle, &path).map_err(KernelError::io("remove older initramfs archives"))?;
    Ok(path)
}

/// Makes the initramfs as [`assemble`] does, and gives it the name `destination`, in the place of what has that
/// name now. A VM that boots from a name of its own can do so again, as when its guest reboots, whatever
/// becomes of the bundle's archives; and what no VM has a name for goes with the bundle's next two.
pub fn assemble_at(bundle: &Path, guest: &GuestBinary, destination: &Path) -> Result<(), KernelError> {
    let name = KernelError::io("give a VM its initramfs");
    match fs::remove_file(destination) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(name(error)),
        _ => {}
    }
    for _ in 1..ATTEMPTS {
        let archive = assemble(bundle, guest)?;
        match fs::hard_link(&archive, destination) {
            Ok(()) => return Ok(()),
            // Another build's daemon has made its own meanwhile, and taken this one away.
            Err(error) if error.kind() == ErrorKind::NotFound && !archive.exists() => {}
            // On another file system, or one without hard links, or with too many of this one.
            Err(_) => return fs::copy(&archive, destination).map(drop).map_err(name),
        }
    }
    let archive = assemble(bundle, guest)?;
    fs::copy(archive, destination).map(drop).map_err(name)
}

/// Removes all but the newest archives. `newest` stays whatever the clock says.
fn remove_old(bundle: &Path, newest: &Path) -> std::io::Result<()> {
    let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(bundle)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !ours || entry.path() == newest {
            continue;
        }
        match entry.metadata().and_then(|metadata| metadata.modified()) {
            Ok(modified) => others.push((modified, entry.path())),
            // Another daemon is at this, too.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    others.sort();
    let surplus = others.len().saturating_sub(KEPT - 1);
    for (_, path) in &others[..surplus] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
