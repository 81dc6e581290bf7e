//! The SSH connection to a guest: handshake, the server's key, the login.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use banger_types::guest::Service;
use banger_types::vm::SessionTarget;
use russh::client::{self, ChannelOpenHandle, Handle, Msg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Preferred, kex};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::{SessionError, monitor};

/// How long connecting and logging in may take, for a guest that computes in emulation.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// Most bytes on their way to a guest: well above the window that its server opens (RFC 4254 section
/// 5.2), which limits them before this does.
const OUTGOING_LIMIT: usize = 16 << 20;

/// Most connections to this host's SSH agent that a guest may have at once.
const AGENT_CONNECTIONS: usize = 16;

/// A logged-in connection. Ends when it is dropped.
pub struct Connection {
    handle: Handle<Guest>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects to a guest and logs in as `user`. With `agent`, the guest may use the SSH agent
    /// that listens there.
    pub(crate) async fn open(
        target: &SessionTarget,
        user: &str,
        agent: Option<PathBuf>,
    ) -> Result<Self, SessionError> {
        tokio::time::timeout(OPEN_TIMEOUT, Self::log_in(target, user, agent))
            .await
            .map_err(|_| SessionError::Timeout { seconds: OPEN_TIMEOUT.as_secs() })?
    }

    async fn log_in(
        target: &SessionTarget,
        user: &str,
        agent: Option<PathBuf>,
    ) -> Result<Self, SessionError> {
        let path = &target.identity_file;
        let key = russh::keys::load_secret_key(path, None)
            .map_err(|source| SessionError::Identity { path: path.clone(), source })?;
        let host_key = PublicKey::from_openssh(&target.host_public_key).map_err(SessionError::HostKey)?;
        let stream = monitor::connect(&target.monitor_socket, Service::Ssh).await?;
        let guest = Guest { host_key, agent, agent_connections: Arc::new(Semaphore::new(AGENT_CONNECTIONS)) };
        let mut handle = client::connect_stream(Arc::new(configuration()), never_full(stream), guest).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        if !handle.authenticate_publickey(user, key).await?.success() {
            return Err(SessionError::User { user: user.to_owned() });
        }
        Ok(Self { handle })
    }

    /// Opens a channel for one program.
    pub(crate) async fn session_channel(&self) -> Result<Channel<Msg>, SessionError> {
        Ok(self.handle.channel_open_session().await?)
    }
}

/// Returns the stream with room for all that is written to it.
///
/// The SSH library does not read while a write waits. If the guest's server does the same, both wait
/// for ever as soon as much goes in both directions; it is enough that one of them never waits.
fn never_full(stream: UnixStream) -> impl AsyncRead + AsyncWrite + Unpin + Send {
    let (from_guest, mut to_guest) = stream.into_split();
    let (writer, mut outgoing) = tokio::io::duplex(OUTGOING_LIMIT);
    tokio::spawn(async move {
        // A connection that breaks is told by the half that reads.
        drop(tokio::io::copy(&mut outgoing, &mut to_guest).await);
        drop(to_guest.shutdown().await);
    });
    tokio::io::join(from_guest, writer)
}

fn configuration() -> client::Config {
    // The stream never leaves this machine, so nobody can record it for a quantum computer; the
    // default's ML-KEM would only cost a guest time, and an emulated one much of it.
    const KEY_EXCHANGE: &[kex::Name] = &[
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::EXTENSION_SUPPORT_AS_CLIENT,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    ];
    client::Config {
        preferred: Preferred { kex: Cow::Borrowed(KEY_EXCHANGE), ..Preferred::default() },
        ..client::Config::default()
    }
}

/// What the guest's server may ask of this client: nothing but the agent, and that only if the
/// user said so.
struct Guest {
    host_key: PublicKey,
    agent: Option<PathBuf>,
    agent_connections: Arc<Semaphore>,
}

impl client::Handler for Guest {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.host_key.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        // Dropping `reply` refuses the channel.
        let Some(agent) = &self.agent else { return Ok(()) };
        let Ok(permit) = Arc::clone(&self.agent_connections).try_acquire_owned() else { return Ok(()) };
        let Ok(mut agent) = UnixStream::connect(agent).await else { return Ok(()) };
        reply.accept().await;
        tokio::spawn(async move {
            let mut stream = channel.into_stream();
            // Either side may hang up at any time; there is nobody to tell.
            drop(tokio::io::copy_bidirectional(&mut stream, &mut agent).await);
            drop(permit);
        });
        Ok(())
    }

    // The library accepts all of these unless told otherwise; dropping the handle refuses them.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}
