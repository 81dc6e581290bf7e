//! Unix sockets in directories of any depth.
//!
//! A socket's address holds 107 bytes of path (unix(7)), and a VM's directory may be deeper. The
//! directory is therefore opened first, and the socket named through `/proc/self/fd`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Why a socket could not be made or reached.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path has no file name.
    #[error("'{}' cannot be a socket", .0.display())]
    Path(PathBuf),
    /// Its directory belongs to somebody else, or others may write there.
    #[error("{} belongs to user {owner}, or others may write there", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
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

fn through_directory<T>(path: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, SocketError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SocketError::Path(path.to_owned()));
    };
    let io_error = |source| SocketError::Io { path: path.to_owned(), source };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| io_error(error.into()))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    use_it(&short).map_err(io_error)
}

/// Connects to the socket at `path`.
pub fn connect_to(path: &Path) -> Result<std::os::unix::net::UnixStream, SocketError> {
    through_directory(path, |short| std::os::unix::net::UnixStream::connect(short))
}

/// Listens on a socket at `path` that only this user can reach, mode 0600. Its directory is made
/// (0700) when it is not there, and must be this user's alone. A socket that is left there from
/// earlier is replaced: the caller holds the lock that says that it is left over.
pub fn bind_private(path: &Path) -> Result<std::os::unix::net::UnixListener, SocketError> {
    let directory = path.parent().ok_or_else(|| SocketError::Path(path.to_owned()))?;
    let io_error = |source| SocketError::Io { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_error)?;
    let stat = rustix::fs::stat(directory).map_err(|error| io_error(error.into()))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err(SocketError::Directory { directory: directory.to_owned(), owner: stat.st_uid });
    }
    match fs_err::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
    }
    through_directory(path, |short| {
        let listener = std::os::unix::net::UnixListener::bind(short)?;
        // The umask may be anything; nobody can connect between these two but through the
        // directory, which is private.
        rustix::fs::chmod(short, Mode::from_raw_mode(0o600))?;
        Ok(listener)
    })
}
