//! One side of the channel.

use std::collections::{BTreeMap, VecDeque};

use crate::MAX_STREAMS;
use crate::error::ProtocolError;
use crate::frame::{Decoded, Frame, Kind, MAX_PAYLOAD, MAX_TEXT, PADDING, SESSION, VERSION, decode, encode};
use crate::scan::Scan;
use crate::stream::{Stream, StreamId};

/// An output or input buffer larger than this is given back when it is empty, bytes.
const KEEP_BUFFER: usize = 64 << 10;

/// What happened on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Both sides know of each other.
    Connected,
    /// The peer's program is gone, or was replaced. All streams are gone, too.
    Disconnected,
    /// The guest took the stream: data may flow.
    Opened(StreamId),
    /// The stream is gone: the guest does not serve it. With the reason, for people.
    Refused(StreamId, String),
    /// The host opened a stream to this service: answer with [`Endpoint::accept`] or
    /// [`Endpoint::refuse`].
    Incoming(StreamId, String),
    /// Bytes. Report them with [`Endpoint::consumed`] once they have been passed on.
    Data(StreamId, Vec<u8>),
    /// There is credit again.
    Writable(StreamId),
    /// The peer sends no more. The stream is gone when we have finished, too.
    Finished(StreamId),
    /// The peer abandoned the stream; it is gone.
    Reset(StreamId),
}

/// There is no peer to open a stream to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest is not connected")]
pub struct NotConnected;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Host,
    Guest,
}

/// One side of the channel: bytes in, events out; calls in, bytes out.
#[derive(Debug)]
pub struct Endpoint {
    role: Role,
    /// Looking for the peer; `None` when connected.
    scan: Option<Scan>,
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// Set by the first violation; nothing is read any more.
    failed: Option<ProtocolError>,
    output: Vec<u8>,
    /// How much of `output` has been written.
    written: usize,
    events: VecDeque<Event>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams up to this number have been opened at some time.
    last_stream: u32,
}

impl Endpoint {
    fn new(role: Role, scan: Scan) -> Self {
        Self {
            role,
            scan: Some(scan),
            partial: Vec::new(),
            failed: None,
            output: Vec::new(),
            written: 0,
            events: VecDeque::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
        }
    }

    /// Returns a host's side, which waits for the guest's HELLO.
    pub fn host() -> Self {
        Self::new(Role::Host, Scan::for_hello())
    }

    /// Returns a host's side that takes the place of `previous`, on the same byte stream or another.
    /// Its streams have higher numbers: whoever still holds one of `previous` cannot touch them.
    pub fn host_after(previous: &Self) -> Self {
        Self { last_stream: previous.last_stream, ..Self::host() }
    }

    /// Returns a guest's side, with padding and HELLO in its output. `session` has to be random.
    pub fn guest(session: [u8; SESSION]) -> Self {
        let mut endpoint = Self::new(Role::Guest, Scan::for_acknowledge(&session));
        endpoint.output.resize(PADDING, 0);
        let mut payload = [0; 4 + SESSION];
        payload[..4].copy_from_slice(&VERSION.to_le_bytes());
        payload[4..].copy_from_slice(&session);
        encode(&mut endpoint.output, Kind::Hello, 0, &payload);
        endpoint
    }

