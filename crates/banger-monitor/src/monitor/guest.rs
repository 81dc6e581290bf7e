//! The control channel's events, and the agent's words.

use banger_channel::{Event, StreamId};
use banger_types::guest::{
    GuestHello, GuestReply, GuestRequest, PROTOCOL_NEWEST, PROTOCOL_OLDEST, Service, ShutdownAction,
};
use banger_types::monitor::{MonitorPhase, MonitorReply};

use super::automatic::bounded;
use super::client::State;
use super::{CHANNEL_LINK, Monitor, now_ns};
use crate::guest::agent::{Agent, Asker, Heard, Question};
use crate::guest::channel::ChannelError;
use crate::text::printable;

impl Monitor {
    /// Reads from the guest.
    pub(crate) fn pump_channel(&mut self, buffer: &mut [u8]) -> bool {
        if std::mem::take(&mut self.channel_waiting) {
            self.channel.answer_door();
        }
        if let Err(error) = self.channel.dial(self.poll.registry(), CHANNEL_LINK) {
            self.words.complain("cannot connect to the guest", &error);
        }
        let progress = match self.channel.read(buffer) {
            Ok(progress) => progress,
            Err(error) => {
                self.channel_failed(&error);
                true
            }
        };
        while let Some(event) = self.channel.next_event() {
            self.heed(event);
        }
        progress
    }

    /// Writes to the guest.
    pub(crate) fn flush_channel(&mut self) -> bool {
        self.flush_agent();
        self.channel.write()
    }

    fn channel_failed(&mut self, error: &ChannelError) {
        if self.ending.is_none() {
            self.words.complain("the control channel", error);
        }
        self.disconnected();
    }

