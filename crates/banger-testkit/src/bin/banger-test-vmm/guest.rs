//! The guest's side of the control channel.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use banger_channel::{Endpoint, Event, StreamId};
use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, GuestStats, HostMessage, PROTOCOL_NEWEST,
    PROTOCOL_OLDEST, Service, ShutdownAction,
};

use crate::{Behaviour, Machine, print};

/// The port that takes commands, each a line: `poweroff` and `reboot` as from inside of the guest, `panic`,
/// `exit CODE`, `print TEXT`, `stall` for want of room on the host. Every other port is an echo.
pub(crate) const COMMANDS: u16 = 1;

struct Stream {
    service: Service,
    /// The beginning of a line.
    input: Vec<u8>,
    /// What the host has not given credit for yet.
    output: Vec<u8>,
    /// Bytes of `output` that are the host's own, whose credit it gets back when they have gone.
    echo: bool,
    finished: bool,
}

/// A guest that is up.
pub(crate) struct Guest {
    connection: UnixStream,
    endpoint: Endpoint,
    streams: BTreeMap<StreamId, Stream>,
    behaviour: Behaviour,
    machine: Arc<Machine>,
    booted: Instant,
    boot_id: String,
}

impl Guest {
    pub(crate) fn new(connection: UnixStream, behaviour: Behaviour, machine: Arc<Machine>) -> Self {
        let mut session = [0; 16];
        let mut random = std::fs::File::open("/dev/urandom").expect("random bytes");
        random.read_exact(&mut session).expect("random bytes");
        let boot_id = format!("{:032x}", u128::from_be_bytes(session));
        let endpoint = Endpoint::guest(session);
        let (streams, booted) = (BTreeMap::new(), Instant::now());
        Self { connection, endpoint, streams, behaviour, machine, booted, boot_id }
    }

    /// Serves until the host closes the channel.
    pub(crate) fn serve(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.flush().is_err() {
                return;
            }
            let Some(length) = self.connection.read(&mut buffer).ok().filter(|length| *length > 0) else {
                return;
            };
            self.machine.run();
            self.endpoint.receive(&buffer[..length]).expect("the channel's protocol");
            while let Some(event) = self.endpoint.next_event() {
                self.heed(event);
            }
            let streams: Vec<StreamId> = self.streams.keys().copied().collect();
            for stream in streams {
                self.send(stream);
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while self.endpoint.has_output() {
            let written = self.connection.write(self.endpoint.output())?;
            self.endpoint.advance_output(written);
        }
        Ok(())
    }

    fn heed(&mut self, event: Event) {
        match event {
            Event::Incoming(stream, service) => self.offered(stream, &service),
            Event::Data(stream, bytes) => self.take(stream, &bytes),
            Event::Finished(stream) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.finished = true;
                }
            }
            Event::Reset(stream) => drop(self.streams.remove(&stream)),
            Event::Disconnected => self.streams.clear(),
            Event::Connected | Event::Writable(_) | Event::Opened(_) | Event::Refused(..) => {}
        }
    }

    fn offered(&mut self, id: StreamId, service: &str) {
        let service = match service.parse() {
            Ok(Service::Ssh) => return self.endpoint.refuse(id, "a fake guest has no SSH server"),
            Ok(service) => service,
            Err(error) => return self.endpoint.refuse(id, &error.to_string()),
        };
        self.endpoint.accept(id);
        let greet = service == Service::Agent;
        let echo = !matches!(service, Service::Agent | Service::Tcp(COMMANDS));
        let stream = Stream { service, input: Vec::new(), output: Vec::new(), echo, finished: false };
        self.streams.insert(id, stream);
        if greet {
            self.say(id, &GuestMessage::Hello(self.hello()));
        }
    }

    fn hello(&self) -> GuestHello {
        GuestHello {
            protocol_oldest: PROTOCOL_OLDEST,
            protocol_newest: PROTOCOL_NEWEST,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            kernel_release: "0-fake".to_owned(),
            systemd: false,
        }
    }

    fn take(&mut self, id: StreamId, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.echo {
            stream.output.extend_from_slice(bytes);
            return;
        }
        self.endpoint.consumed(id, bytes.len());
        stream.input.extend_from_slice(bytes);
        let is_agent = stream.service == Service::Agent;
        while let Some(line) = self.streams.get_mut(&id).and_then(Stream::line) {
            if is_agent {
                self.agent(id, &line);
            } else {
                self.command(String::from_utf8_lossy(&line).trim());
            }
        }
    }

    fn send(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let sent = self.endpoint.send(id, &stream.output);
        stream.output.drain(..sent);
        if stream.echo {
            self.endpoint.consumed(id, sent);
        }
        if stream.finished && stream.output.is_empty() {
            self.endpoint.finish(id);
            self.streams.remove(&id);
        }
    }

    fn say(&mut self, id: StreamId, message: &GuestMessage) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        serde_json::to_writer(&mut stream.output, message).expect("a message");
        stream.output.push(b'\n');
        self.send(id);
    }

    fn agent(&mut self, id: StreamId, line: &[u8]) {
        match serde_json::from_slice(line).expect("a message of the host") {
            HostMessage::Welcome { .. } => {
                if !self.behaviour.never_ready {
                    self.say(id, &GuestMessage::Ready);
                    print("fake guest: ready");
                }
            }
            HostMessage::Request { id: request_id, request } => {
                let reply = match request {
                    GuestRequest::Stats => GuestReply::Stats(self.stats()),
                    GuestRequest::Trim => GuestReply::Trimmed(4096),
                    GuestRequest::Shutdown(_) | GuestRequest::Sync | GuestRequest::SetClock(_) => {
                        GuestReply::Done
                    }
                };
                self.say(id, &GuestMessage::Reply { id: request_id, result: Ok(reply) });
                if let GuestRequest::Shutdown(action) = request
                    && !self.behaviour.ignore_shutdown
                {
                    self.go_down(action);
                }
            }
        }
    }

    fn stats(&self) -> GuestStats {
        GuestStats {
            uptime_ms: u64::try_from(self.booted.elapsed().as_millis()).unwrap_or(u64::MAX),
            memory_total: 256 << 20,
            memory_available: 128 << 20,
            ..GuestStats::default()
        }
    }

    /// Says so on every connection to the agent, and ends: QEMU is told not to reboot.
    fn go_down(&mut self, action: ShutdownAction) -> ! {
        let is_agent = |(id, stream): (&StreamId, &Stream)| (stream.service == Service::Agent).then_some(*id);
        let agents: Vec<StreamId> = self.streams.iter().filter_map(is_agent).collect();
        for agent in agents {
            self.say(agent, &GuestMessage::Stopping(action));
        }
        print("fake guest: going down");
        // A host that is gone does not hear it.
        self.flush().ok();
        std::process::exit(self.behaviour.exit_at_shutdown)
    }

    fn command(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("poweroff", _) => self.go_down(ShutdownAction::Poweroff),
            ("reboot", _) => self.go_down(ShutdownAction::Reboot),
            ("panic", _) => {
                print("Kernel panic - not syncing: told to");
                std::process::exit(0)
            }
            ("exit", code) => std::process::exit(code.parse().expect("an exit code")),
            ("stall", _) => self.machine.stall(),
            ("print", text) => print(text),
            _ => panic!("unknown command '{line}'"),
        }
    }
}

impl Stream {
    /// Takes a whole line, if there is one.
    fn line(&mut self) -> Option<Vec<u8>> {
        let newline = self.input.iter().position(|byte| *byte == b'\n')?;
        Some(self.input.drain(..=newline).collect())
    }
}
