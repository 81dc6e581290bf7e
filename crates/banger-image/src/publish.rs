//! How a finished result appears under its name: whole or not at all.
//!
//! Everything is written into a directory with a temporary name beside the final one, synced, and
//! renamed (rename(2) is atomic within a file system). What a crash leaves has a name that begins
//! with [`PARTIAL_PREFIX`], and may be deleted at any time when no daemon runs.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// How the names of unfinished directories begin.
pub const PARTIAL_PREFIX: &str = ".partial-";

/// A directory under a temporary name. Deleted when dropped before [`Staging::publish`].
#[derive(Debug)]
pub struct Staging {
    directory: tempfile::TempDir,
    destination: PathBuf,
}

/// Why a result could not be prepared or published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name is taken.
    #[error("'{0}' is there already")]
    Exists(PathBuf),
    /// A path without a directory above it.
    #[error("'{0}' is no path to publish to")]
    NoParent(PathBuf),
    /// The file system refused.
    #[error("cannot publish '{path}'")]
    Io {
        /// The final path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Staging {
    /// Makes a directory (mode 0700) beside `destination`, whose parents are made as needed.
    pub fn beside(destination: &Path) -> Result<Self, PublishError> {
        let parent = destination.parent().filter(|_| destination.file_name().is_some());
        let parent = parent.ok_or_else(|| PublishError::NoParent(destination.to_owned()))?;
        let io = |source| PublishError::Io { path: destination.to_owned(), source };
        fs::create_dir_all(parent).map_err(io)?;
        let directory = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(parent).map_err(io)?;
        Ok(Self { directory, destination: destination.to_owned() })
    }

    /// Returns the directory to write into.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Syncs every file directly in the directory, and the directory, then gives it its final name.
    pub fn publish(self) -> Result<(), PublishError> {
        let Self { directory, destination } = self;
        let io = |source| PublishError::Io { path: destination.clone(), source };
        for entry in fs::read_dir(directory.path()).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_type().map_err(io)?.is_file() {
                sync(&entry.path()).map_err(io)?;
            }
        }
        sync(directory.path()).map_err(io)?;
        // RENAME_NOREPLACE: an empty directory of that name would be replaced without a word.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            directory.path(),
            rustix::fs::CWD,
            &destination,
            rustix::fs::RenameFlags::NOREPLACE,
        )
        .map_err(|errno| match errno {
            rustix::io::Errno::EXIST => PublishError::Exists(destination.clone()),
            errno => io(errno.into()),
        })?;
        // It has its name now; the guard must not delete what may stand under the old one later.
        let _old_name = directory.keep();
        sync_parent(&destination).map_err(io)
    }
}

/// Writes `contents` to `path` through a temporary name beside it, with `mode`, synced.
pub fn write_file(path: &Path, contents: &[u8], mode: u32) -> Result<(), PublishError> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    let io = |source| PublishError::Io { path: path.to_owned(), source };
    let parent = path.parent().ok_or_else(|| PublishError::NoParent(path.to_owned()))?;
    let mut file = tempfile::Builder::new()
        .prefix(PARTIAL_PREFIX)
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(io)?;
    // The umask has its say on creation; the mode asked for is the mode wanted.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(io)?;
    file.write_all(contents).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    sync_parent(path).map_err(io)
}

/// Syncs the file or directory at `path`.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Syncs the directory that holds `path`, so that a new name in it survives a power cut.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_result_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let destination = root.path().join("images/one");
        drop(Staging::beside(&destination).unwrap());
        assert_eq!(fs::read_dir(root.path().join("images")).unwrap().count(), 0);

        let staging = Staging::beside(&destination).unwrap();
        fs::write(staging.path().join("file"), "x").unwrap();
        staging.publish().unwrap();
        assert_eq!(fs::read(destination.join("file")).unwrap(), b"x");

        let second = Staging::beside(&destination).unwrap();
        assert!(matches!(second.publish(), Err(PublishError::Exists(_))));
        assert_eq!(fs::read(destination.join("file")).unwrap(), b"x");
        assert_eq!(fs::read_dir(root.path().join("images")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_with_the_mode_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        write_file(&path, b"one", 0o600).unwrap();
        write_file(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
