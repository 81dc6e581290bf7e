//! Unix sockets in directories of any depth.
//!
//! A socket's address holds 107 bytes of path (unix(7)), and a VM's directory may be deeper. The
//! directory is therefore opened first, and the socket named through `/proc/self/fd`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;

/// Why a socket could not be made or reached.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path has no file name.
    #[error("'{}' cannot be a socket", .0.display())]
    Path(PathBuf),
    /// Somebody else's: who makes a socket under our name would be told everything.
    #[error("{} belongs to user {owner}, not to user {user}", path.display())]
    Foreign {
        /// The socket, or its directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Us.
        user: u32,
    },
    /// Others may put things into its directory.
    #[error("others than its owner may write to {}", directory.display())]
    Writable {
        /// The directory.
        directory: PathBuf,
    },
    /// There is something else of that name.
    #[error("{} is there and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot use the socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SocketError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => {
                // As after su or sudo, which may keep the first user's variables.
                Some("see that XDG_RUNTIME_DIR, BANGER_SOCKET and HOME are your own".to_owned())
            }
            Self::Writable { directory } => Some(format!("chmod go-w '{}'", directory.display())),
            Self::NoSocket(path) => Some(format!("move '{}' away", path.display())),
            Self::Path(_) | Self::Io { .. } => None,
        }
    }
}

fn through_directory<T>(path: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, SocketError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SocketError::Path(path.to_owned()));
    };
    let io_error = SocketError::io(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| io_error(error.into()))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    use_it(&short).map_err(io_error)
}

/// Connects to the socket at `path`, which must be this user's own. Does not wait: where too many wait already for one who does
/// not accept them, it fails with [`io::ErrorKind::WouldBlock`]. The stream does not block, either.
pub fn connect_to(path: &Path) -> Result<UnixStream, SocketError> {
    connect_as(path, geteuid().as_raw())
}

fn connect_as(path: &Path, user: u32) -> Result<UnixStream, SocketError> {
    if let Ok(socket) = fs_err::symlink_metadata(path) {
        belongs_to(path, socket.uid(), user)?;
    }
    through_directory(path, |short| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(short)?)?;
        Ok(UnixStream::from(socket))
    })
}

fn belongs_to(path: &Path, owner: u32, user: u32) -> Result<(), SocketError> {
    if owner == user { Ok(()) } else { Err(SocketError::Foreign { path: path.to_owned(), owner, user }) }
}

/// Listens on a socket at `path` that only this user can reach, mode 0600. Its directory is made
/// (0700) when it is not there, and must be this user's alone. A socket that is left there from
/// earlier is replaced: the caller holds the lock that says that it is left over.
pub fn bind_private(path: &Path) -> Result<UnixListener, SocketError> {
    bind_as(path, geteuid().as_raw())
}

fn bind_as(path: &Path, user: u32) -> Result<UnixListener, SocketError> {
    let directory = path.parent().ok_or_else(|| SocketError::Path(path.to_owned()))?;
    let io_error = SocketError::io(path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(&io_error)?;
    let found = fs_err::metadata(directory).map_err(&io_error)?;
    belongs_to(directory, found.uid(), user)?;
    if found.mode() & 0o022 != 0 {
        return Err(SocketError::Writable { directory: directory.to_owned() });
    }
    remove_left_over(path, user)?;
    through_directory(path, |short| {
        let listener = UnixListener::bind(short)?;
        // The umask may be anything; nobody can connect between these two but through the
        // directory, which is private.
        rustix::fs::chmod(short, Mode::from_raw_mode(0o600))?;
        Ok(listener)
    })
}

fn remove_left_over(path: &Path, user: u32) -> Result<(), SocketError> {
    use std::os::unix::fs::FileTypeExt as _;
    let io_error = SocketError::io(path);
    let found = match fs_err::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    belongs_to(path, found.uid(), user)?;
    if !found.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    fs_err::remove_file(path).map_err(io_error)
}

/// The file of a socket, told apart from one that took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Returns the file that is at `path` now. To be asked for right after [`bind_private`].
    pub fn at(path: &Path) -> Result<Self, SocketError> {
        let found = fs_err::symlink_metadata(path).map_err(SocketError::io(path))?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Removes the file if it is still there. Returns whether it was: another daemon may have its own there.
    pub fn remove(&self) -> Result<bool, SocketError> {
        if Self::at(&self.path).ok().as_ref() != Some(self) {
            return Ok(false);
        }
        fs_err::remove_file(&self.path).map(|()| true).map_err(SocketError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_path_of_any_depth_can_be_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/".repeat(40)).join("socket");
        let listener = bind_private(&path).unwrap();
        connect_to(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        bind_private(&path).unwrap();
    }

    #[test]
    fn what_is_somebody_elses_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (owner, user) = (geteuid().as_raw(), geteuid().as_raw() + 1);
        let error = bind_as(&path, user).unwrap_err();
        let expected = format!("{} belongs to user {owner}, not to user {user}", directory.path().display());
        assert_eq!(error.to_string(), expected);
        assert!(error.fix().is_some());
        let _listener = bind_private(&path).unwrap();
        assert!(matches!(connect_as(&path, user), Err(SocketError::Foreign { .. })));
        assert!(matches!(remove_left_over(&path, user), Err(SocketError::Foreign { .. })));
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
        let error = bind_private(&directory.path().join("socket")).unwrap_err();
        assert!(matches!(error, SocketError::Writable { .. }), "{error}");
    }

    #[test]
    fn only_a_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind_private(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_daemon_removes_its_own_socket_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _first = bind_private(&path).unwrap();
        let first = SocketFile::at(&path).unwrap();
        // Both exist at once, so that the second cannot have the first one's number.
        std::fs::rename(&path, directory.path().join("aside")).unwrap();
        let _second = bind_private(&path).unwrap();
        assert!(!first.remove().unwrap());
        connect_to(&path).unwrap();
        assert!(SocketFile::at(&path).unwrap().remove().unwrap());
        assert!(!first.remove().unwrap(), "there is none");
    }
}