    /// Takes bytes that were read. An error is fatal for the connection: every later call returns
    /// it again. On a byte stream that cannot be connected anew a host may go on with
    /// [`Endpoint::host_after`], which waits for the next HELLO.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = loop {
            let step = match &mut self.scan {
                Some(_) => self.search(&mut bytes),
                None => self.take_frame(&mut bytes),
            };
            match step {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Returns what happened next, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns bytes to be written now.
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// Forgets the first `written` bytes of [`Endpoint::output`]. To be called right after the
    /// write, before [`Endpoint::receive`], which may drop the output.
    pub fn advance_output(&mut self, written: usize) {
        self.written = (self.written + written).min(self.output.len());
        if self.written == self.output.len() {
            self.clear_output();
        } else if self.written > KEEP_BUFFER {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// Returns whether there is something to write.
    pub fn has_output(&self) -> bool {
        self.output_len() > 0
    }

    /// Returns how many bytes there are to write. Drivers stop to [`Endpoint::send`] when it is
    /// large: credit alone bounds each stream, not their sum.
    pub fn output_len(&self) -> usize {
        self.output.len() - self.written
    }

    /// Opens a stream to a service of the guest; [`Event::Opened`] or [`Event::Refused`] follows.
    /// Only the host can. Too many streams, or a name of more than [`MAX_TEXT`] bytes, are refused
    /// without asking the guest.
    pub fn open(&mut self, service: &str) -> Result<StreamId, NotConnected> {
        if self.role != Role::Host || self.scan.is_some() || self.failed.is_some() {
            return Err(NotConnected);
        }
        self.last_stream = self.last_stream.checked_add(1).ok_or(NotConnected)?;
        let id = StreamId::from_wire(self.last_stream);
        let refusal = if service.len() > MAX_TEXT {
            Some("the service's name is too long")
        } else if self.streams.len() >= MAX_STREAMS {
            Some("too many streams are open")
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.events.push_back(Event::Refused(id, reason.to_owned()));
        } else {
            self.streams.insert(id, Stream::new());
            self.emit(Kind::Open, id, service.as_bytes());
        }
        Ok(id)
    }

    /// Takes an incoming stream. Does nothing when it is gone by now.
    pub fn accept(&mut self, id: StreamId) {
        if let Some(stream) = self.offered(id) {
            stream.opened = true;
            self.emit(Kind::Opened, id, &[]);
        }
    }

    /// Turns an incoming stream down; no event of it comes any more. The reason is cut at [`MAX_TEXT`] bytes.
    pub fn refuse(&mut self, id: StreamId, reason: &str) {
        let offered = self.offered(id).is_some();
        self.abandon(id);
        if offered {
            let end = reason.floor_char_boundary(MAX_TEXT);
            self.emit(Kind::Refused, id, &reason.as_bytes()[..end]);
        }
    }

    /// Returns how many bytes [`Endpoint::send`] would take now; 0 for a stream that is gone.
    pub fn send_capacity(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, Stream::send_capacity)
    }

    /// Sends as much of `bytes` as there is credit for, and returns how much that was.
    /// [`Event::Writable`] follows when there is credit again.
    pub fn send(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        let taken = bytes.len().min(stream.send_capacity());
        stream.sent(taken);
        for chunk in bytes[..taken].chunks(MAX_PAYLOAD) {
            self.emit(Kind::Data, id, chunk);
        }
        taken
    }

    /// Gives credit back for bytes of [`Event::Data`] that have been passed on.
    pub fn consumed(&mut self, id: StreamId, bytes: usize) {
        if let Some(credit) = self.streams.get_mut(&id).and_then(|stream| stream.consumed(bytes)) {
            self.emit(Kind::Credit, id, &credit.to_le_bytes());
        }
    }

    /// Says that we send no more. Further data still arrives.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.finish_sent || (self.role == Role::Guest && !stream.opened) {
            return;
        }
        stream.finish_sent = true;
        self.emit(Kind::Finish, id, &[]);
        self.forget_if_over(id);
    }

    /// Abandons a stream both ways. No event of it comes any more.
    pub fn reset(&mut self, id: StreamId) {
        if self.abandon(id) {
            self.emit(Kind::Reset, id, &[]);
        }
    }
}

impl Endpoint {
    /// Looks for the peer's first frame. Returns whether it was found.
    fn search(&mut self, bytes: &mut &[u8]) -> Result<bool, ProtocolError> {
        let Some(scan) = &mut self.scan else { return Ok(true) };
        let Some(end) = scan.look(bytes) else { return Ok(false) };
        *bytes = &bytes[end..];
        let hello = match (self.role, scan.frame()) {
            (Role::Host, Some(frame)) => Some(frame.hello()?),
            _ => None,
        };
        if let Some((version, session)) = hello {
            self.greeted(version, session)?;
        } else {
            self.scan = None;
            self.events.push_back(Event::Connected);
        }
        Ok(true)
    }

    /// Takes one frame from what is left over and `bytes`. Returns whether there may be another.
    fn take_frame(&mut self, bytes: &mut &[u8]) -> Result<bool, ProtocolError> {
        if self.partial.is_empty() {
            let (progress, used) = self.take_decoded(bytes)?;
            if progress {
                *bytes = &bytes[used..];
                return Ok(true);
            }
            self.partial.extend_from_slice(bytes);
            *bytes = &[];
            return Ok(false);
        }
        // A frame came in pieces: complete it with no more bytes than it needs.
        let missing = missing(&self.partial).min(bytes.len());
        self.partial.extend_from_slice(&bytes[..missing]);
        *bytes = &bytes[missing..];
        let partial = std::mem::take(&mut self.partial);
        let (progress, _) = self.take_decoded(&partial)?;
        self.partial = partial;
        if progress {
            self.partial.clear();
        }
        Ok(progress || !bytes.is_empty())
    }

    /// Handles what `bytes` begin with. Returns whether that was anything whole, and its length.
    fn take_decoded(&mut self, bytes: &[u8]) -> Result<(bool, usize), ProtocolError> {
        match decode(bytes)? {
            Decoded::Incomplete => Ok((false, 0)),
            Decoded::Padding(length) => Ok((true, length)),
            Decoded::Abandoned(length) if self.role == Role::Host => {
                self.disconnect();
                self.scan = Some(Scan::for_hello());
                Ok((true, length))
            }
            // The host does not restart within a guest's session.
            Decoded::Abandoned(_) => Err(ProtocolError::Malformed("unfinished")),
            Decoded::Frame(frame, length) => self.handle(&frame).map(|()| (true, length)),
        }
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        match (self.role, frame.kind) {
            (Role::Host, Kind::Hello) => {
                let (version, session) = frame.hello()?;
                self.disconnect();
                self.greeted(version, session)
            }
            (Role::Guest, Kind::Open) => self.handle_open(frame),
            (Role::Host, Kind::Opened | Kind::Refused)
            | (_, Kind::Data | Kind::Credit | Kind::Finish | Kind::Reset) => self.handle_stream(frame),
            _ => Err(frame.unexpected()),
        }
    }

