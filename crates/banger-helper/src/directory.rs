//! Directories of root's, and files in them that nobody else can have made.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::error::Refusal;

/// The name of ours, wherever they are.
const NAME: &str = "banger";
/// Longest file, bytes.
const LONGEST: u64 = 16 << 20;

/// One of them.
#[derive(Debug)]
pub(crate) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the one below `parent`, which is made if there is none.
    pub(crate) fn open(parent: &Path) -> Result<Self, Refusal> {
        let path = parent.join(NAME);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || {
            let parent = rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            match mkdirat(&parent, NAME, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            openat(&parent, NAME, flags, Mode::empty())
        };
        let descriptor = open().map_err(|error| Refusal::file("cannot open", &path)(error.into()))?;
        check_owner(&descriptor, &path)?;
        Ok(Self { descriptor, path })
    }

    /// Where it is, for what is said.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to be locked, which is made if there is none. The programs that this process starts inherit it.
    pub(crate) fn open_lock(&self, name: &str) -> Result<OwnedFd, Refusal> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        openat(&self.descriptor, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| Refusal::file("cannot lock", self.path.join(name))(error.into()))
    }

    /// Returns what a file has, if there is one.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Refusal::file("cannot read", path)(error.into())),
        };
        check_owner(&file, &path)?;
        let mut bytes = Vec::new();
        File::from(file).take(LONGEST).read_to_end(&mut bytes).map_err(Refusal::file("cannot read", path))?;
        Ok(Some(bytes))
    }

    /// Puts a file in its place, whole.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let partial = format!(".{name}.partial");
        let write = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&self.descriptor, &partial, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            file.write_all(bytes)?;
            file.sync_all()?;
            renameat(&self.descriptor, &partial, &self.descriptor, name)?;
            Ok(())
        };
        write().map_err(Refusal::file("cannot write", self.path.join(name)))
    }

    /// Takes a file away, if there is one.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Refusal> {
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Refusal::file("cannot remove", self.path.join(name))(error.into())),
        }
    }
}

/// Makes sure that nobody but this process's user can have made a file, or change it.
pub(crate) fn check_owner(file: &OwnedFd, path: &Path) -> Result<(), Refusal> {
    let status = fstat(file).map_err(|error| Refusal::file("cannot look at", path)(error.into()))?;
    let why = if status.st_uid != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if status.st_mode & 0o022 != 0 {
        "may be written by others"
    } else if !matches!(FileType::from_raw_mode(status.st_mode), FileType::RegularFile | FileType::Directory)
    {
        "is no file"
    } else {
        return Ok(());
    };
    Err(Refusal::Planted { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_others_could_have_planted_is_not_used() {
        let run = tempfile::tempdir().unwrap();
        let (place, elsewhere) = (run.path().join(NAME), run.path().join("elsewhere"));
        std::fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &place).unwrap();
        let opened = Directory::open(run.path());
        assert!(matches!(opened, Err(Refusal::File { .. })), "a link in the place of the directory");
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Directory::open(run.path()).unwrap_err();
        assert!(matches!(error, Refusal::Planted { why: "may be written by others", .. }), "{error}");
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
        let directory = Directory::open(run.path()).unwrap();
        // Links where it reads, and where it writes.
        let secret = elsewhere.join("secret");
        std::fs::write(&secret, "secret").unwrap();
        symlink(&secret, place.join("file")).unwrap();
        assert!(directory.read("file").is_err());
        symlink(&secret, place.join(".file.partial")).unwrap();
        assert!(directory.replace("file", b"mine").is_err());
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_removed_is_not_there() {
        let run = tempfile::tempdir().unwrap();
        let directory = Directory::open(run.path()).unwrap();
        assert_eq!(directory.read("file").unwrap(), None);
        directory.replace("file", b"text").unwrap();
        assert_eq!(directory.read("file").unwrap().unwrap(), b"text");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half written");
        directory.remove("file").unwrap();
        directory.remove("file").unwrap();
        assert_eq!(directory.read("file").unwrap(), None);
    }
}
