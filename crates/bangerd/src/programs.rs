//! Where banger's other programs are.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use banger_image::kernel::KernelError;
use banger_image::kernel::initramfs::GuestBinary;
use banger_types::location::variable;

/// The programs that the daemon needs beside itself.
#[derive(Debug)]
pub(crate) struct Programs {
    /// `banger`, which OpenSSH starts as its proxy. Need not be there.
    pub(crate) client: PathBuf,
    /// `banger-monitor`.
    pub(crate) monitor: PathBuf,
    /// Where they are, and with them those of a VM's network: `banger-filter` and `banger-tap`.
    pub(crate) directory: PathBuf,
    /// `banger-guest`, which goes into every initramfs.
    pub(crate) guest: GuestProgram,
}

/// `banger-guest`, hashed once for each build of it.
#[derive(Debug)]
pub(crate) struct GuestProgram {
    path: PathBuf,
    loaded: Mutex<Option<(Stamp, GuestBinary)>>,
}

/// What changes when a file is replaced: device, inode, size, and time of change in nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl GuestProgram {
    const fn new(path: PathBuf) -> Self {
        Self { path, loaded: Mutex::new(None) }
    }

    /// Returns the build that is there now: an upgrade is seen at the next start of a VM.
    pub(crate) fn load(&self) -> Result<GuestBinary, KernelError> {
        let stamp = fs_err::metadata(&self.path)
            .map(|file| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
            .ok();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((known, binary)), Some(stamp)) = (loaded.as_ref(), stamp)
            && *known == stamp
        {
            return Ok(binary.clone());
        }
        let binary = GuestBinary::load(&self.path)?;
        *loaded = stamp.map(|stamp| (stamp, binary.clone()));
        Ok(binary)
    }
}

/// One of them is not there.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not in {}", directory.display())]
pub(crate) struct MissingProgram {
    name: &'static str,
    directory: PathBuf,
}

impl Programs {
    /// Looks in `BANGER_PROGRAM_DIR`, else beside the daemon's own file.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let directory = match std::env::var_os(variable::PROGRAM_DIRECTORY) {
            Some(directory) => PathBuf::from(directory),
            None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
        };
        let find = |name: &'static str| {
            let path = directory.join(name);
            if path.is_file() { Ok(path) } else { Err(MissingProgram { name, directory: directory.clone() }) }
        };
        for name in ["banger-filter", "banger-tap"] {
            find(name)?;
        }
        Ok(Self {
            client: directory.join("banger"),
            monitor: find("banger-monitor")?,
            guest: GuestProgram::new(find("banger-guest")?),
            directory: directory.clone(),
        })
    }
}
