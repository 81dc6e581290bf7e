//! The event loop, and everything that it turns.

mod client;
mod clients;
mod end;
mod forwards;
mod guest;
mod requests;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banger_channel::StreamId;
use banger_types::guest::ShutdownAction;
use banger_types::monitor::MonitorStatus;
use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use self::client::Client;
use self::end::Ending;
use self::forwards::ForwardListener;
use self::status::Board;
use crate::guest::agent::Agent;
use crate::guest::channel::Channel;
use crate::guest::splice::Splice;
use crate::host::log::LogPipe;
use crate::host::process::Process;
use crate::host::system;

/// Bytes that are moved at a time. One buffer serves everything.
const BUFFER: usize = 32 << 10;

const SIGNALS: Token = Token(0);
const CONTROL: Token = Token(1);
const CHANNEL_LISTENER: Token = Token(2);
const CHANNEL_LINK: Token = Token(3);
const SERIAL: Token = Token(4);
const ENGINE: Token = Token(5);
const CHILD: Token = Token(6);
const FIRST_CONNECTION: usize = 7;

/// What a monitor has when everything is started.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) signals: OwnedFd,
    pub(crate) control: UnixListener,
    pub(crate) channel_listener: Option<UnixListener>,
    pub(crate) channel_pair: Option<std::os::unix::net::UnixStream>,
    pub(crate) serial: LogPipe,
    pub(crate) engine: LogPipe,
    pub(crate) helpers: Vec<Process>,
    pub(crate) vmm: Process,
    pub(crate) status: MonitorStatus,
    pub(crate) words: crate::start::Words,
}

/// The monitor at work.
#[derive(Debug)]
pub(crate) struct Monitor {
    poll: Poll,
    buffer: Vec<u8>,
    last_token: usize,
    signals: OwnedFd,
    signalled: bool,
    control: UnixListener,
    control_ready: bool,
    channel: Channel,
    channel_waiting: bool,
    agent: Option<Agent>,
    serial: LogPipe,
    engine: LogPipe,
    /// The VMM last.
    children: Vec<Process>,
    child_ended: bool,
    board: Board,
    clients: BTreeMap<Token, Client>,
    splices: BTreeMap<Token, Splice>,
    /// Who has which stream of the channel.
    streams: BTreeMap<StreamId, Token>,
    forwards: BTreeMap<Token, ForwardListener>,
    /// A shutdown that the agent has to be asked for as soon as it is there.
    wanted_shutdown: Option<ShutdownAction>,
    /// Somebody asked for the VMM's death.
    killed: bool,
    /// How a helper ended before the VMM.
    helper_failure: Option<String>,
    ending: Option<Ending>,
    words: crate::start::Words,
}

impl Monitor {
    /// Registers everything with a new event loop.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts {
            signals, mut control, mut channel_listener, channel_pair, mut serial, mut engine, ..
        } = parts;
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
        registry.register(&mut control, CONTROL, Interest::READABLE)?;
        registry.register(serial.source(), SERIAL, Interest::READABLE)?;
        registry.register(engine.source(), ENGINE, Interest::READABLE)?;
        if let Some(listener) = &mut channel_listener {
            registry.register(listener, CHANNEL_LISTENER, Interest::READABLE)?;
        }
        let mut children = parts.helpers;
        children.push(parts.vmm);
        for child in &children {
            registry.register(&mut SourceFd(&child.pidfd.as_raw_fd()), CHILD, Interest::READABLE)?;
        }
        let mut channel = Channel::new(channel_listener);
        if let Some(end) = channel_pair {
            end.set_nonblocking(true)?;
            channel.attach(mio::net::UnixStream::from_std(end), registry, CHANNEL_LINK)?;
        }
        Ok(Self {
            poll,
            buffer: vec![0; BUFFER],
            last_token: FIRST_CONNECTION,
            signals,
            signalled: false,
            control,
            control_ready: true,
            channel,
            channel_waiting: true,
            agent: None,
            serial,
            engine,
            children,
            child_ended: true,
            board: Board::new(parts.status),
            clients: BTreeMap::new(),
            splices: BTreeMap::new(),
            streams: BTreeMap::new(),
            forwards: BTreeMap::new(),
            wanted_shutdown: None,
            killed: false,
            helper_failure: None,
            ending: None,
            words: parts.words,
        })
    }

    /// Returns the state.
    pub(crate) fn status(&self) -> &MonitorStatus {
        self.board.status()
    }

    /// Writes the state's file.
    pub(crate) fn write_status(&mut self) -> io::Result<()> {
        self.board.write()
    }

    /// Works until the VMM has ended and everybody knows.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(128);
        loop {
            let progress = self.round();
            if self.is_over() {
                return Ok(());
            }
            let timeout = if progress { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            for event in &events {
                self.note(event);
            }
        }
    }

    fn note(&mut self, event: &mio::event::Event) {
        match event.token() {
            SIGNALS => self.signalled = true,
            CONTROL => self.control_ready = true,
            CHANNEL_LISTENER => self.channel_waiting = true,
            SERIAL => self.serial.readable = true,
            ENGINE => self.engine.readable = true,
            CHILD => self.child_ended = true,
            CHANNEL_LINK => {
                if let Some(link) = self.channel.link() {
                    link.note(event);
                }
            }
            token => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.peer.note(event);
                } else if let Some(splice) = self.splices.get_mut(&token) {
                    splice.peer().note(event);
                } else if let Some(forward) = self.forwards.get_mut(&token) {
                    forward.ready = true;
                }
            }
        }
    }

    /// Does a piece of everything that can be done now. Returns whether there may be more to do
    /// before anything new has happened.
    fn round(&mut self) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut progress = self.take_signals();
        progress |= self.serial.pump(&mut buffer) | self.engine.pump(&mut buffer);
        progress |= self.pump_channel(&mut buffer);
        progress |= self.accept_clients() | self.accept_forwards();
        progress |= self.pump_clients(&mut buffer) | self.pump_splices(&mut buffer);
        progress |= self.flush_channel();
        progress |= self.reap();
        self.buffer = buffer;
        self.advance_ending(progress);
        self.publish();
        progress
    }

    fn take_signals(&mut self) -> bool {
        if !std::mem::take(&mut self.signalled) {
            return false;
        }
        while let Some(signal) = system::next_signal(&self.signals) {
            if signal == libc::SIGTERM {
                self.words.say("SIGTERM: the guest is asked to power off");
                self.wanted_shutdown = Some(ShutdownAction::Poweroff);
                self.ask_for_wanted_shutdown();
            }
        }
        true
    }

    /// Brings a changed state to disk and to watchers.
    fn publish(&mut self) {
        if self.board.write_due().is_some_and(|due| due <= Instant::now())
            && let Err(error) = self.board.write()
        {
            self.words.complain("cannot write the state", &error);
        }
        self.tell_watchers();
    }

    /// Returns how long nothing has to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        let ending = self.ending.as_ref().and_then(Ending::deadline);
        let due = [self.board.write_due(), ending].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Returns a token that no connection had before.
    fn new_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    fn registry(&self) -> &Registry {
        self.poll.registry()
    }
}

/// Returns the host's time, nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
