//! Reaching the daemon, and nobody who is in its place.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
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
    let listener = stream.peer_cred().map_err(failed)?;
    check(listener.uid())?;
    // A daemon that was killed while it started a program is still connected to: that has its descriptors until it runs.
    if listener.pid().and_then(Pid::from_raw).is_some_and(has_ended) {
        return Err(failed(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the process that listened has ended",
        )));
    }
    Ok(stream)
}

fn has_ended(process: Pid) -> bool {
    match pidfd_open(process, PidfdFlags::empty()) {
        // A pidfd is readable when the process has ended (pidfd_open(2)), waited for by its parent or not.
        Ok(pidfd) => {
            let mut end = [PollFd::new(&pidfd, PollFlags::IN)];
            rustix::event::poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        }
        Err(error) => error == rustix::io::Errno::SRCH,
    }
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
    use std::process::{Command, Stdio};

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

    /// Names the socket that a process of this test's listens on.
    const LISTENED_ON: &str = "BANGER_TEST_LISTENS_ON";

    #[tokio::test]
    async fn a_listener_that_has_ended_is_nobody_though_a_child_has_its_socket() {
        if let Some(path) = std::env::var_os(LISTENED_ON) {
            return listen_and_leave_it_to_a_child(Path::new(&path));
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let name = "connect::tests::a_listener_that_has_ended_is_nobody_though_a_child_has_its_socket";
        let mut listener = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(LISTENED_ON, &path)
            // The child that stays ends when this does.
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stays = listener.stdin.take();
        assert!(listener.wait().unwrap().success());
        // There is somebody to connect to, who will never answer.
        UnixStream::connect(&path).await.unwrap();
        let error = connect(&path).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
        drop(stays);
    }

    fn listen_and_leave_it_to_a_child(path: &Path) {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        #[expect(clippy::zombie_processes, reason = "it is to outlive this process")]
        Command::new("cat").stdout(std::os::fd::OwnedFd::from(listener)).spawn().unwrap();
    }
}
