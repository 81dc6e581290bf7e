//! What a client asks of a connection, answered.
//!
//! Answers are given within the callbacks: russh notes of each channel only whether the *last* request wanted a reply.

use std::collections::HashMap;
use std::sync::Arc;

use banger_types::guest::EXEC_SUBSYSTEM;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, server};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::agent_socket::AgentSocket;
use super::exec::Wanted;
use super::session::Session;
use super::terminal::TerminalRequest;
use super::transport::Backlog;
use super::{Server, forward, hosts, inbox};
use crate::log;
use crate::user::{self, Login};

/// Most variables that a client may set for a session. Their bytes are bounded by the SSH packets they come in.
const MOST_VARIABLES: usize = 1024;
/// Ports below this are for root (ip(7), `ip_unprivileged_port_start`).
const FIRST_UNPRIVILEGED_PORT: u32 = 1024;

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    server: Arc<Server>,
    backlog: Arc<Backlog>,
    /// Who the client has logged in as.
    login: Option<Arc<Login>>,
    /// Channels whose program has not been asked for yet.
    sessions: HashMap<ChannelId, Session>,
    agent_socket: Option<AgentSocket>,
    /// Listeners of `ssh -R`, by what the client called them.
    listeners: HashMap<(String, u32), JoinHandle<()>>,
}

impl Connection {
    /// Returns a client that has not logged in.
    pub(super) fn new(server: Arc<Server>, backlog: Arc<Backlog>) -> Self {
        Self {
            server,
            backlog,
            login: None,
            sessions: HashMap::new(),
            agent_socket: None,
            listeners: HashMap::new(),
        }
    }

    /// Returns who `user` is, if the key may log in.
    fn authenticate(&self, user: &str, key: &PublicKey) -> Option<Login> {
        if !self.server.authorized.iter().any(|authorized| authorized.key_data() == key.key_data()) {
            return None;
        }
        match user::find(&self.server.places.etc, user) {
            Ok(login) => Some(login),
            Err(error) => {
                log!("ssh: login refused: {}", log::chain(&error));
                None
            }
        }
    }

    /// Starts what a session is asked for.
    fn start(
        &mut self,
        id: ChannelId,
        wanted: Wanted,
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        match self.sessions.remove(&id) {
            Some(pending) => {
                session.channel_success(id)?;
                tokio::spawn(pending.run(wanted));
                Ok(())
            }
            // One program for each channel (RFC 4254 section 6.5).
            None => session.channel_failure(id),
        }
    }

    async fn listen(&self, address: &str, port: u32) -> Option<TcpListener> {
        let login = self.login.as_ref()?;
        if login.uid != 0 && (1..FIRST_UNPRIVILEGED_PORT).contains(&port) {
            return None;
        }
        let port = u16::try_from(port).ok()?;
        // Empty and `*` are all addresses (RFC 4254 section 7.1, OpenSSH's client).
        let addresses = match address {
            "" | "*" => hosts::lookup(&self.server.places.etc, "0.0.0.0"),
            name => hosts::lookup(&self.server.places.etc, name),
        };
        TcpListener::bind((*addresses.first()?, port)).await.ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for listener in self.listeners.values() {
            listener.abort();
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(match self.authenticate(user, offer.public_key) {
            Some(_) => Auth::Accept,
            None => Auth::reject(),
        })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(match self.authenticate(user, key.public_key) {
            Some(login) => {
                self.login = Some(Arc::new(login));
                Auth::Accept
            }
            None => Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let Some(login) = &self.login else { return Ok(()) };
        let id = channel.id();
        let (inbox, writer) = inbox::receive(channel, &self.backlog);
        let pending = Session {
            server: Arc::clone(&self.server),
            login: Arc::clone(login),
            handle: session.handle(),
            inbox,
            writer,
            variables: Vec::new(),
            terminal: None,
            agent_socket: None,
        };
        self.sessions.insert(id, pending);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.sessions.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let Some(pending) = self.sessions.get_mut(&channel) else { return session.channel_failure(channel) };
        let size = inbox::window(columns, rows, width, height);
        pending.terminal = Some(TerminalRequest { term: term.to_owned(), size, modes: modes.to_vec() });
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        match self.sessions.get_mut(&channel) {
            Some(pending)
                if user::is_settable_by_client(name) && pending.variables.len() < MOST_VARIABLES =>
            {
                pending.variables.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Wanted::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Wanted::CommandLine(line.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        match name {
            EXEC_SUBSYSTEM => self.start(channel, Wanted::Array, session),
            "sftp" => self.start(channel, Wanted::Sftp, session),
            _ => session.channel_failure(channel),
        }
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let (Some(login), Some(pending)) = (&self.login, self.sessions.get_mut(&channel)) else {
            return Ok(false);
        };
        if self.agent_socket.is_none() {
            let sockets = &self.server.places.sockets;
            match AgentSocket::open(sockets, login, session.handle(), Arc::clone(&self.backlog)) {
                Ok(socket) => self.agent_socket = Some(socket),
                Err(error) => {
                    log!("ssh: no socket for the client's agent: {error}");
                    return Ok(false);
                }
            }
        }
        pending.agent_socket = self.agent_socket.as_ref().map(AgentSocket::path);
        Ok(true)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if self.login.is_none() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let addresses = hosts::lookup(&self.server.places.etc, host);
        let (inbox, writer) = inbox::receive(channel, &self.backlog);
        tokio::spawn(async move {
            match forward::connect(addresses, port).await {
                Ok(stream) => {
                    reply.accept().await;
                    forward::splice(inbox, writer, stream).await;
                }
                Err(reason) => reply.reject(reason).await,
            }
        });
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let Some(listener) = self.listen(address, *port).await else { return Ok(false) };
        let Ok(local) = listener.local_addr() else { return Ok(false) };
        *port = u32::from(local.port());
        let name = (address.to_owned(), *port);
        let serving =
            forward::serve_remote(listener, session.handle(), Arc::clone(&self.backlog), address.to_owned());
        if let Some(before) = self.listeners.insert(name, tokio::spawn(serving)) {
            before.abort();
        }
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        match self.listeners.remove(&(address.to_owned(), port)) {
            Some(listener) => {
                listener.abort();
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
