//! What a VM's directory is made of: its disk and its keys.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;

use banger_core::command::Commands;
use banger_core::work::Work;
use banger_image::disk::{DiskError, Templates};
use banger_types::size::Mebibytes;
use banger_types::vm::Accelerator;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use crate::layout::vm_file;

/// Why a VM's files could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("cannot make its disk")]
    Disk(#[from] DiskError),
    #[error("cannot make its keys")]
    Key(#[from] ssh_key::Error),
    #[error("cannot get random bytes for its keys")]
    Random(#[source] io::Error),
    #[error("cannot write its files")]
    Io(#[from] io::Error),
    #[error("cannot make its directory")]
    Publish(#[from] banger_image::publish::PublishError),
}

impl FilesError {
    /// Returns whether somebody's cancel is the reason.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_cancelled())
    }

    /// Returns what a person can do about it.
    pub(super) fn fix(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.fix(),
            _ => None,
        }
    }
}

/// Makes a VM's keys in `directory`. Returns the server's public key, as in `known_hosts`.
pub(super) fn make_keys(directory: &Path) -> Result<String, FilesError> {
    let identity = new_key("banger")?;
    let host = new_key("")?;
    write_key(&directory.join(vm_file::IDENTITY), &identity)?;
    write_key(&directory.join(vm_file::HOST_KEY), &host)?;
    Ok(host.public_key().to_openssh()?)
}

fn new_key(comment: &str) -> Result<PrivateKey, FilesError> {
    let mut seed = [0; Ed25519Keypair::BYTE_SIZE / 2];
    let mut filled = 0;
    while filled < seed.len() {
        let rest = &mut seed[filled..];
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| FilesError::Random(error.into()))?;
    }
    Ok(PrivateKey::new(Ed25519Keypair::from_seed(&seed).into(), comment)?)
}

fn write_key(path: &Path, key: &PrivateKey) -> Result<(), FilesError> {
    let pem = key.to_openssh(LineEnding::LF)?;
    write_private(path, pem.as_bytes())?;
    Ok(())
}

/// Writes a file that only its owner reads. Not synced: the directory is, as a whole, before it is
/// published, and what is written at a start is written anew at the next.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(contents)
}

/// Puts a file that only its owner reads in its place, if it is another than the one that is there. Nobody ever sees half of it. Not
/// synced either.
pub(crate) fn replace_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    if fs_err::read(path).is_ok_and(|present| present == contents) {
        return Ok(());
    }
    let mut name = OsStr::new(banger_image::publish::PARTIAL_PREFIX).to_owned();
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    write_private(&temporary, contents)?;
    fs_err::rename(temporary, path)
}

/// Reads a key of the VM in `directory`.
pub(super) fn read_key(directory: &Path, name: &str) -> Result<PrivateKey, FilesError> {
    Ok(PrivateKey::from_openssh(fs_err::read_to_string(directory.join(name))?)?)
}

/// Remembers what isolates the guest of the VM in `directory` at this start. Returns whether that is less than at the
/// last one.
pub(super) fn remember_accelerator(directory: &Path, accelerator: Accelerator) -> io::Result<bool> {
    let path = directory.join(vm_file::ACCELERATOR);
    // One that cannot be read is of a daemon that was killed while it wrote: nothing is known then.
    let before = fs_err::read(&path).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if before != Some(accelerator) {
        write_private(&path, &serde_json::to_vec(&accelerator)?)?;
    }
    Ok((before, accelerator) == (Some(Accelerator::Kvm), Accelerator::Tcg))
}

/// Makes a VM's private disk.
pub(super) fn make_disk(
    directory: &Path,
    templates: &Path,
    size: Mebibytes,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<(), FilesError> {
    Templates::new(templates).create(size, &directory.join(vm_file::DISK), commands, work)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_before_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let ran = |accelerator| remember_accelerator(directory.path(), accelerator).unwrap();
        let (hardware, emulation) = (Accelerator::Kvm, Accelerator::Tcg);
        let told = [emulation, hardware, hardware, emulation, emulation, hardware].map(ran);
        assert_eq!(told, [false, false, false, true, false, false]);
        fs_err::write(directory.path().join(vm_file::ACCELERATOR), "").unwrap();
        assert!(!ran(emulation), "nothing is known of a file that was cut short");
    }
}
