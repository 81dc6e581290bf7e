//! One connection to the control socket, as long as it speaks in lines.

use std::io;

use banger_channel::StreamId;
use serde::Serialize;

use crate::host::peer::Peer;

/// Longest request, bytes.
const LINE_LIMIT: usize = 1 << 20;
/// How much is read at a time, bytes: at most this much of a stream's first bytes comes with the
/// request for it.
const READ_SIZE: usize = 4 << 10;

/// What the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its own next request.
    Idle,
    /// Changes. It was told the state of this generation.
    Watching { told: u64 },
    /// The agent's answer.
    AwaitingGuest,
    /// The VMM's end.
    AwaitingEnd,
    /// The guest's answer to the opening of this stream.
    Opening(StreamId),
    /// Nothing: it becomes an attachment of the console when it has got its answer.
    Attaching,
    /// Nothing: the connection closes when it has got what was written to it.
    Closing,
}

/// What reading from a client came to.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing that could be acted on.
    Nothing,
    /// Something, but no whole line.
    Some,
    /// A request, without its newline.
    Line(Vec<u8>),
    /// A request that is too long.
    TooLong,
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) state: State,
    input: Vec<u8>,
    /// How much of `input` is known to have no newline.
    searched: usize,
    output: Vec<u8>,
    ended: bool,
}

impl Client {
    /// Returns a client that has said nothing yet.
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, state: State::Idle, input: Vec::new(), searched: 0, output: Vec::new(), ended: false }
    }

    /// Queues a line.
    pub(crate) fn say(&mut self, line: &impl Serialize) {
        // Writing plain data to memory cannot fail.
        if serde_json::to_writer(&mut self.output, line).is_ok() {
            self.output.push(b'\n');
        }
    }

    /// Whether lines wait to be written.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Writes what can be written. Returns whether anything was.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let mut progress = false;
        while let Some(length) = self.peer.write(&self.output)? {
            self.output.drain(..length);
            progress = true;
        }
        Ok(progress)
    }

    /// Reads a request, if the client is to speak at all.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        match self.state {
            State::Idle if !self.has_output() => {}
            State::Watching { .. } => return self.read_nothing(buffer),
            _ => return Ok(Input::Nothing),
        }
        if let Some(line) = self.take_line() {
            return Ok(Input::Line(line));
        }
        if self.input.len() > LINE_LIMIT {
            return Ok(Input::TooLong);
        }
        let length = buffer.len().min(READ_SIZE);
        match self.peer.read(&mut buffer[..length])? {
            None => Ok(Input::Nothing),
            Some(0) => {
                self.ended = true;
                self.state = State::Closing;
                Ok(Input::Some)
            }
            Some(length) => {
                self.input.extend_from_slice(&buffer[..length]);
                Ok(self.take_line().map_or(Input::Some, Input::Line))
            }
        }
    }

    /// A watcher has nothing more to say; its end is all that counts.
    fn read_nothing(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        match self.peer.read(buffer)? {
            Some(0) => {
                self.ended = true;
                Ok(Input::Nothing)
            }
            None => Ok(Input::Nothing),
            Some(_) => Ok(Input::Some),
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let Some(newline) = self.input[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.input.len();
            return None;
        };
        let rest = self.input.split_off(self.searched + newline + 1);
        let mut line = std::mem::replace(&mut self.input, rest);
        line.pop();
        self.searched = 0;
        Some(line)
    }

    /// Whether there is no use in keeping the connection.
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Idle => false,
            State::Closing => !self.has_output(),
            State::Watching { .. } => self.ended || self.peer.hung_up,
            // A client may well close its sending side and wait for the answer.
            State::AwaitingGuest | State::AwaitingEnd | State::Opening(_) | State::Attaching => {
                self.peer.hung_up
            }
        }
    }

    /// Ends the conversation in lines: returns the connection and what was read beyond the request.
    pub(crate) fn into_stream(self) -> (Peer, Vec<u8>) {
        (self.peer, self.input)
    }
}
