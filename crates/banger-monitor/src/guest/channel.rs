//! The byte stream of the control channel, and its endpoint.

use std::io;

use banger_channel::{Endpoint, Event, ProtocolError};
use mio::net::{UnixListener, UnixStream};
use mio::{Registry, Token};

use crate::host::peer::Peer;

/// While more than this is to be written to the guest, nothing is taken from clients, bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

/// Why the byte stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the guest broke the channel's protocol")]
    Protocol(#[from] ProtocolError),
    #[error("the channel's byte stream broke")]
    Io(#[from] io::Error),
}

/// The control channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Where further byte streams come from, if they can.
    listener: Option<UnixListener>,
    link: Option<Peer>,
    /// The other side takes no more; what it has sent before is still read.
    deaf: bool,
    pub(crate) endpoint: Endpoint,
    /// The guest's program and we know of each other.
    pub(crate) connected: bool,
}

impl Channel {
    /// Returns a channel without a byte stream.
    pub(crate) fn new(listener: Option<UnixListener>) -> Self {
        Self { listener, link: None, deaf: false, endpoint: Endpoint::host(), connected: false }
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
    }

    /// Accepts the newest connection, if there is one.
    pub(crate) fn accept(&mut self) -> Option<UnixStream> {
        let listener = self.listener.as_ref()?;
        std::iter::from_fn(|| listener.accept().ok()).last().map(|(socket, _)| socket)
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
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Ok(Some(length)) => length,
            Err(error) => {
                self.link = None;
                return Err(error.into());
            }
        };
        if let Err(error) = self.endpoint.receive(&buffer[..length]) {
            self.endpoint = Endpoint::host_after(&self.endpoint);
            // A device's byte stream cannot be connected anew, so it goes on.
            if self.listener.is_some() {
                self.link = None;
            }
            return Err(error.into());
        }
        Ok(true)
    }

    /// Writes until the byte stream takes no more. Returns whether it took any. A failure is seen
    /// when everything has been read that came before it.
    pub(crate) fn write(&mut self) -> bool {
        let mut progress = false;
        while let Some(link) = self.link.as_mut().filter(|_| !self.deaf) {
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
