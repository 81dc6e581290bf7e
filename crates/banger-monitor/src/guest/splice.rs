//! A socket of the host joined to a stream of the guest, both ways, with half-close.

use std::io;

use banger_channel::{Backlog, Endpoint, StreamId};

use super::channel::room;
use crate::host::peer::Peer;

/// What a round of relaying came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Nothing could be moved.
    Idle,
    /// Something was moved.
    Progress,
    /// Both directions have ended.
    Over,
    /// The socket broke.
    Broken,
}

/// The pair. At most [`banger_channel::WINDOW`] bytes wait here for the socket.
#[derive(Debug)]
pub(crate) struct Splice {
    peer: Peer,
    stream: StreamId,
    /// The guest has taken the stream.
    pub(crate) opened: bool,
    /// Bytes that were read together with the request for the stream.
    early: Vec<u8>,
    to_socket: Backlog,
    /// Nothing more comes from the socket, or nothing more of it is wanted.
    read_done: bool,
    /// Nothing more comes from the guest.
    guest_done: bool,
    /// The socket has been told so.
    write_done: bool,
}

impl Splice {
    /// Joins a socket to a stream.
    pub(crate) fn new(peer: Peer, stream: StreamId, opened: bool, early: Vec<u8>) -> Self {
        Self {
            peer,
            stream,
            opened,
            early,
            to_socket: Backlog::default(),
            read_done: false,
            guest_done: false,
            write_done: false,
        }
    }

    /// Returns the stream.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Returns the socket, to note its readiness.
    pub(crate) fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    /// Takes bytes of the guest.
    pub(crate) fn receive(&mut self, bytes: Vec<u8>) {
        self.to_socket.push(bytes);
    }

    /// Notes that the guest sends no more.
    pub(crate) fn guest_finished(&mut self) {
        self.guest_done = true;
    }

    /// Notes that the stream is gone: what has come is still delivered.
    pub(crate) fn guest_gone(&mut self) {
        self.guest_done = true;
        self.read_done = true;
        self.early = Vec::new();
    }

    /// Breaks the socket's connection off.
    pub(crate) fn abort(self) {
        self.peer.abort();
    }

    /// Whether bytes of the guest still wait for the socket.
    pub(crate) fn has_output(&self) -> bool {
        !self.to_socket.is_empty()
    }

    /// Moves what can be moved, about a bufferful each way.
    pub(crate) fn pump(&mut self, endpoint: &mut Endpoint, buffer: &mut [u8]) -> Round {
        let moved =
            self.pump_to_guest(endpoint, buffer).and_then(|one| Ok(one | self.pump_to_socket(endpoint)?));
        match moved {
            Err(_) => {
                endpoint.reset(self.stream);
                Round::Broken
            }
            Ok(_) if self.read_done && self.write_done => Round::Over,
            Ok(true) => Round::Progress,
            Ok(false) => Round::Idle,
        }
    }

    fn pump_to_guest(&mut self, endpoint: &mut Endpoint, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.opened || self.read_done {
            return Ok(false);
        }
        let most = endpoint.send_capacity(self.stream).min(room(endpoint)).min(buffer.len());
        if most == 0 {
            return Ok(false);
        }
        if !self.early.is_empty() {
            let length = most.min(self.early.len());
            let sent = endpoint.send(self.stream, &self.early[..length]);
            self.early.drain(..sent);
            return Ok(sent > 0);
        }
        match self.peer.read(&mut buffer[..most])? {
            None => Ok(false),
            Some(0) => {
                self.read_done = true;
                endpoint.finish(self.stream);
                Ok(true)
            }
            // The stream's credit was asked before, so all of it is taken.
            Some(length) => Ok(endpoint.send(self.stream, &buffer[..length]) > 0),
        }
    }

    fn pump_to_socket(&mut self, endpoint: &mut Endpoint) -> io::Result<bool> {
        let mut progress = false;
        while !self.to_socket.is_empty() {
            let Some(length) = self.peer.write(self.to_socket.front())? else { return Ok(progress) };
            progress = true;
            self.to_socket.advance(length);
            endpoint.consumed(self.stream, length);
        }
        if self.guest_done && !self.write_done {
            self.write_done = true;
            progress = true;
            if !self.read_done {
                self.peer.finish()?;
            }
        }
        Ok(progress)
    }
}
