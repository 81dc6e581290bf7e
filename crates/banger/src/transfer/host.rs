//! This host's side of a download: directories that stay open, and names in them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use crate::sftp::Attributes;

/// What the names of unfinished files begin with.
const TEMPORARY_PREFIX: &str = ".banger-";

/// Permissions that a file may bring from a guest. Not those that let a program run as its owner: the
/// copy's owner is somebody else.
const PERMISSIONS: u32 = 0o777;

/// Flags for every directory that is opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory of a path that the user gave, which may be or contain links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Self(rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?))
    }

    /// Opens the directory of this name in it, making it if there is nothing of that name. Returns it,
    /// and whether it was made. A link of that name is not followed but refused.
    pub(super) fn directory(&self, name: &[u8]) -> io::Result<(Self, bool)> {
        let made = match rustix::fs::mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let opened = rustix::fs::openat(&self.0, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        match opened {
            Ok(directory) => Ok((Self(directory), made)),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                Err(io::Error::new(io::ErrorKind::NotADirectory, "what has this name here is no directory"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the directory itself the permissions and times of its original.
    pub(super) fn set_attributes(&self, attributes: &Attributes) -> io::Result<()> {
        set_attributes(&self.0, attributes)
    }

    /// Makes a file under a temporary name.
    pub(super) fn file(&self) -> io::Result<Unfinished<'_>> {
        let name = temporary_name()?;
        // EXCL also means that no link of that name is followed: open(2).
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Unfinished { directory: self, name, file: Some(file.into()) })
    }

    /// Makes a link of this name, in place of what is not a directory.
    pub(super) fn link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        let temporary = temporary_name()?;
        rustix::fs::symlinkat(target, &self.0, &temporary)?;
        Unfinished { directory: self, name: temporary, file: None }.rename(name)
    }
}

/// A file or link that is not complete. Dropped before it is, it goes.
#[derive(Debug)]
pub(super) struct Unfinished<'a> {
    directory: &'a Directory,
    /// Its temporary name; empty when it is complete.
    name: Vec<u8>,
    file: Option<File>,
}

impl Unfinished<'_> {
    /// Writes the next piece.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => io::Write::write_all(file, piece),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Gives it the permissions and times of its original, and its name, in place of what is not a
    /// directory.
    pub(super) fn finish(self, name: &[u8], attributes: &Attributes) -> io::Result<()> {
        if let Some(file) = &self.file {
            set_attributes(file, attributes)?;
        }
        self.rename(name)
    }

    fn rename(mut self, name: &[u8]) -> io::Result<()> {
        rustix::fs::renameat(&self.directory.0, &self.name, &self.directory.0, name)?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What went wrong before is what the user is told.
            let _ = rustix::fs::unlinkat(&self.directory.0, &self.name, AtFlags::empty());
        }
    }
}

/// Returns a name that nothing has.
pub(super) fn temporary_name() -> io::Result<Vec<u8>> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!("{TEMPORARY_PREFIX}{:016x}", u64::from_ne_bytes(random)).into_bytes())
}

fn set_attributes(file: &impl std::os::fd::AsFd, attributes: &Attributes) -> io::Result<()> {
    if let Some(mode) = attributes.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & PERMISSIONS))?;
    }
    if let Some((access, change)) = attributes.times {
        let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = Timestamps { last_access: time(access), last_modification: time(change) };
        rustix::fs::futimens(file, &times)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn directory() -> (tempfile::TempDir, Directory) {
        let path = tempfile::tempdir().unwrap();
        let directory = Directory::open(path.path()).unwrap();
        (path, directory)
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
        let (path, directory) = directory();
        fs::write(path.path().join("a"), "old").unwrap();
        let mut file = directory.file().unwrap();
        file.write(b"new").unwrap();
        assert_eq!(fs::read(path.path().join("a")).unwrap(), b"old");
        let attributes = Attributes { size: None, mode: Some(0o106_751), times: Some((1, 2)) };
        file.finish(b"a", &attributes).unwrap();
        let metadata = fs::metadata(path.path().join("a")).unwrap();
        assert_eq!(fs::read(path.path().join("a")).unwrap(), b"new");
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o751, 2), "without setuid");
        drop(directory.file().unwrap());
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1, "nothing is left of the other");
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let (path, directory) = directory();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "precious").unwrap();
        symlink(outside.path(), path.path().join("d")).unwrap();
        symlink(outside.path().join("file"), path.path().join("f")).unwrap();

        let refused = directory.directory(b"d").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotADirectory);
        let mut file = directory.file().unwrap();
        file.write(b"hostile").unwrap();
        file.finish(b"f", &Attributes::default()).unwrap();
        assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
        assert!(fs::symlink_metadata(path.path().join("f")).unwrap().is_file());

        directory.link(b"f", b"elsewhere").unwrap();
        assert_eq!(fs::read_link(path.path().join("f")).unwrap(), Path::new("elsewhere"));
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let (path, directory) = directory();
        fs::create_dir(path.path().join("d")).unwrap();
        assert!(directory.link(b"d", b"x").is_err());
        assert!(directory.file().unwrap().finish(b"d", &Attributes::default()).is_err());
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 1);
        let (_, made) = directory.directory(b"d").unwrap();
        assert!(!made);
    }
}
