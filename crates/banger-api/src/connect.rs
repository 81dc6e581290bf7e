//! Reaching the daemon, and nobody who is in its place.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use tokio::net::UnixStream;

use crate::ClientError;

/// Longest path of a unix socket, without the NUL that ends it: unix(7).
const SOCKET_PATH_LIMIT: usize = 107;

/// Connects to the daemon's socket, which must be this user's own, as must be the process that listens on it.
///
/// # Errors
/// [`ClientError::Connect`] when nobody listens, [`ClientError::Foreign`] when somebody else does.
pub async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    connect_as(socket, geteuid().as_raw()).await
}

async fn connect_as(socket: &Path, user: u32) -> Result<UnixStream, ClientError> {
    let failed = |source: io::Error| ClientError::Connect { socket: socket.to_owned(), source };
    let check = |owner: u32| {
        let foreign = || ClientError::Foreign { socket: socket.to_owned(), owner, user };
        if owner == user { Ok(()) } else { Err(foreign()) }
    };
    // The file first: another user's, of mode 0600, could not be connected to, which says less.
    check(std::fs::symlink_metadata(socket).map_err(failed)?.uid())?;
    let stream = connect_path(socket).await.map_err(failed)?;
    // Who listens is known for sure of the connection alone: the file may be another one by now.
    check(stream.peer_cred().map_err(failed)?.uid())?;
    Ok(stream)
}

/// Connects to a socket of any path: one too long for an address is reached through its directory.
///
/// # Errors
/// That of `connect(2)`, or of opening its directory.
pub async fn connect_path(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= SOCKET_PATH_LIMIT {
        return UnixStream::connect(socket).await;
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_another_user_is_not_spoken_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let user = geteuid().as_raw();
        let missing = connect(&path).await.unwrap_err();
        assert!(
            matches!(missing, ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        connect(&path).await.unwrap();
        listener.accept().await.unwrap();
        let error = connect_as(&path, user + 1).await.unwrap_err();
        let expected = format!("{} belongs to user {user}, not to user {}", path.display(), user + 1);
        assert_eq!(error.to_string(), expected);
        // Nobody has even connected.
        let accepted = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err());
    }
}
