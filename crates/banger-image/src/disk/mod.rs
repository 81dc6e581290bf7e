//! A VM's private disk and its configuration drive.

use std::io;
use std::path::{Path, PathBuf};

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::{Cancelled, Work};
use banger_types::size::Mebibytes;
use fs_err as fs;
use fs_err::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::publish::{PARTIAL_PREFIX, PublishError, sync_parent, write_file};

/// Changes with how disks are formatted, so that templates of an older kind are made anew.
const RECIPE: u32 = 2;
/// The smallest disk: a journal and some room.
const SMALLEST: Mebibytes = Mebibytes(64);
/// The largest: what ext4 of 4 KiB blocks with 32-bit block numbers in the journal is tested for.
const LARGEST: Mebibytes = Mebibytes(15 << 20);
/// The sizes that a disk can have.
pub const SIZES: std::ops::RangeInclusive<Mebibytes> = SMALLEST..=LARGEST;
/// The label of private disks.
const LABEL: &str = "banger-private";
/// Size of a sector, to which the configuration is padded.
const SECTOR: usize = 512;

/// Everything that the guest's kernel can use, written out: what the host's mke2fs.conf says must not
/// matter.
///
/// A disk can be made larger, and the guest then has its kernel grow the mounted file system
/// (`EXT4_IOC_RESIZE_FS`). That decides about how descriptors of groups lie:
///
/// - `meta_bg`: each 64 groups have their own block of descriptors, with two copies, so that there is
///   always room for more (Documentation/filesystems/ext4/blockgroup.rst, "Meta Block Groups"). The
///   other way, `resize_inode`, sets blocks aside for a thousandfold growth at most, and writes them.
/// - `sparse_super`, with copies of the superblock in few groups. Without it every group would have one:
///   820 KiB for 20 GiB instead of 220, and minutes to grow to 1 TiB. The kernel does not grow with
///   `sparse_super2`, which can do without any copy.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,sparse_super,meta_bg,filetype,extent,64bit,flex_bg,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A size that no disk has.
    #[error("a disk of {size} cannot be made; it has {SMALLEST} to {LARGEST}")]
    Size {
        /// The size.
        size: Mebibytes,
    },
    /// mke2fs failed or is not there.
    #[error("cannot format a disk")]
    Format(#[source] CommandError),
    /// A path that cannot be an argument.
    #[error("the path '{0}' is not UTF-8")]
    Path(PathBuf),
    /// A file could not be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What it was for, as a clause.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration could not be written.
    #[error("cannot write the configuration drive")]
    Configuration(#[source] PublishError),
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DiskError {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Format(CommandError::Cancelled(_)))
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Format(CommandError::NotInstalled { .. }) => Some(crate::install("e2fsprogs")),
            _ => None,
        }
    }
}

/// Formatted, empty disks, one for each size, from which private disks are copied.
#[derive(Debug, Clone)]
pub struct Templates {
    directory: PathBuf,
}

impl Templates {
    /// Returns the templates in `directory`, which is made when needed.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Returns the template of this size; formats it if it is not there. Safe to call from several
    /// threads and processes at once: each formats its own file and gives it the same name.
    pub fn template(
        &self,
        size: Mebibytes,
        commands: &dyn Commands,
        work: &dyn Work,
    ) -> Result<PathBuf, DiskError> {
        if !(SMALLEST..=LARGEST).contains(&size) {
            return Err(DiskError::Size { size });
        }
        let path = self.directory.join(format!("private-{RECIPE}-{}M.ext4", size.0));
        if path.exists() {
            return Ok(path);
        }
        let io = DiskError::io("make a disk template");
        fs::create_dir_all(&self.directory).map_err(&io)?;
        let partial = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempfile_in(&self.directory);
        let partial = partial.map_err(&io)?;
        partial.as_file().set_len(size.bytes()).map_err(&io)?;
        format(partial.path(), commands, work)?;
        work.check()?;
        partial.as_file().sync_all().map_err(&io)?;
        partial.persist(&path).map_err(|error| io(error.error))?;
        sync_parent(&path).map_err(&io)?;
        Ok(path)
    }

    /// Makes a new private disk of this size at `destination`, mode 0600. It takes as many of the
    /// host's blocks as the template: a few hundred KiB, or tens of MiB for terabytes. Syncs nothing.
    pub fn create(
        &self,
        size: Mebibytes,
        destination: &Path,
        commands: &dyn Commands,
        work: &dyn Work,
    ) -> Result<(), DiskError> {
        let template = self.template(size, commands, work)?;
        let io = DiskError::io("copy the disk template");
        let from = fs::File::open(template).map_err(&io)?;
        let to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(destination);
        let to = to.map_err(&io)?;
        copy_sparse(&from, &to).map_err(|source| {
            // Half a disk must not be taken for one.
            let _: io::Result<()> = fs::remove_file(destination);
            io(source)
        })
    }
}

fn format(path: &Path, commands: &dyn Commands, work: &dyn Work) -> Result<(), DiskError> {
    let text = path.to_str().ok_or_else(|| DiskError::Path(path.to_owned()))?;
    let command = HostCommand::new("mke2fs")
        // No defaults of the host's.
        .variable("MKE2FS_CONFIG", "/dev/null")
        .arguments(["-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"])
        .arguments(["-O", FEATURES, "-L", LABEL, "-J", "size=16"])
        .argument("-E")
        // The file is all holes, so that nothing has to be zeroed, now or later in the guest.
        .argument("nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1")
        .argument(text);
    commands.run(&command, work).map(drop).map_err(DiskError::Format)
}

/// Copies a file into an empty one: its blocks shared where the file system can do that, else only
/// where it has data.
pub fn copy_sparse(from: &fs::File, to: &fs::File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to.file(), from.file()).is_ok() {
        return Ok(());
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        // ENXIO: no data from here to the end (lseek(2)).
        let start = match rustix::fs::seek(from.file(), rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(from.file(), rustix::fs::SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = &mut buffer[..part];
            from.read_exact_at(part, at)?;
            to.write_all_at(part, at)?;
            at += part.len() as u64;
        }
    }
    Ok(())
}

/// Writes a configuration drive: `json`, padded with NUL bytes to whole sectors, mode 0600.
pub fn write_configuration(path: &Path, json: &[u8]) -> Result<(), DiskError> {
    let mut bytes = json.to_vec();
    bytes.resize(bytes.len().max(1).next_multiple_of(SECTOR), 0);
    write_file(path, &bytes, 0o600).map_err(DiskError::Configuration)
}