    /// Answers a HELLO.
    fn greeted(&mut self, version: u32, session: [u8; SESSION]) -> Result<(), ProtocolError> {
        if version != VERSION {
            return Err(ProtocolError::UnsupportedVersion(version));
        }
        self.scan = None;
        self.clear_output();
        encode(&mut self.output, Kind::Acknowledge, 0, &session);
        self.events.push_back(Event::Connected);
        Ok(())
    }

    fn disconnect(&mut self) {
        self.streams.clear();
        self.clear_output();
        self.events.push_back(Event::Disconnected);
    }

    fn handle_open(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let service = frame.text()?;
        if frame.stream.wire() <= self.last_stream {
            return Err(frame.unexpected());
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(ProtocolError::TooManyStreams);
        }
        self.last_stream = frame.stream.wire();
        self.streams.insert(frame.stream, Stream::new());
        self.events.push_back(Event::Incoming(frame.stream, service));
        Ok(())
    }

    fn handle_stream(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        let id = frame.stream;
        let Some(stream) = self.streams.get_mut(&id) else {
            // Frames may still be under way to a stream that we have reset.
            return match id.wire() {
                number if number > 0 && number <= self.last_stream => Ok(()),
                _ => Err(ProtocolError::UnknownStream { kind: frame.kind.name(), stream: id }),
            };
        };
        match frame.kind {
            Kind::Opened if !stream.opened => {
                frame.empty()?;
                stream.opened = true;
                self.events.push_back(Event::Opened(id));
            }
            Kind::Refused if !stream.opened => {
                let reason = frame.text()?;
                self.streams.remove(&id);
                self.events.push_back(Event::Refused(id, reason));
            }
            Kind::Data if stream.opened && !stream.finish_received => {
                if frame.payload.is_empty() {
                    return Err(frame.malformed());
                }
                if !stream.received(frame.payload.len()) {
                    return Err(ProtocolError::CreditOverrun(id));
                }
                self.events.push_back(Event::Data(id, frame.payload.to_vec()));
            }
            Kind::Credit if stream.opened => {
                let credit = frame.number()?;
                if credit == 0 {
                    return Err(frame.malformed());
                }
                if !stream.credited(usize::try_from(credit).unwrap_or(usize::MAX)) {
                    return Err(ProtocolError::CreditOverflow(id));
                }
                if !stream.finish_sent {
                    self.events.push_back(Event::Writable(id));
                }
            }
            // A host may finish before the guest has answered; a guest has to answer first.
            Kind::Finish if !stream.finish_received && (stream.opened || self.role == Role::Guest) => {
                frame.empty()?;
                stream.finish_received = true;
                self.events.push_back(Event::Finished(id));
                self.forget_if_over(id);
            }
            Kind::Reset => {
                frame.empty()?;
                self.streams.remove(&id);
                self.events.push_back(Event::Reset(id));
            }
            _ => return Err(frame.unexpected()),
        }
        Ok(())
    }

    /// Returns the stream if it waits for our answer.
    fn offered(&mut self, id: StreamId) -> Option<&mut Stream> {
        let guest = self.role == Role::Guest;
        self.streams.get_mut(&id).filter(|stream| guest && !stream.opened)
    }

    fn emit(&mut self, kind: Kind, id: StreamId, payload: &[u8]) {
        encode(&mut self.output, kind, id.wire(), payload);
    }

    /// Forgets a stream and what its caller has not heard of it. Returns whether there was one.
    fn abandon(&mut self, id: StreamId) -> bool {
        self.events.retain(|event| event.stream() != Some(id));
        self.streams.remove(&id).is_some()
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    fn clear_output(&mut self) {
        self.output.clear();
        self.output.shrink_to(KEEP_BUFFER);
        self.written = 0;
    }
}

impl Event {
    /// Returns the stream that the event is about.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Connected | Self::Disconnected => None,
            Self::Opened(id)
            | Self::Refused(id, _)
            | Self::Incoming(id, _)
            | Self::Data(id, _)
            | Self::Writable(id)
            | Self::Finished(id)
            | Self::Reset(id) => Some(*id),
        }
    }
}

/// Returns how many more bytes the frame that begins here needs: those of its header, and when
/// these are there, those to its end.
fn missing(partial: &[u8]) -> usize {
    use crate::frame::HEADER;
    match partial.first_chunk::<HEADER>() {
        None => HEADER - partial.len(),
        Some(header) => {
            let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
            (HEADER + length + 1).saturating_sub(partial.len())
        }
    }
}
