//! The conversation with the guest's agent, without I/O.

use std::collections::BTreeMap;

use banger_channel::StreamId;
use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, HostMessage, PROTOCOL_NEWEST, PROTOCOL_OLDEST,
    ShutdownAction,
};
use mio::Token;

/// Longest line of an agent, bytes.
const LINE_LIMIT: usize = 64 << 10;
/// Most bytes of requests that the agent has not taken yet.
const OUTPUT_LIMIT: usize = 256 << 10;

/// The agent broke the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("the agent sent a line of more than {LINE_LIMIT} bytes")]
    LongLine,
    #[error("the agent sent a line that is no message")]
    NotAMessage(#[source] serde_json::Error),
    #[error("the agent sent its messages in an impossible order")]
    Order,
}

/// A request cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("the guest's agent is not connected")]
    NotConnected,
    #[error("the guest's agent does not take more requests")]
    Busy,
}

/// What the agent said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It introduced itself. It was welcomed unless there is no common protocol.
    Hello { hello: GuestHello, common: bool },
    /// It serves.
    Ready,
    /// It goes down.
    Stopping(ShutdownAction),
    /// It answered the request of this client; `None` if nobody waits for it.
    Reply(Option<Token>, Result<GuestReply, String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitingHello,
    /// There is no protocol that both know. Nothing more is said.
    Incompatible,
    Welcomed,
}

/// One conversation, on one stream.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: StreamId,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    last_request: u64,
    waiting: BTreeMap<u64, Option<Token>>,
}

impl Agent {
    /// Returns a conversation that begins with the agent's hello.
    pub(crate) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            phase: Phase::AwaitingHello,
            input: Vec::new(),
            output: Vec::new(),
            last_request: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Returns the stream on which it takes place.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Takes bytes and calls `hear` for each message, in order. `now_ns` is the host's time.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        mut hear: impl FnMut(Heard),
    ) -> Result<(), AgentError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.input.len() + piece.len() > LINE_LIMIT {
                return Err(AgentError::LongLine);
            }
            self.input.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let message = serde_json::from_slice(&self.input).map_err(AgentError::NotAMessage)?;
                self.input.clear();
                self.input.shrink_to(4096);
                hear(self.handle(message, now_ns)?);
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: GuestMessage, now_ns: u64) -> Result<Heard, AgentError> {
        match (self.phase, message) {
            (Phase::AwaitingHello, GuestMessage::Hello(hello)) => {
                let protocol = common_protocol(&hello);
                self.phase = if protocol.is_some() { Phase::Welcomed } else { Phase::Incompatible };
                if let Some(protocol) = protocol {
                    self.say(&HostMessage::Welcome { protocol, unix_time_ns: now_ns });
                }
                Ok(Heard::Hello { hello, common: protocol.is_some() })
            }
            (Phase::Welcomed, GuestMessage::Ready) => Ok(Heard::Ready),
            (Phase::Welcomed, GuestMessage::Stopping(action)) => Ok(Heard::Stopping(action)),
            (Phase::Welcomed, GuestMessage::Reply { id, result }) => {
                let client = self.waiting.remove(&id).ok_or(AgentError::Order)?;
                Ok(Heard::Reply(client, result))
            }
            _ => Err(AgentError::Order),
        }
    }

    /// Asks the agent for something, for a client or for the monitor itself.
    pub(crate) fn ask(&mut self, request: GuestRequest, client: Option<Token>) -> Result<(), Unavailable> {
        if self.phase != Phase::Welcomed {
            return Err(Unavailable::NotConnected);
        }
        if self.output.len() > OUTPUT_LIMIT {
            return Err(Unavailable::Busy);
        }
        self.last_request += 1;
        self.waiting.insert(self.last_request, client);
        self.say(&HostMessage::Request { id: self.last_request, request });
        Ok(())
    }

    fn say(&mut self, message: &HostMessage) {
        // Writing plain data to memory cannot fail.
        if serde_json::to_writer(&mut self.output, message).is_ok() {
            self.output.push(b'\n');
        }
    }

    /// Returns what is to be sent.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    /// Forgets what was sent.
    pub(crate) fn advance_output(&mut self, sent: usize) {
        self.output.drain(..sent.min(self.output.len()));
    }

    /// Ends the conversation. Returns the clients that wait in vain.
    pub(crate) fn into_waiting(self) -> impl Iterator<Item = Token> {
        self.waiting.into_values().flatten()
    }
}

/// Returns the newest protocol that both sides know.
fn common_protocol(hello: &GuestHello) -> Option<u32> {
    let newest = hello.protocol_newest.min(PROTOCOL_NEWEST);
    let oldest = hello.protocol_oldest.max(PROTOCOL_OLDEST);
    (oldest <= newest).then_some(newest)
}
