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
    /// Something unfinished could not be removed.
    #[error("cannot remove '{path}'")]
    Sweep {
        /// What is left.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
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
        Ok(Self { destination: destination.to_owned(), ..Self::within(parent)? })
    }

    /// Makes a directory (mode 0700) within `parent`, which is made as needed, for something whose name is not known yet.
    pub fn within(parent: &Path) -> Result<Self, PublishError> {
        let io = |source| PublishError::Io { path: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(io)?;
        let directory = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(parent).map_err(io)?;
        Ok(Self { directory, destination: parent.to_owned() })
    }

    /// Returns the directory to write into.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Syncs every file directly in the directory, and the directory, then gives it its final name.
    pub fn publish(self) -> Result<(), PublishError> {
        let destination = self.destination.clone();
        self.publish_as(&destination)
    }

    /// The same, with a name in the same parent, at which there may be something already: that goes. At no time is there
    /// nothing.
    pub fn publish_in_place(self, destination: &Path) -> Result<(), PublishError> {
        if fs::symlink_metadata(destination).is_err() {
            return self.publish_as(destination);
        }
        self.sync().map_err(|source| PublishError::Io { path: destination.to_owned(), source })?;
        exchange(self.path(), destination)
    }

    fn sync(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                sync(&entry.path())?;
            }
        }
        sync(self.path())
    }

    /// Syncs it, and gives it a name in the same parent.
    fn publish_as(self, destination: &Path) -> Result<(), PublishError> {
        let io = |source| PublishError::Io { path: destination.to_owned(), source };
        self.sync().map_err(io)?;
        let Self { directory, .. } = self;
        // RENAME_NOREPLACE: an empty directory of that name would be replaced without a word.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            directory.path(),
            rustix::fs::CWD,
            destination,
            rustix::fs::RenameFlags::NOREPLACE,
        )
        .map_err(|errno| match errno {
            rustix::io::Errno::EXIST => PublishError::Exists(destination.to_owned()),
            errno => io(errno.into()),
        })?;
        // It has its name now; the guard must not delete what may stand under the old one later.
        let _old_name = directory.keep();
        sync_parent(destination).map_err(io)
    }
}

/// Gives two directories with the same parent each other's name, at once.
pub fn exchange(one: &Path, other: &Path) -> Result<(), PublishError> {
    let io = |source| PublishError::Io { path: other.to_owned(), source };
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, one, cwd, other, rustix::fs::RenameFlags::EXCHANGE)
        .map_err(|errno| io(errno.into()))?;
    sync_parent(other).map_err(io)
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

/// What [`sweep_partials`] came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many entries are gone.
    pub removed: usize,
    /// What could not be removed, or looked at, and why.
    pub errors: Vec<PublishError>,
}

/// Removes what a crash left unfinished directly in `directory`: files, trees and links whose names begin with
/// [`PARTIAL_PREFIX`]. Where a link leads is left alone. Goes on after errors; a directory that is not there has
/// nothing in it. To be called when nobody writes there.
pub fn sweep_partials(directory: &Path) -> Swept {
    let mut swept = Swept::default();
    let io = |path: &Path, source| PublishError::Sweep { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return swept,
        Err(error) => {
            swept.errors.push(io(directory, error));
            return swept;
        }
    };
    for entry in entries {
        let (path, removed) = match entry {
            Ok(entry) if !is_partial(&entry.file_name()) => continue,
            Ok(entry) => (entry.path(), remove(&entry)),
            Err(error) => (directory.to_owned(), Err(error)),
        };
        match removed {
            Ok(()) => swept.removed += 1,
            Err(error) => swept.errors.push(io(&path, error)),
        }
    }
    swept
}

fn is_partial(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PARTIAL_PREFIX.as_bytes())
}

/// Removes an entry; neither of the two follows links.
fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
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
    #[test]
    fn what_a_crash_left_is_swept_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("vm/.partial-tree/deep/er")).unwrap();
        fs::create_dir_all(at("vm/kept/.partial-of-somebody-else")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("outside/precious"), "x").unwrap();
        fs::write(at("vm/.partial-file"), "x").unwrap();
        fs::write(at("vm/partial-file"), "x").unwrap();
        std::os::unix::fs::symlink(at("outside"), at("vm/.partial-link")).unwrap();
        std::os::unix::fs::symlink(at("outside"), at("vm/.partial-tree/link")).unwrap();
        let swept = sweep_partials(&at("vm"));
        assert_eq!((swept.removed, swept.errors.len()), (3, 0), "{swept:?}");
        let mut left: Vec<_> = fs::read_dir(at("vm")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["kept", "partial-file"]);
        assert!(at("vm/kept/.partial-of-somebody-else").exists());
        assert!(at("outside/precious").exists());
        assert_eq!(sweep_partials(&at("nowhere")).removed, 0);
    }

    #[test]
    fn a_sweep_goes_on_after_what_it_cannot_remove() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".partial-file"), "x").unwrap();
        // What is mounted cannot be removed; root alone may mount, and for others a directory does that is
        // not theirs to change.
        let stuck = root.path().join(".partial-stuck");
        fs::create_dir(&stuck).unwrap();
        let _busy = Stuck::make(&stuck);
        let swept = sweep_partials(root.path());
        assert_eq!((swept.removed, swept.errors.len()), (1, 1), "{swept:?}");
        assert!(matches!(&swept.errors[0], PublishError::Sweep { path, .. } if *path == stuck));
    }

    /// A directory that cannot be removed, until it is dropped.
    struct Stuck<'a>(&'a Path);

    impl<'a> Stuck<'a> {
        fn make(directory: &'a Path) -> Self {
            if rustix::process::geteuid().is_root() {
                rustix::mount::mount("none", directory, "tmpfs", rustix::mount::MountFlags::empty(), None)
                    .unwrap();
            } else {
                fs::write(directory.join("file"), "x").unwrap();
                fs::set_permissions(directory, std::fs::Permissions::from_mode(0o500)).unwrap();
            }
            Self(directory)
        }
    }

    impl Drop for Stuck<'_> {
        fn drop(&mut self) {
            if rustix::process::geteuid().is_root() {
                rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
            } else {
                fs::set_permissions(self.0, std::fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
    }
}
