//! The guest's side of the control channel.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use banger_channel::{Endpoint, Event, StreamId};
use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, GuestStats, HostMessage, ListeningSocket,
    ListeningSockets, PROTOCOL_NEWEST, PROTOCOL_OLDEST, Service, ShutdownAction, Transport,
};

use crate::{Behaviour, Machine, print};

/// The port that takes commands, each a line: `poweroff` and `reboot` as from inside of the guest, `panic`,
/// `exit CODE`, `print TEXT`, `stall` for want of room on the host; `listen PORT NAME` and `close PORT` for a server in the
/// guest, `flap PORT TIMES` for one that comes and goes so often, `hush` for a kernel that tells nothing of that; `lead ADDRESS`
/// has the server of HTTP send everybody there. And what a
/// hostile agent does: `endless MIB` says so much in one line, `say TEXT` a line that may be anything, `mute` answers nothing more.
/// Every other port is an echo, but for [`HTTP`].
pub(crate) const COMMANDS: u16 = 1;
/// The port that answers as a server of HTTP.
pub(crate) const HTTP: u16 = 80;

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
    /// What listens, by its port.
    sockets: BTreeMap<u16, ListeningSocket>,
    /// The kernel tells nothing of that.
    hushed: bool,
    /// Requests are not answered.
    mute: bool,
    /// Where the server of HTTP sends everybody, if it does.
    leads_to: String,
}

impl Guest {
    pub(crate) fn new(connection: UnixStream, behaviour: Behaviour, machine: Arc<Machine>) -> Self {
        let mut session = [0; 16];
        let mut random = std::fs::File::open("/dev/urandom").expect("random bytes");
        random.read_exact(&mut session).expect("random bytes");
        let boot_id = format!("{:032x}", u128::from_be_bytes(session));
        let endpoint = Endpoint::guest(session);
        let (streams, booted) = (BTreeMap::new(), Instant::now());
        let sockets = BTreeMap::new();
        Self {
            connection,
            endpoint,
            streams,
            behaviour,
            machine,
            booted,
            boot_id,
            sockets,
            hushed: false,
            mute: false,
            leads_to: String::new(),
        }
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
        let echo = !matches!(service, Service::Agent | Service::Tcp(COMMANDS | HTTP));
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
        if stream.service == Service::Tcp(HTTP) {
            let answer = match self.leads_to.as_str() {
                "" => "204 No Content".to_owned(),
                address => format!("302 Found\r\nContent-Length: 0\r\nLocation: {address}"),
            };
            stream.output.extend_from_slice(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
            stream.finished = true;
            self.endpoint.consumed(id, bytes.len());
            return;
        }
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
            HostMessage::Request { .. } if self.mute => {}
            HostMessage::Request { id: request_id, request } => {
                let reply = match request {
                    GuestRequest::Stats => GuestReply::Stats(self.stats()),
                    GuestRequest::Trim => GuestReply::Trimmed(4096),
                    GuestRequest::Sockets => GuestReply::Sockets(self.sockets()),
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
        for agent in self.agents() {
            self.say(agent, &GuestMessage::Stopping(action));
        }
        print("fake guest: going down");
        // A host that is gone does not hear it.
        self.flush().ok();
        std::process::exit(self.behaviour.exit_at_shutdown)
    }

    fn listen(&mut self, port: u16, name: &str) {
        let socket = ListeningSocket {
            protocol: Transport::Tcp,
            port,
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            process: Some(name.to_owned()),
            pid: Some(7),
            inode: self.sockets.len() as u64 + 1,
        };
        self.sockets.insert(port, socket);
        self.tell_sockets();
    }

    fn sockets(&self) -> ListeningSockets {
        let sockets = self.sockets.values().cloned().collect();
        ListeningSockets { sockets, more: false, told: !self.hushed }
    }

    fn tell_sockets(&mut self) {
        if self.hushed {
            return;
        }
        let message = GuestMessage::Sockets(self.sockets());
        for agent in self.agents() {
            self.say(agent, &message);
        }
        self.flush().ok();
    }

    /// Says to every host what may be no message.
    fn say_anything(&mut self, bytes: &[u8]) {
        for agent in self.agents() {
            if let Some(stream) = self.streams.get_mut(&agent) {
                stream.output.extend_from_slice(bytes);
            }
            self.send(agent);
        }
        self.flush().ok();
    }

    /// Returns the streams to the agent.
    fn agents(&self) -> Vec<StreamId> {
        let is_agent = |(id, stream): (&StreamId, &Stream)| (stream.service == Service::Agent).then_some(*id);
        self.streams.iter().filter_map(is_agent).collect()
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
            ("listen", what) => {
                let (port, name) = what.split_once(' ').expect("a port and a name");
                self.listen(port.parse().expect("a port"), name);
            }
            ("close", port) => {
                self.sockets.remove(&port.parse().expect("a port"));
                self.tell_sockets();
            }
            ("flap", what) => {
                let (port, times) = what.split_once(' ').expect("a port and a number");
                let (port, times): (u16, u32) =
                    (port.parse().expect("a port"), times.parse().expect("a number"));
                for _ in 0..times {
                    self.listen(port, "flaps");
                    self.sockets.remove(&port);
                    self.tell_sockets();
                }
            }
            ("lead", address) => address.clone_into(&mut self.leads_to),
            ("hush", _) => self.hushed = true,
            ("mute", _) => self.mute = true,
            ("endless", mebibytes) => {
                let mebibytes: usize = mebibytes.parse().expect("a number");
                self.say_anything(&vec![b'x'; mebibytes << 20]);
            }
            ("say", text) => self.say_anything(format!("{text}\n").as_bytes()),
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
