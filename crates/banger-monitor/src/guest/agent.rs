//! The conversation with the guest's agent, without I/O.

use std::collections::BTreeMap;

use banger_channel::StreamId;
use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, HostMessage, ListeningSockets, PROTOCOL_NEWEST,
    PROTOCOL_OLDEST, PROTOCOL_WITH_SOCKETS, ShutdownAction,
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
    #[error("the guest booted with an older version of banger, which cannot do that; restart it")]
    TooOld,
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
    /// It said what listens.
    Sockets(ListeningSockets),
    /// It answered a request.
    Reply(Question, Result<GuestReply, String>),
}

/// Who asked the agent for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client of the control socket.
    Client(Token),
    /// The monitor, whose host goes down.
    Host,
    /// The monitor, whose host's clock has jumped.
    Clock,
    /// The monitor, which wonders whether the guest is still alive.
    Probe,
}

/// What the agent was asked, as far as that has to be known when it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asker: Asker,
    /// Whether it was to power the guest off.
    pub(crate) poweroff: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitingHello,
    /// There is no protocol that both know. Nothing more is said.
    Incompatible,
    Welcomed {
        protocol: u32,
    },
}

/// One conversation, on one stream.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: StreamId,
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    last_request: u64,
    /// Requests without an answer whose asker is still there.
    waiting: BTreeMap<u64, Question>,
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
                self.handle(message, now_ns)?.into_iter().for_each(&mut hear);
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: GuestMessage, now_ns: u64) -> Result<Option<Heard>, AgentError> {
        let heard = match (self.phase, message) {
            (Phase::AwaitingHello, GuestMessage::Hello(hello)) => {
                let protocol = common_protocol(&hello);
                self.phase = protocol.map_or(Phase::Incompatible, |protocol| Phase::Welcomed { protocol });
                if let Some(protocol) = protocol {
                    self.say(&HostMessage::Welcome { protocol, unix_time_ns: now_ns });
                }
                Heard::Hello { hello, common: protocol.is_some() }
            }
            (Phase::Welcomed { .. }, GuestMessage::Ready) => Heard::Ready,
            (Phase::Welcomed { .. }, GuestMessage::Stopping(action)) => Heard::Stopping(action),
            (Phase::Welcomed { protocol: PROTOCOL_WITH_SOCKETS.. }, GuestMessage::Sockets(sockets)) => {
                Heard::Sockets(sockets)
            }
            (Phase::Welcomed { .. }, GuestMessage::Reply { id, result })
                if (1..=self.last_request).contains(&id) =>
            {
                // Who is gone needs no answer.
                return Ok(self.waiting.remove(&id).map(|question| Heard::Reply(question, result)));
            }
            _ => return Err(AgentError::Order),
        };
        Ok(Some(heard))
    }

    /// Asks the agent for something.
    pub(crate) fn ask(&mut self, request: GuestRequest, asker: Asker) -> Result<(), Unavailable> {
        let Phase::Welcomed { protocol } = self.phase else { return Err(Unavailable::NotConnected) };
        if request.protocol() > protocol {
            return Err(Unavailable::TooOld);
        }
        if self.output.len() > OUTPUT_LIMIT {
            return Err(Unavailable::Busy);
        }
        self.last_request += 1;
        let poweroff = request == GuestRequest::Shutdown(ShutdownAction::Poweroff);
        self.waiting.insert(self.last_request, Question { asker, poweroff });
        self.say(&HostMessage::Request { id: self.last_request, request });
        Ok(())
    }

    /// Forgets a client that is gone. What the agent still answers it is ignored.
    pub(crate) fn forget(&mut self, client: Token) {
        self.waiting.retain(|_, question| question.asker != Asker::Client(client));
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
        self.waiting.into_values().filter_map(|question| match question.asker {
            Asker::Client(client) => Some(client),
            Asker::Host | Asker::Clock | Asker::Probe => None,
        })
    }
}

/// Returns the newest protocol that both sides know.
fn common_protocol(hello: &GuestHello) -> Option<u32> {
    let newest = hello.protocol_newest.min(PROTOCOL_NEWEST);
    let oldest = hello.protocol_oldest.max(PROTOCOL_OLDEST);
    (oldest <= newest).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHUTDOWN: GuestRequest = GuestRequest::Shutdown(ShutdownAction::Poweroff);

    fn welcomed() -> Agent {
        let mut agent = Agent::new(stream());
        let hello = r#"{"hello":{"protocol_oldest":1,"protocol_newest":1,"version":"","boot_id":"","kernel_release":"","systemd":false}}"#;
        agent.receive(format!("{hello}\n").as_bytes(), 1, |_| {}).unwrap();
        agent
    }

    /// Streams cannot be made up: take a real one.
    fn stream() -> StreamId {
        let mut host = banger_channel::Endpoint::host();
        let mut guest = banger_channel::Endpoint::guest([1; 16]);
        host.receive(guest.output()).unwrap();
        guest.advance_output(usize::MAX);
        host.open("agent").unwrap()
    }

    fn reply(agent: &mut Agent, id: u64) -> Result<Vec<Heard>, AgentError> {
        let mut heard = Vec::new();
        let line = format!("{{\"reply\":{{\"id\":{id},\"result\":{{\"Ok\":\"done\"}}}}}}\n");
        agent.receive(line.as_bytes(), 1, |message| heard.push(message)).map(|()| heard)
    }

    #[test]
    fn an_answer_finds_who_asked_even_if_it_comes_out_of_turn() {
        let mut agent = welcomed();
        agent.ask(GuestRequest::Stats, Asker::Client(Token(7))).unwrap();
        agent.ask(SHUTDOWN, Asker::Host).unwrap();
        let heard = reply(&mut agent, 2).unwrap();
        assert!(matches!(heard[..], [Heard::Reply(Question { asker: Asker::Host, poweroff: true }, Ok(_))]));
        let heard = reply(&mut agent, 1).unwrap();
        let client = Asker::Client(Token(7));
        assert!(
            matches!(heard[..], [Heard::Reply(Question { asker, poweroff: false }, Ok(_))] if asker == client)
        );
    }

    #[test]
    fn an_answer_to_a_client_that_is_gone_is_no_error() {
        let mut agent = welcomed();
        agent.ask(GuestRequest::Stats, Asker::Client(Token(7))).unwrap();
        agent.ask(GuestRequest::Stats, Asker::Client(Token(8))).unwrap();
        agent.forget(Token(7));
        assert!(reply(&mut agent, 1).unwrap().is_empty());
        assert_eq!(agent.into_waiting().collect::<Vec<_>>(), [Token(8)]);
    }

    #[test]
    fn an_answer_to_nothing_is_an_error() {
        for id in [0, 2] {
            let mut agent = welcomed();
            agent.ask(GuestRequest::Stats, Asker::Probe).unwrap();
            assert!(matches!(reply(&mut agent, id), Err(AgentError::Order)));
        }
    }
}
