//! The byte stream of the control channel, and its endpoint.

use std::io;

use banger_channel::{Endpoint, Event, ProtocolError};
use banger_types::monitor::DialTerms;
use mio::net::{UnixListener, UnixStream};
use mio::{Registry, Token};

use crate::host::peer::Peer;
use crate::host::vmm;

/// While more than this is to be written to the guest, nothing is taken from clients, bytes.
const OUTPUT_LIMIT: usize = 64 << 10;
/// Longest line with which a VMM answers a dial, bytes.
const ANSWER_LIMIT: usize = 128;

/// Why the byte stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the guest broke the channel's protocol")]
    Protocol(#[from] ProtocolError),
    #[error("the channel's byte stream broke")]
    Io(#[from] io::Error),
    #[error("the VMM does not connect to the guest")]
    NotConnected,
}

/// Where guests knock, and how the monitor connects to them then ([`DialTerms`]).
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: UnixListener,
    pub(crate) terms: DialTerms,
    /// Somebody has knocked, and nobody has looked.
    knocked: bool,
    /// What the VMM has said of the line that answers the dial; nothing once it has.
    answer: Option<Vec<u8>>,
}

impl Door {
    pub(crate) const fn new(listener: UnixListener, terms: DialTerms) -> Self {
        Self { listener, terms, knocked: false, answer: None }
    }

    /// Takes in the VMM's answer. Returns what comes behind it, as soon as it is whole.
    fn take_answer<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ChannelError> {
        let Some(answer) = &mut self.answer else { return Ok(bytes) };
        let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => bytes.split_at(end + 1),
            None => (bytes, &[][..]),
        };
        answer.extend_from_slice(&line[..line.len().min(ANSWER_LIMIT)]);
        if answer.ends_with(b"\n") && answer.starts_with(self.terms.accepted.as_bytes()) {
            self.answer = None;
        } else if answer.ends_with(b"\n") || answer.len() >= ANSWER_LIMIT {
            return Err(ChannelError::NotConnected);
        }
        Ok(rest)
    }
}

/// The control channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Where further byte streams come from, if they can.
    door: Option<Door>,
    link: Option<Peer>,
    /// The other side takes no more; what it has sent before is still read.
    deaf: bool,
    pub(crate) endpoint: Endpoint,
    /// The guest's program and we know of each other.
    pub(crate) connected: bool,
}

impl Channel {
    /// Returns a channel without a byte stream.
    pub(crate) fn new(door: Option<Door>) -> Self {
        Self { door, link: None, deaf: false, endpoint: Endpoint::host(), connected: false }
    }

    /// Puts a new byte stream in the place of the one before.
    pub(crate) fn attach(&mut self, socket: UnixStream, registry: &Registry, token: Token) -> io::Result<()> {
        self.detach();
        self.link = Some(Peer::unix(socket, registry, token)?);
        Ok(())
    }

    /// Lets go of the byte stream, and of everything that was under way in it.
    pub(crate) fn detach(&mut self) {
        self.link = None;
        self.deaf = false;
        self.endpoint = Endpoint::host_after(&self.endpoint);
        if let Some(door) = &mut self.door {
            (door.knocked, door.answer) = (false, None);
        }
    }

    /// Takes in who has knocked.
    pub(crate) fn answer_door(&mut self) {
        if let Some(door) = &mut self.door {
            door.knocked |= std::iter::from_fn(|| door.listener.accept().ok()).count() > 0;
        }
    }

    /// Connects to a guest that has knocked, if there is no connection. While there is one, a knock changes nothing:
    /// it may be anybody's.
    pub(crate) fn dial(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(door) = self.door.as_mut().filter(|door| door.knocked && self.link.is_none()) else {
            return Ok(());
        };
        door.knocked = false;
        let socket = vmm::tell(&door.terms.ask)?;
        self.attach(socket, registry, token)?;
        if let Some(door) = &mut self.door {
            door.answer = Some(Vec::new());
        }
        Ok(())
    }

    /// Whether the VMM has not yet said that the guest has accepted.
    fn is_dialing(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.answer.is_some())
    }

    /// Returns the byte stream, to note its readiness.
    pub(crate) fn link(&mut self) -> Option<&mut Peer> {
        self.link.as_mut()
    }

    /// Reads a bufferful. Returns whether there was any. After an error or at the end the byte
    /// stream is gone, or goes on with an endpoint that waits for the guest's next greeting.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<bool, ChannelError> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let length = match link.read(buffer) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) => {
                self.link = None;
                // Nobody listens in the guest: whoever has knocked has no right to.
                let refused = self.is_dialing();
                let error = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
                // Unless somebody has knocked meanwhile, who may have: then there is more to do.
                let knocked = self.door.as_ref().is_some_and(|door| door.knocked);
                return if refused { Ok(knocked) } else { Err(error()) };
            }
            Ok(Some(length)) => length,
            Err(error) => {
                self.link = None;
                return Err(error.into());
            }
        };
        if let Err(error) = self.receive(&buffer[..length]) {
            self.endpoint = Endpoint::host_after(&self.endpoint);
            if self.door.is_some() {
                self.link = None;
            } else if self.receive(&buffer[..length]).is_err() {
                // A device's byte stream cannot be connected anew, so it goes on: with the greeting of the guest's next
                // program, which may have come behind what is wrong. This was not it.
                self.endpoint = Endpoint::host_after(&self.endpoint);
            }
            return Err(error);
        }
        Ok(true)
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        let bytes = match &mut self.door {
            Some(door) => door.take_answer(bytes)?,
            None => bytes,
        };
        Ok(self.endpoint.receive(bytes)?)
    }

    /// Writes until the byte stream takes no more. Returns whether it took any. A failure is seen
    /// when everything has been read that came before it.
    pub(crate) fn write(&mut self) -> bool {
        let mut progress = false;
        let silent = self.is_dialing();
        while let Some(link) = self.link.as_mut().filter(|_| !self.deaf && !silent) {
            match link.write(self.endpoint.output()) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    self.endpoint.advance_output(length);
                    progress = true;
                }
                Err(_) => self.deaf = true,
            }
        }
        progress
    }

    /// Returns the next event of the endpoint.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.endpoint.next_event()
    }
}

/// Returns how many bytes may be taken from clients for the guest now.
pub(crate) fn room(endpoint: &Endpoint) -> usize {
    OUTPUT_LIMIT.saturating_sub(endpoint.output_len())
}
