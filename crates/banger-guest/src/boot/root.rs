//! Files of an image, found from outside of it.
//!
//! The image is hostile: `/lib` may be a link to `/dev`, `/etc/hosts` one to `../../init`. Every path is therefore
//! resolved by the kernel as if the image's directory were `/` already (`openat2`, `RESOLVE_IN_ROOT`).

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that is taken for `/`.
#[derive(Debug)]
pub(super) struct RootDirectory {
    directory: OwnedFd,
    path: PathBuf,
}

/// Mode of the directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

impl RootDirectory {
    /// Opens `path`, which must be a directory.
    pub(super) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: rustix::fs::open(&path, flags, Mode::empty())?, path })
    }

    /// Opens what `path` leads to.
    pub(super) fn resolve(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &self.directory,
            path.as_ref(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Returns the path, inside the root, that `path` leads to when all links are followed.
    pub(super) fn real_path(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let file = self.resolve(path, OFlags::PATH)?;
        let outside = std::fs::read_link(descriptor_path(&file))?;
        let inside = outside.strip_prefix(&self.path).map_err(|_| io::Error::from(Errno::XDEV))?;
        Ok(Path::new("/").join(inside))
    }

    /// Opens a directory, and makes it and those above it that are not there.
    pub(super) fn make_directories(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let mut done = PathBuf::from("/");
        let mut directory = self.resolve("/", OFlags::PATH | OFlags::DIRECTORY)?;
        for name in path.as_ref().components() {
            let std::path::Component::Normal(name) = name else { continue };
            done.push(name);
            directory = match self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(DIRECTORY_MODE))?;
                    self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY)?
                }
                result => result?,
            };
        }
        Ok(directory)
    }

    /// Puts a file where `path` is, atomically. What was there is replaced; a link is, not what it leads to.
    pub(super) fn write(&self, path: impl AsRef<Path>, contents: &[u8], mode: u32) -> io::Result<()> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let directory = self.make_directories(path.parent().unwrap_or(Path::new("/")))?;
        let mut temporary = OsStr::new(".banger-").to_owned();
        temporary.push(name);
        match rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(mode))?;
        let mut file = std::fs::File::from(file);
        file.write_all(contents)?;
        rustix::fs::renameat(&directory, &temporary, &directory, name)?;
        Ok(())
    }

    /// Puts a symbolic link where nothing is yet.
    pub(super) fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let directory = self.make_directories(path.parent().unwrap_or(Path::new("/")))?;
        match rustix::fs::symlinkat(target.as_ref(), &directory, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a file's contents; fails when it is longer than `limit` bytes or no regular file.
    pub(super) fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        // Not blocking, should it be a pipe.
        let file = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let file = std::fs::File::from(file);
        if !file.metadata()?.is_file() {
            return Err(Errno::INVAL.into());
        }
        let mut contents = Vec::new();
        file.take(limit + 1).read_to_end(&mut contents)?;
        if contents.len() as u64 > limit { Err(Errno::FBIG.into()) } else { Ok(contents) }
    }

    /// Returns whether there is anything of this name, be it a link that leads nowhere.
    pub(super) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW).is_ok()
    }

    /// Returns whether this is a symbolic link.
    pub(super) fn is_link(&self, path: impl AsRef<Path>) -> bool {
        let file = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW);
        file.is_ok_and(|file| {
            rustix::fs::fstat(&file)
                .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode).is_symlink())
        })
    }

    /// Returns whether this leads to a file that somebody may run.
    pub(super) fn is_program(&self, path: impl AsRef<Path>) -> bool {
        let status = self.resolve(path, OFlags::PATH).and_then(|file| Ok(rustix::fs::fstat(&file)?));
        status.is_ok_and(|status| {
            rustix::fs::FileType::from_raw_mode(status.st_mode).is_file() && status.st_mode & 0o111 != 0
        })
    }

    /// Gives the directory itself.
    pub(super) fn into_directory(self) -> OwnedFd {
        self.directory
    }
}

/// Returns a path that leads to what `file` has open, whatever happens to names meanwhile.
pub(super) fn descriptor_path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn image() -> (tempfile::TempDir, RootDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDirectory::open(directory.path().canonicalize().unwrap()).unwrap();
        (directory, root)
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let (directory, root) = image();
        std::fs::create_dir_all(directory.path().join("usr/lib/systemd")).unwrap();
        std::fs::write(directory.path().join("usr/lib/systemd/systemd"), "x").unwrap();
        symlink("usr/lib", directory.path().join("lib")).unwrap();
        std::fs::create_dir(directory.path().join("sbin")).unwrap();
        symlink("/lib/systemd/systemd", directory.path().join("sbin/init")).unwrap();
        assert_eq!(root.real_path("/sbin/init").unwrap(), Path::new("/usr/lib/systemd/systemd"));
        symlink("../../../../../../etc/passwd", directory.path().join("escape")).unwrap();
        assert!(root.read("/escape", 1 << 20).is_err(), "the host's /etc/passwd is out of reach");
    }

    #[test]
    fn directories_are_made_behind_links_and_never_outside() {
        let (directory, root) = image();
        std::fs::create_dir_all(directory.path().join("usr/lib")).unwrap();
        symlink("usr/lib", directory.path().join("lib")).unwrap();
        root.make_directories("/lib/modules/6.1.0").unwrap();
        assert!(directory.path().join("usr/lib/modules/6.1.0").is_dir());
        symlink("../../..", directory.path().join("var")).unwrap();
        root.make_directories("/var/lib/docker").unwrap();
        assert!(directory.path().join("usr/lib/docker").is_dir(), "`..` of the root is the root");
        symlink("nowhere", directory.path().join("opt")).unwrap();
        assert!(root.make_directories("/opt/x").is_err());
    }

    #[test]
    fn a_written_file_replaces_a_link_and_leaves_its_target() {
        let (directory, root) = image();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("precious"), "old").unwrap();
        symlink("../precious", directory.path().join("etc/resolv.conf")).unwrap();
        root.write("/etc/resolv.conf", b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(directory.path().join("precious")).unwrap(), b"old");
        assert_eq!(std::fs::read(directory.path().join("etc/resolv.conf")).unwrap(), b"new");
        assert!(!directory.path().join("etc/resolv.conf").is_symlink());
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let (directory, root) = image();
        std::fs::write(directory.path().join("big"), [b'x'; 11]).unwrap();
        assert!(root.read("big", 10).is_err());
        assert_eq!(root.read("big", 11).unwrap().len(), 11);
        assert!(root.read("/", 11).is_err());
    }
}
