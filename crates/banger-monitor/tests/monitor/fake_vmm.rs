//! The program that the monitor starts as its VMM: it speaks the guest's side of the channel.
//!
//! `fake.txt` in its directory says what to do at the beginning. Then the test gives commands, one
//! in a line, on streams to [`COMMANDS`]. Words of `fake.txt`, from the first on:
//!
//! - `exit CODE`, `print LINES`: that, at once;
//! - `future`: speaks an agent protocol that nobody knows;
//! - `console`: says what is typed on the console, line by line, and prints so many lines after `print LINES` there;
//! - `dialed`: is connected to, after it has knocked, in the place of inheriting the channel;
//! - `refuse`, `ignore`, `contrary`: a shutdown is refused, promised and forgotten, or becomes a reboot.

#![expect(clippy::exit, reason = "how it ends is what is tested")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use banger_channel::{Endpoint, Event, StreamId};
use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, GuestStats, HostMessage, ShutdownAction,
};
use rustix::process::Signal;

use crate::support::{DIALED, KNOCK};

/// Sends back what it gets.
pub(crate) const ECHO: u16 = 7;
/// Says how many bytes it got, when there are no more.
pub(crate) const COUNT: u16 = 8;
/// Reads nothing and sends nothing.
pub(crate) const STALL: u16 = 9;
/// Obeys.
pub(crate) const COMMANDS: u16 = 1;

#[test]
#[ignore = "no test: the program that the monitor starts as its VMM"]
fn fake_vmm() {
    let Ok(script) = std::fs::read_to_string("fake.txt") else { return };
    let mut words = script.split_whitespace();
    match words.next() {
        Some("exit") => std::process::exit(words.next().unwrap().parse().unwrap()),
        Some("print") => print(words.next().unwrap().parse().unwrap()),
        _ => {}
    }
    if script.contains("console") {
        std::thread::spawn(read_console);
    }
    if script.contains("dialed") {
        serve_dialed(&script);
    }
    Guest::new(UnixStream::from(inherited(3)), script).serve();
}

/// Runs on, whatever becomes of its channel.
fn serve_dialed(script: &str) -> ! {
    // As Firecracker: what is there must be nobody's.
    let listener = UnixListener::bind(DIALED).unwrap();
    loop {
        UnixStream::connect(KNOCK).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        let mut line = [0; 10];
        connection.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"CONNECT 1\n");
        connection.write_all(b"OK 1073741824\n").unwrap();
        Guest::new(connection, script.to_owned()).serve();
    }
}

#[expect(unsafe_code, reason = "inherited under a number that the test chose")]
fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the test's launch names this number, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Prints a line as a serial console does.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

fn read_console() {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        say(&format!("typed: {line}"));
        if let Some(lines) = line.strip_prefix("print ") {
            print(lines.parse().unwrap());
        }
    }
}

fn print(lines: usize) {
    let mut output = std::io::stdout().lock();
    for number in 0..lines {
        writeln!(output, "console line {number}").unwrap();
    }
    output.flush().unwrap();
}

#[derive(Default)]
struct Stream {
    service: String,
    to_send: Vec<u8>,
    input: Vec<u8>,
    count: usize,
    finished: bool,
    closing: bool,
}

impl Stream {
    /// Whether it leads to this port, by either protocol.
    fn is_to(&self, port: u16) -> bool {
        [format!("tcp:{port}"), format!("udp:{port}")].contains(&self.service)
    }
}

struct Guest {
    connection: UnixStream,
    endpoint: Endpoint,
    streams: BTreeMap<StreamId, Stream>,
    sessions: u32,
    script: String,
    /// Requests that nobody has answered.
    unanswered: Vec<u64>,
    /// How often the agent will be replaced as soon as it is ready.
    flaps: u32,
}

impl Guest {
    fn new(connection: UnixStream, script: String) -> Self {
        Self {
            connection,
            endpoint: Endpoint::guest(session()),
            streams: BTreeMap::new(),
            sessions: 1,
            script,
            unanswered: Vec::new(),
            flaps: 0,
        }
    }

