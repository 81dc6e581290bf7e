//! Clients that are attached to the serial console: what the guest prints goes to all of them, and what they type to it.
//!
//! Nobody holds up the guest: what a client does not read in time is left out, and it is told how much that was. The
//! guest may hold up the clients: what it does not read stays with them.

use std::io;

use banger_channel::Backlog;
use banger_types::monitor::MonitorReply;
use mio::Token;

use super::Monitor;
use super::client::{Client, State};
use crate::host::keyboard::Keyboard;
use crate::host::peer::Peer;

/// Most attachments at a time.
const ATTACHMENT_LIMIT: usize = 16;
/// Most bytes that wait for a client that reads slowly.
const OUTPUT_LIMIT: usize = 256 << 10;
/// Most bytes that are taken from a client at a time.
const INPUT_SIZE: usize = 4 << 10;

/// What a round with a client came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Idle,
    Progress,
    Over,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) peer: Peer,
    /// What the client has typed and the guest has no room for.
    input: Vec<u8>,
    /// The client has closed its side, and may still read.
    input_ended: bool,
    output: Backlog,
    /// How many bytes are left out after those that wait.
    left_out: usize,
}

impl Attachment {
    fn new(peer: Peer, early: Vec<u8>) -> Self {
        Self { peer, input: early, input_ended: false, output: Backlog::default(), left_out: 0 }
    }

    /// Takes what the guest has printed.
    fn print(&mut self, bytes: &[u8]) {
        if self.peer.hung_up {
            return;
        }
        if self.left_out > 0 || self.output.len() + bytes.len() > OUTPUT_LIMIT {
            self.left_out += bytes.len();
        } else {
            self.output.push(bytes.to_vec());
        }
    }

    /// Whether there is something that the client has not been given.
    pub(crate) fn has_output(&self) -> bool {
        !self.peer.hung_up && (!self.output.is_empty() || self.left_out > 0)
    }

    fn pump(&mut self, keyboard: &mut Keyboard, buffer: &mut [u8]) -> Round {
        let Ok(read) = self.pump_input(keyboard, buffer) else { return Round::Over };
        let shown = self.pump_output().unwrap_or_else(|_| {
            self.peer.hung_up = true;
            true
        });
        // What a client has typed before it went is typed, unless the guest does not read.
        let typed = self.input_ended && self.input.is_empty() || !keyboard.writable;
        match (self.peer.hung_up && typed, read || shown) {
            (true, _) => Round::Over,
            (false, true) => Round::Progress,
            (false, false) => Round::Idle,
        }
    }

    fn pump_output(&mut self) -> io::Result<bool> {
        let mut progress = false;
        while self.has_output() {
            if self.output.is_empty() {
                let left_out = std::mem::take(&mut self.left_out);
                self.output.push(format!("\r\n[{left_out} bytes left out]\r\n").into_bytes());
            }
            let Some(length) = self.peer.write(self.output.front())? else { break };
            self.output.advance(length);
            progress = true;
        }
        Ok(progress)
    }

    fn pump_input(&mut self, keyboard: &mut Keyboard, buffer: &mut [u8]) -> io::Result<bool> {
        let mut progress = false;
        if self.input.is_empty() && !self.input_ended {
            let most = buffer.len().min(INPUT_SIZE);
            if let Some(length) = self.peer.read(&mut buffer[..most])? {
                self.input_ended = length == 0;
                self.input.extend_from_slice(&buffer[..length]);
                progress = true;
            }
        }
        let typed = keyboard.write(&self.input);
        self.input.drain(..typed);
        Ok(progress || typed > 0)
    }
}

impl Monitor {
    /// Makes a client that has asked for the console into an attachment. What it typed with its request is not lost.
    pub(crate) fn attach(&mut self, client: &mut Client) -> Result<Option<MonitorReply>, String> {
        if self.attachments.len() >= ATTACHMENT_LIMIT {
            return Err(format!("its console has {ATTACHMENT_LIMIT} clients already"));
        }
        client.state = State::Attaching;
        Ok(Some(MonitorReply::Connected))
    }

    /// Takes over a client that has been told that it is attached.
    pub(crate) fn client_becomes_attachment(&mut self, token: Token, client: Client) {
        let (peer, early) = client.into_stream();
        self.attachments.insert(token, Attachment::new(peer, early));
    }

    /// Gives what the guest has printed to whoever is attached.
    pub(crate) fn print_to_attachments(&mut self, bytes: &[u8]) {
        self.attachments.values_mut().for_each(|attachment| attachment.print(bytes));
    }

    /// Moves bytes between clients and the console.
    pub(crate) fn pump_attachments(&mut self, buffer: &mut [u8]) -> bool {
        let mut progress = false;
        self.attachments.retain(|_, attachment| {
            let round = attachment.pump(&mut self.keyboard, buffer);
            progress |= round != Round::Idle;
            round != Round::Over
        });
        progress
    }
}
