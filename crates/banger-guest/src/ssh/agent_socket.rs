//! The client's key agent, as a socket in the guest (`ssh -A`).

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::server::Handle;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::forward;
use super::transport::Backlog;
use crate::user::Login;

/// A socket that leads to the client's agent, for as long as this lives.
#[derive(Debug)]
pub(super) struct AgentSocket {
    directory: PathBuf,
    serving: JoinHandle<()>,
}

impl AgentSocket {
    /// Makes one that `login` alone can use, in a directory of its own beneath `sockets`.
    pub(super) fn open(
        sockets: &Path,
        login: &Login,
        handle: Handle,
        backlog: Arc<Backlog>,
    ) -> io::Result<Self> {
        // The directory above is root's and not writable to others: nobody can put anything in our way.
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(sockets)?;
        let mut random = [0u8; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let directory = sockets.join(format!("{:032x}", u128::from_ne_bytes(random)));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let socket = directory.join("agent");
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        if rustix::process::geteuid().is_root() {
            for path in [&socket, &directory] {
                chown(path, Some(login.uid), Some(login.gid))?;
            }
        }
        let serving = tokio::spawn(serve(listener, handle, backlog));
        Ok(Self { directory, serving })
    }

    /// The socket's path, for `SSH_AUTH_SOCK`.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("agent")
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.serving.abort();
        // By name and not recursively: the directory is the user's, and holds what the user put there.
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.directory);
    }
}

async fn serve(listener: UnixListener, handle: Handle, backlog: Arc<Backlog>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(forward::ACCEPT_PAUSE).await;
            continue;
        };
        let (handle, backlog) = (handle.clone(), Arc::clone(&backlog));
        tokio::spawn(async move {
            // Refused: the stream is dropped, and its program sees the end.
            if let Ok(channel) = handle.channel_open_agent().await {
                forward::splice_opened(channel, &backlog, stream).await;
            }
        });
    }
}
