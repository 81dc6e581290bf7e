//! The guest's SSH server (RFC 4252, RFC 4254), over russh.
//!
//! A connection comes through the control channel, whose other end only the VM's owner has; the key exchange and the public
//! key make it an SSH connection like any other, for every tool that knows SSH.
//!
//! ```text
//! control channel ─▶ transport ─▶ russh's session loop ─▶ handler     (requests, answered at once)
//!                        ▲                  │
//!                     backlog ◀── inbox ◀───┘ one relay for each channel  ─▶ session | forward
//! ```
//!
//! russh grants new window as soon as data *arrives*, and its loop stands still when a channel's queue is full: a program
//! that does not read would stop its own output, and a program like `cat` would wait for itself. So each
//! channel's relay takes everything at once ([`inbox`]), and what that costs in memory is bounded for the connection as a
//! whole by not reading from the transport ([`transport`]).

mod agent_socket;
mod exec;
mod forward;
mod handler;
mod hosts;
mod inbox;
mod program;
mod session;
mod signal;
mod terminal;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use banger_types::guest::GuestConfig;
use banger_types::image::ImageConfig;
use russh::keys::{PrivateKey, PublicKey};
use russh::{MethodKind, MethodSet, server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use self::handler::Connection;
use self::transport::{Backlog, Transport};
use crate::log;
use crate::login::Opener;

/// Why the configured keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The server's own key.
    #[error("the host key is not a private key")]
    HostKey(#[source] russh::keys::ssh_key::Error),
    /// A client's key.
    #[error("the authorized key '{line}' is not a public key")]
    AuthorizedKey {
        /// The line.
        line: String,
        /// Why.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
}

/// What all connections have in common.
#[derive(Debug)]
pub struct Server {
    protocol: Arc<server::Config>,
    authorized: Vec<PublicKey>,
    image: ImageConfig,
    places: Places,
}

/// Where things are. Only tests have them elsewhere.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory of `passwd`, `group` and `hosts`.
    pub etc: PathBuf,
    /// `banger-guest`, for the sessions that it serves itself.
    pub helper: PathBuf,
    /// Where sockets of forwarded agents live: root's, and nobody else's to write.
    pub sockets: PathBuf,
    /// What opens login sessions.
    pub logins: Opener,
}

impl Server {
    /// Returns a server with the configuration's keys. `helper` is this program's path.
    pub fn new(config: &GuestConfig, helper: PathBuf) -> Result<Self, SetupError> {
        let places =
            Places { etc: "/etc".into(), helper, sockets: "/run/banger-ssh".into(), logins: Opener::Image };
        Self::with_places(config, places)
    }

    /// Returns a server that looks for things in other places than those of a guest.
    pub fn with_places(config: &GuestConfig, places: Places) -> Result<Self, SetupError> {
        let host_key = PrivateKey::from_openssh(&config.ssh.host_private_key).map_err(SetupError::HostKey)?;
        let lines = config.ssh.authorized_keys.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        let parse = |line: &str| {
            PublicKey::from_openssh(line)
                .map_err(|source| SetupError::AuthorizedKey { line: line.to_owned(), source })
        };
        let protocol = server::Config {
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            keys: vec![host_key],
            // A session may be silent for days. That its client is gone shows in the transport.
            inactivity_timeout: None,
            // Every client first asks what there is, with the method "none"; that is no guess at a key.
            auth_rejection_time_initial: Some(Duration::ZERO),
            auth_rejection_time: Duration::from_millis(100),
            ..server::Config::default()
        };
        Ok(Self {
            protocol: Arc::new(protocol),
            authorized: lines.map(parse).collect::<Result<_, _>>()?,
            image: config.image.clone(),
            places,
        })
    }
}

/// Serves one connection to its end. `closed` becomes true when the client's side has ended, though what it sent may not
/// have been read yet.
pub async fn serve<S>(server: Arc<Server>, stream: S, closed: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let backlog = Backlog::new();
    let transport = Transport::new(stream, Arc::clone(&backlog));
    let connection = Connection::new(Arc::clone(&server), Arc::clone(&backlog));
    let mut session = match server::run_stream(Arc::clone(&server.protocol), transport, connection).await {
        Ok(session) => session,
        Err(error) => {
            log!("ssh: {}", log::chain(&error));
            return;
        }
    };
    let result = tokio::select! {
        result = &mut session => result,
        () = backlog.open_when(closed) => session.await,
    };
    if let Err(error) = result
        && !is_end(&error)
    {
        log!("ssh: {}", log::chain(&error));
    }
}

/// Returns whether the client has just gone, as clients do.
fn is_end(error: &russh::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        russh::Error::Disconnect | russh::Error::HUP => true,
        russh::Error::IO(error) => matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
        _ => false,
    }
}