    fn serve(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            while self.endpoint.has_output() {
                let Ok(written) = self.connection.write(self.endpoint.output()) else { return };
                self.endpoint.advance_output(written);
            }
            let length = match self.connection.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            self.endpoint.receive(&buffer[..length]).unwrap();
            while let Some(event) = self.endpoint.next_event() {
                self.heed(event);
            }
            let streams: Vec<StreamId> = self.streams.keys().copied().collect();
            for stream in streams {
                self.pump(stream);
            }
        }
    }

    fn heed(&mut self, event: Event) {
        match event {
            Event::Incoming(stream, service) if service == "ssh" => {
                self.endpoint.refuse(stream, "there is no ssh here");
                self.streams.remove(&stream);
            }
            Event::Incoming(stream, service) => {
                self.endpoint.accept(stream);
                let hello = if service == "agent" { line(&self.hello()) } else { Vec::new() };
                self.streams.insert(stream, Stream { service, to_send: hello, ..Stream::default() });
            }
            Event::Data(stream, bytes) => self.data(stream, &bytes),
            Event::Finished(stream) => {
                let stream = self.streams.get_mut(&stream).unwrap();
                stream.finished = true;
                if stream.service == format!("tcp:{COUNT}") {
                    stream.to_send = stream.count.to_string().into_bytes();
                }
                stream.closing = stream.service != format!("tcp:{STALL}");
            }
            Event::Reset(stream) => {
                self.streams.remove(&stream);
            }
            _ => {}
        }
    }

    fn hello(&self) -> GuestMessage {
        let protocol = if self.script.contains("future") { 1000 } else { 1 };
        GuestMessage::Hello(GuestHello {
            protocol_oldest: protocol,
            protocol_newest: protocol,
            version: format!("session {}", self.sessions),
            boot_id: "boot".to_owned(),
            kernel_release: "6.1".to_owned(),
            systemd: false,
        })
    }

    fn data(&mut self, id: StreamId, bytes: &[u8]) {
        let stream = self.streams.get_mut(&id).unwrap();
        stream.count += bytes.len();
        if stream.is_to(ECHO) {
            stream.to_send.extend_from_slice(bytes);
            return;
        }
        if stream.is_to(STALL) {
            return;
        }
        self.endpoint.consumed(id, bytes.len());
        if stream.service == "agent" || stream.service == format!("tcp:{COMMANDS}") {
            stream.input.extend_from_slice(bytes);
            while let Some(newline) =
                self.streams.get(&id).and_then(|s| s.input.iter().position(|b| *b == b'\n'))
            {
                let stream = self.streams.get_mut(&id).unwrap();
                let line: Vec<u8> = stream.input.drain(..=newline).collect();
                let agent = stream.service == "agent";
                if agent {
                    self.agent(id, &line);
                } else {
                    self.command(id, &String::from_utf8(line).unwrap());
                }
            }
        }
    }

    fn say(&mut self, stream: StreamId, message: &GuestMessage) {
        self.streams.get_mut(&stream).unwrap().to_send.extend(line(message));
    }

    fn agent(&mut self, stream: StreamId, line: &[u8]) {
        match serde_json::from_slice(line).unwrap() {
            HostMessage::Welcome { protocol, unix_time_ns } => {
                assert!(protocol == 1 && unix_time_ns > 1_600_000_000_000_000_000);
                self.say(stream, &GuestMessage::Ready);
                if self.flaps > 0 {
                    self.flaps -= 1;
                    self.pump(stream);
                    self.flush();
                    self.restart();
                }
            }
            HostMessage::Request { id, request } => {
                let Some(result) = self.obey(&request) else { return self.unanswered.push(id) };
                self.say(stream, &GuestMessage::Reply { id, result });
                match request {
                    GuestRequest::Shutdown(_) if self.script.contains("contrary") => {
                        self.go_down(stream, ShutdownAction::Reboot);
                    }
                    GuestRequest::Shutdown(action)
                        if !self.script.contains("refuse") && !self.script.contains("ignore") =>
                    {
                        self.go_down(stream, action);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns the agent's answer to a request, or nothing when there is none.
    fn obey(&self, request: &GuestRequest) -> Option<Result<GuestReply, String>> {
        Some(match request {
            GuestRequest::Stats if self.script.contains("mute") => return None,
            GuestRequest::Stats => {
                say("the agent is asked for statistics");
                Ok(GuestReply::Stats(GuestStats {
                    uptime_ms: 1,
                    memory_total: 2,
                    memory_available: 3,
                    ..GuestStats::default()
                }))
            }
            GuestRequest::SetClock(0) => return None,
            GuestRequest::SetClock(time) => {
                say(&format!("the clock is set to {time}"));
                Ok(GuestReply::Done)
            }
            GuestRequest::Sync => Err("the disk is gone".to_owned()),
            GuestRequest::Trim => Ok(GuestReply::Trimmed(4096)),
            GuestRequest::Sockets => Err("it speaks an older protocol".to_owned()),
            GuestRequest::Shutdown(_) if self.script.contains("refuse") => {
                Err("the guest has better things to do".to_owned())
            }
            GuestRequest::Shutdown(_) => Ok(GuestReply::Done),
        })
    }

    fn go_down(&mut self, agent: StreamId, action: ShutdownAction) {
        self.say(agent, &GuestMessage::Stopping(action));
        self.pump(agent);
        self.flush();
        std::process::exit(0);
    }

    /// The agent's program is replaced, when all that it had to say is said.
    fn restart(&mut self) {
        self.endpoint = Endpoint::guest(session());
        self.streams.clear();
        self.sessions += 1;
    }

    fn agents_stream(&self) -> StreamId {
        *self.streams.iter().find(|(_, stream)| stream.service == "agent").unwrap().0
    }

    fn command(&mut self, stream: StreamId, line: &str) {
        let mut words = line.split_whitespace();
        match words.next().unwrap() {
            "exit" => std::process::exit(words.next().unwrap().parse().unwrap()),
            "send" => {
                let bytes = vec![b'z'; words.next().unwrap().parse().unwrap()];
                self.streams.get_mut(&stream).unwrap().to_send.extend(bytes);
                self.pump(stream);
                self.flush();
            }
            "drip" => {
                for _ in 0..words.next().unwrap().parse().unwrap() {
                    assert_eq!(self.endpoint.send(stream, b"d"), 1);
                }
            }
            "say" => say(line.trim_end().split_once(' ').unwrap().1),
            "stop" => rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).unwrap(),
            // Dead, as a halted machine is.
            "stand" => loop {
                std::thread::park();
            },
            "announce" => {
                let action = match words.next().unwrap() {
                    "reboot" => ShutdownAction::Reboot,
                    _ => ShutdownAction::Poweroff,
                };
                let agent = self.agents_stream();
                self.say(agent, &GuestMessage::Stopping(action));
                self.pump(agent);
                self.flush();
            }
            "answer" => {
                let agent = self.agents_stream();
                for id in std::mem::take(&mut self.unanswered) {
                    self.say(agent, &GuestMessage::Reply { id, result: Ok(GuestReply::Done) });
                }
            }
            "flap" => {
                self.flaps = words.next().unwrap().parse().unwrap();
                self.restart();
            }
            "abort" => std::process::abort(),
            "print" => print(words.next().unwrap().parse().unwrap()),
            "warn" => std::io::stderr().write_all(b"a warning of the VMM\n").unwrap(),
            "garbage" => self.connection.write_all(&[200; 100]).unwrap(),
            // The next program's greeting comes in one piece with what the one before has spoiled.
            "relapse" => {
                self.restart();
                let bytes = [&[200; 100][..], self.endpoint.output()].concat();
                self.endpoint.advance_output(self.endpoint.output().len());
                self.connection.write_all(&bytes).unwrap();
            }
            "restart" => {
                // The agent dies in the middle of a frame.
                let cut: usize = words.next().unwrap().parse().unwrap();
                let frame = [&[6, 0, 0xff, 0x3f, 1, 0, 0, 0][..], &vec![1; 1 << 14]].concat();
                self.connection.write_all(&frame[..cut]).unwrap();
                self.restart();
            }
            "describe" => {
                let text = description();
                self.streams.get_mut(&stream).unwrap().to_send.extend(text.into_bytes());
            }
            "pair" => {
                let mut word = [0; 4];
                UnixStream::from(inherited(4)).read_exact(&mut word).unwrap();
                self.streams.get_mut(&stream).unwrap().to_send.extend([&word[..], b"\n"].concat());
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn flush(&mut self) {
        while self.endpoint.has_output() {
            let written = self.connection.write(self.endpoint.output()).unwrap();
            self.endpoint.advance_output(written);
        }
    }

    fn pump(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let sent = self.endpoint.send(id, &stream.to_send);
        stream.to_send.drain(..sent);
        if stream.is_to(ECHO) {
            self.endpoint.consumed(id, sent);
        }
        if stream.closing && stream.to_send.is_empty() {
            self.endpoint.finish(id);
            self.streams.remove(&id);
        }
    }
}

/// One line of JSON: open descriptors, environment, working directory, blocked and ignored signals.
fn description() -> String {
    let mut descriptors: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // The one through which the directory was read is closed by now.
    descriptors.retain(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    descriptors.sort_unstable();
    let environment: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let signals = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    let directory = std::env::current_dir().unwrap();
    let stdin = std::fs::read_link("/proc/self/fd/0").unwrap();
    let mut text = serde_json::json!({
        "descriptors": descriptors, "environment": environment, "blocked": signals("SigBlk:"),
        "no_new_privileges": signals("NoNewPrivs:"),
        "directory": directory, "stdin": stdin,
    })
    .to_string();
    text.push('\n');
    text
}

fn session() -> [u8; 16] {
    let mut session = [0; 16];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut session).unwrap();
    session
}

fn line(message: &GuestMessage) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap();
    line.push(b'\n');
    line
}