    fn heed(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected(),
            Event::Disconnected => self.disconnected(),
            Event::Opened(stream) => self.opened(stream),
            Event::Refused(stream, reason) => self.stream_gone(stream, &reason),
            Event::Reset(stream) => self.stream_gone(stream, "the guest broke the stream off"),
            Event::Data(stream, bytes) => self.data(stream, bytes),
            Event::Finished(stream) => self.finished(stream),
            // Who waits for credit asks for it in every round. Guests open no streams.
            Event::Writable(_) | Event::Incoming(..) => {}
        }
    }

    fn connected(&mut self) {
        self.channel.connected = true;
        match self.channel.endpoint.open(&Service::Agent.to_string()) {
            Ok(stream) => self.agent = Some(Agent::new(stream)),
            Err(error) => self.words.complain("cannot open a stream to the agent", &error),
        }
    }

    /// The guest's program is gone, with all streams.
    pub(crate) fn disconnected(&mut self) {
        self.agent_gone();
        if !std::mem::take(&mut self.channel.connected) {
            return;
        }
        for (stream, token) in std::mem::take(&mut self.streams) {
            if let Some(splice) = self.splices.get_mut(&token) {
                splice.guest_gone();
            } else if self.flows.forget(token) {
                // What comes next begins a flow anew.
            } else if self.clients.get(&token).is_some_and(|client| client.state == State::Opening(stream)) {
                self.answer(token, &MonitorReply::Failed("the guest's program was restarted".to_owned()));
            }
        }
    }

    /// Nobody answers requests any more.
    fn agent_gone(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        for client in agent.into_waiting() {
            self.answer(client, &MonitorReply::Failed("the guest's agent went away".to_owned()));
        }
        self.board.update(|status| {
            if status.phase == MonitorPhase::Ready {
                status.phase = MonitorPhase::Booting;
            }
        });
    }

    fn opened(&mut self, stream: StreamId) {
        let Some(token) = self.streams.get(&stream).copied() else { return };
        match self.splices.get_mut(&token) {
            Some(splice) => splice.opened = true,
            None if self.flows.opened(token) => {}
            None => self.client_becomes_stream(token),
        }
    }

    fn stream_gone(&mut self, stream: StreamId, reason: &str) {
        if self.is_agents(stream) {
            self.words.say(&format!("the stream to the agent ended: {}", printable(reason)));
            self.agent_gone();
            return;
        }
        let Some(token) = self.streams.remove(&stream) else { return };
        match self.splices.remove(&token) {
            Some(splice) => splice.abort(),
            None if self.flows.forget(token) => {}
            None => self.answer(token, &MonitorReply::Failed(reason.to_owned())),
        }
    }

    fn data(&mut self, stream: StreamId, bytes: Vec<u8>) {
        if self.is_agents(stream) {
            self.agent_data(stream, &bytes);
            return;
        }
        let Some(token) = self.streams.get(&stream).copied() else { return };
        match self.splices.get_mut(&token) {
            Some(splice) => splice.receive(bytes),
            None => self.flows.receive(token, bytes),
        }
    }

    fn finished(&mut self, stream: StreamId) {
        if self.is_agents(stream) {
            self.channel.endpoint.reset(stream);
            self.agent_gone();
            return;
        }
        let Some(token) = self.streams.get(&stream).copied() else { return };
        match self.splices.get_mut(&token) {
            Some(splice) => splice.guest_finished(),
            None => self.end_flow(token),
        }
    }

    fn is_agents(&self, stream: StreamId) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.stream() == stream)
    }

    fn agent_data(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some(agent) = &mut self.agent else { return };
        let mut heard = Vec::new();
        let result = agent.receive(bytes, now_ns(), |message| heard.push(message));
        self.channel.endpoint.consumed(stream, bytes.len());
        for message in heard {
            self.hear(message);
        }
        if let Err(error) = result {
            self.words.complain("the guest's agent", &error);
            self.channel.endpoint.reset(stream);
            self.agent_gone();
        }
    }

    fn hear(&mut self, message: Heard) {
        match message {
            Heard::Hello { hello, common } => self.hear_hello(hello, common),
            Heard::Ready => self.board.update(|status| {
                if status.phase == MonitorPhase::Booting {
                    status.phase = MonitorPhase::Ready;
                }
            }),
            Heard::Stopping(action) => {
                self.board.update(|status| status.phase = MonitorPhase::Stopping(action));
            }
            Heard::Sockets(sockets) => self.hear_sockets(sockets),
            Heard::Reply(question, result) => self.hear_reply(question, result),
        }
    }

    fn hear_reply(&mut self, question: Question, result: Result<GuestReply, String>) {
        let result = result.map(|reply| match reply {
            GuestReply::Sockets(sockets) => GuestReply::Sockets(bounded(sockets)),
            other => other,
        });
        // Whoever looks makes them known, where the kernel does not.
        if let Ok(GuestReply::Sockets(sockets)) = &result
            && !sockets.told
        {
            self.hear_sockets(sockets.clone());
        }
        match (question.asker, result) {
            (Asker::Client(client), Ok(reply)) => self.answer(client, &MonitorReply::Guest(reply)),
            (Asker::Client(client), Err(reason)) => {
                if question.poweroff {
                    self.boot.poweroff_asked = false;
                }
                self.answer(client, &MonitorReply::Failed(reason));
            }
            (Asker::Probe, _) => self.guest_is_alive(),
            (Asker::Host | Asker::Clock, Ok(_)) => {}
            (Asker::Host, Err(reason)) => {
                self.words.say(&format!("the guest does not shut down: {}", printable(&reason)));
            }
            (Asker::Clock, Err(reason)) => {
                self.words.say(&format!("the guest does not set its clock: {}", printable(&reason)));
            }
        }
    }

    fn hear_hello(&mut self, hello: GuestHello, common: bool) {
        if !common {
            self.words.say(&format!(
                "the guest's agent speaks protocols {} to {}, this monitor {PROTOCOL_OLDEST} to {PROTOCOL_NEWEST}",
                hello.protocol_oldest, hello.protocol_newest
            ));
        }
        if self.board.status().guest.as_ref().is_some_and(|before| before.boot_id != hello.boot_id) {
            self.forget_sockets();
        }
        self.board.update(|status| {
            // A kernel that was started anew is not going down any more.
            let rebooted = status.guest.as_ref().is_some_and(|before| before.boot_id != hello.boot_id);
            if rebooted && matches!(status.phase, MonitorPhase::Stopping(_)) {
                status.phase = MonitorPhase::Booting;
            }
            status.guest = Some(hello);
        });
        self.ask_for_wanted_shutdown();
    }

    /// Asks the agent to power the guest off, if that is wanted and the agent is there.
    pub(crate) fn ask_for_wanted_shutdown(&mut self) {
        let Some(action) = self.wanted_shutdown else { return };
        if let Some(agent) = &mut self.agent
            && agent.ask(GuestRequest::Shutdown(action), Asker::Host).is_ok()
        {
            self.wanted_shutdown = None;
        }
    }

    /// Tells the guest the time. One that is not there yet is told it when it is welcomed.
    pub(crate) fn set_guests_clock(&mut self) {
        if let Some(agent) = &mut self.agent
            && let Err(error) = agent.ask(GuestRequest::SetClock(now_ns()), Asker::Clock)
        {
            self.words.complain("the guest is not told of the clock's jump", &error);
        }
    }

    /// Hands the agent what there is to say to it.
    pub(crate) fn flush_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            let sent = self.channel.endpoint.send(agent.stream(), agent.output());
            agent.advance_output(sent);
        }
    }

    /// Returns what the guest's agent announced last, if the guest is going down.
    pub(crate) fn announced(&self) -> Option<ShutdownAction> {
        match self.board.status().phase {
            MonitorPhase::Stopping(action) => Some(action),
            _ => None,
        }
    }
}
