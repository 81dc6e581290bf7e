//! Connections to the control socket: accepting, reading, and the relays that some become.

use std::io;

use banger_types::monitor::MonitorReply;
use mio::Token;
use mio::net::UnixStream;

use super::Monitor;
use super::client::{Client, Input, State};
use crate::guest::splice::{Round, Splice};
use crate::host::peer::Peer;

/// Most clients at a time, streams not counted.
const CLIENT_LIMIT: usize = 256;
/// Most relayed connections at a time. With clients and forwards they stay below the usual limit of
/// 1024 descriptors.
pub(crate) const SPLICE_LIMIT: usize = 384;

impl Monitor {
    /// Accepts what waits at the control socket.
    pub(crate) fn accept_clients(&mut self) -> bool {
        let mut progress = false;
        while self.control_ready {
            match self.control.accept() {
                Ok((socket, _)) => {
                    progress = true;
                    if let Err(error) = self.admit(socket) {
                        self.words.complain("a client was turned away", &error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.control_ready = false,
                // For want of descriptors, say: it is tried again when anything has happened.
                Err(_) => break,
            }
        }
        progress
    }

    fn admit(&mut self, socket: UnixStream) -> io::Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        if peer.uid != rustix::process::geteuid() {
            return Err(io::Error::other(format!("it runs as uid {}", peer.uid.as_raw())));
        }
        let token = self.new_token();
        let mut client = Client::new(Peer::unix(socket, self.registry(), token)?);
        if self.clients.len() >= CLIENT_LIMIT {
            client.say(&MonitorReply::Failed("the monitor has too many clients".to_owned()));
            client.flush()?;
            return Ok(());
        }
        self.clients.insert(token, client);
        Ok(())
    }

    /// Serves every client a little.
    pub(crate) fn pump_clients(&mut self, buffer: &mut [u8]) -> bool {
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        tokens.into_iter().fold(false, |progress, token| progress | self.pump_client(token, buffer))
    }

    /// Serves one client. With an empty buffer it is only written to.
    pub(crate) fn pump_client(&mut self, token: Token, buffer: &mut [u8]) -> bool {
        // It is out of the map while it is served, so that a request may change everything else.
        let Some(mut client) = self.clients.remove(&token) else { return false };
        let served = self.serve(token, &mut client, buffer);
        match served {
            Ok(_) if client.state == State::Attaching && !client.has_output() => {
                self.client_becomes_attachment(token, client);
                true
            }
            Ok(progress) if !client.is_over() => {
                self.clients.insert(token, client);
                progress
            }
            _ => {
                self.forget(token, client.state);
                true
            }
        }
    }

    /// Nobody waits any more for what a client that is gone has waited for.
    fn forget(&mut self, token: Token, state: State) {
        match (state, &mut self.agent) {
            (State::Opening(stream), _) => {
                self.streams.remove(&stream);
                self.channel.endpoint.reset(stream);
            }
            (State::AwaitingGuest, Some(agent)) => agent.forget(token),
            _ => {}
        }
    }

    fn serve(&mut self, token: Token, client: &mut Client, buffer: &mut [u8]) -> io::Result<bool> {
        if self.has_news_for(client) && !client.has_output() {
            client.state = State::Watching { told: self.board.generation() };
            client.say(self.board.published());
        }
        let flushed = client.flush()?;
        let progress = match client.read(buffer)? {
            Input::Nothing => false,
            Input::Some => true,
            Input::Line(line) => {
                self.request(token, client, &line);
                true
            }
            Input::TooLong => {
                client.say(&MonitorReply::Failed("the request is too long".to_owned()));
                client.state = State::Closing;
                true
            }
        };
        Ok(flushed | progress | client.flush()?)
    }

    /// Writes the state to every watcher that does not know it. One that reads slowly is told the
    /// newest state only.
    pub(crate) fn tell_watchers(&mut self) {
        let news: Vec<Token> = self
            .clients
            .iter()
            .filter(|(_, client)| self.has_news_for(client))
            .map(|(token, _)| *token)
            .collect();
        for token in news {
            self.pump_client(token, &mut []);
        }
    }

    /// Whether the client watches and does not know the state as it was published last.
    pub(crate) fn has_news_for(&self, client: &Client) -> bool {
        matches!(client.state, State::Watching { told } if told != self.board.generation())
    }

    /// Answers a client that waits.
    pub(crate) fn answer(&mut self, token: Token, reply: &MonitorReply) {
        if let Some(client) = self.clients.get_mut(&token) {
            client.state = State::Idle;
            client.say(reply);
        }
    }

    /// Makes a client that has got its stream into a relay.
    pub(crate) fn client_becomes_stream(&mut self, token: Token) {
        let Some(mut client) = self.clients.remove(&token) else { return };
        let State::Opening(stream) = client.state else { return };
        client.say(&MonitorReply::Connected);
        // The reply is one short line on a socket with nothing else in it: it fits, or the client
        // is gone.
        if client.flush().is_ok() && !client.has_output() {
            let (peer, early) = client.into_stream();
            self.splices.insert(token, Splice::new(peer, stream, true, early));
        } else {
            self.streams.remove(&stream);
            self.channel.endpoint.reset(stream);
        }
    }

    /// Moves bytes between sockets and the guest.
    pub(crate) fn pump_splices(&mut self, buffer: &mut [u8]) -> bool {
        let mut progress = false;
        let mut over = Vec::new();
        for (token, splice) in &mut self.splices {
            match splice.pump(&mut self.channel.endpoint, buffer) {
                Round::Idle => {}
                Round::Progress => progress = true,
                Round::Over | Round::Broken => over.push(*token),
            }
        }
        for token in over {
            progress = true;
            if let Some(splice) = self.splices.remove(&token) {
                self.streams.remove(&splice.stream());
            }
        }
        progress
    }
}
