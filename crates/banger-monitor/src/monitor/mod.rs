//! The event loop, and everything that it turns.

mod attachments;
mod automatic;
mod boot;
mod client;
mod clients;
mod console;
mod datagrams;
mod end;
mod forwards;
mod guest;
mod requests;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banger_channel::StreamId;
use banger_types::guest::ShutdownAction;
use banger_types::monitor::{LaunchSpec, MonitorPhase, MonitorStatus};
use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::process::Signal;

use self::attachments::Attachment;
use self::automatic::Automatic;
use self::boot::Boot;
use self::client::Client;
use self::datagrams::Flows;
use self::end::Ending;
use self::forwards::ForwardListener;
use self::status::Board;
use crate::guest::agent::Agent;
use crate::guest::channel::{Channel, Door};
use crate::guest::splice::Splice;
use crate::host::clock::ClockWatch;
use crate::host::keyboard::Keyboard;
use crate::host::launch::{Launched, Programs};
use crate::host::log::{BootLog, LogPipe};
use crate::host::system;
use crate::host::vmm;
use crate::host::words::Words;

/// Bytes that are moved at a time, a datagram of any length among them. One buffer serves everything.
const BUFFER: usize = 64 << 10;

const SIGNALS: Token = Token(0);
const CONTROL: Token = Token(1);
const CHANNEL_DOOR: Token = Token(2);
const CHANNEL_LINK: Token = Token(3);
const SERIAL: Token = Token(4);
const ENGINE: Token = Token(5);
const CHILD: Token = Token(6);
const CLOCK: Token = Token(7);
const VMM: Token = Token(8);
const KEYBOARD: Token = Token(9);
const FIRST_CONNECTION: usize = 10;

/// What a monitor has when everything is started.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) spec: LaunchSpec,
    pub(crate) launched: Launched,
    pub(crate) status: MonitorStatus,
    pub(crate) signals: OwnedFd,
    pub(crate) clock: ClockWatch,
    pub(crate) control: UnixListener,
    pub(crate) door: Option<Door>,
    pub(crate) serial: LogPipe,
    pub(crate) engine: LogPipe,
    pub(crate) boot_log: BootLog,
    pub(crate) words: Words,
    /// How long the guest has for its way down when the host goes down.
    pub(crate) shutdown_limit: Duration,
}

/// The monitor at work.
#[derive(Debug)]
pub(crate) struct Monitor {
    poll: Poll,
    buffer: Vec<u8>,
    last_token: usize,
    signals: OwnedFd,
    signalled: bool,
    clock: ClockWatch,
    clock_jumped: bool,
    control: UnixListener,
    control_ready: bool,
    channel: Channel,
    channel_waiting: bool,
    agent: Option<Agent>,
    serial: LogPipe,
    keyboard: Keyboard,
    engine: LogPipe,
    boot_log: BootLog,
    spec: LaunchSpec,
    programs: Programs,
    child_ended: bool,
    boot: Boot,
    board: Board,
    clients: BTreeMap<Token, Client>,
    splices: BTreeMap<Token, Splice>,
    attachments: BTreeMap<Token, Attachment>,
    /// Who has which stream of the channel.
    streams: BTreeMap<StreamId, Token>,
    forwards: BTreeMap<Token, ForwardListener>,
    flows: Flows,
    automatic: Automatic,
    /// A shutdown that the agent has to be asked for as soon as it is there.
    wanted_shutdown: Option<ShutdownAction>,
    /// The host goes down.
    host_shutdown: bool,
    shutdown_limit: Duration,
    /// The VMM was told to let the guest go on.
    vmm_control: Option<mio::net::UnixStream>,
    /// When the guest's time for its way down is over.
    shutdown_deadline: Option<Instant>,
    ending: Option<Ending>,
    has_settled: bool,
    words: Words,
}

impl Monitor {
    /// Registers everything with a new event loop.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { launched, mut control, mut door, .. } = parts;
        let poll = Poll::new()?;
        let registry = poll.registry();
        let watch = |descriptor: RawFd, token| {
            registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
        };
        watch(parts.signals.as_raw_fd(), SIGNALS)?;
        watch(parts.clock.descriptor(), CLOCK)?;
        registry.register(&mut control, CONTROL, Interest::READABLE)?;
        if let Some(door) = &mut door {
            registry.register(&mut door.listener, CHANNEL_DOOR, Interest::READABLE)?;
        }
        let mut monitor = Self {
            poll,
            buffer: vec![0; BUFFER],
            last_token: FIRST_CONNECTION,
            signals: parts.signals,
            signalled: false,
            clock: parts.clock,
            clock_jumped: false,
            control,
            control_ready: true,
            channel: Channel::new(door),
            channel_waiting: true,
            agent: None,
            serial: parts.serial,
            keyboard: launched.keyboard,
            engine: parts.engine,
            boot_log: parts.boot_log,
            spec: parts.spec,
            programs: launched.programs,
            child_ended: true,
            boot: Boot::default(),
            board: Board::new(parts.status),
            clients: BTreeMap::new(),
            splices: BTreeMap::new(),
            attachments: BTreeMap::new(),
            streams: BTreeMap::new(),
            forwards: BTreeMap::new(),
            flows: Flows::default(),
            automatic: Automatic::default(),
            wanted_shutdown: None,
            host_shutdown: false,
            shutdown_limit: parts.shutdown_limit,
            vmm_control: None,
            shutdown_deadline: None,
            ending: None,
            has_settled: false,
            words: parts.words,
        };
        monitor.watch_programs(launched.channel)?;
        Ok(monitor)
    }

    /// Registers what a start of the programs has made new with the event loop.
    fn watch_programs(&mut self, channel: Option<std::os::unix::net::UnixStream>) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(self.serial.source(), SERIAL, Interest::READABLE)?;
        registry.register(&mut self.keyboard.sender, KEYBOARD, Interest::WRITABLE)?;
        registry.register(self.engine.source(), ENGINE, Interest::READABLE)?;
        for program in self.programs.iter() {
            let descriptor = program.pidfd.as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), CHILD, Interest::READABLE)?;
        }
        self.child_ended = true;
        if let Some(end) = channel {
            end.set_nonblocking(true)?;
            self.channel.attach(mio::net::UnixStream::from_std(end), registry, CHANNEL_LINK)?;
        }
        Ok(())
    }

    /// Returns the state.
    pub(crate) fn status(&self) -> &MonitorStatus {
        self.board.status()
    }

    /// Writes the state's file.
    pub(crate) fn write_status(&mut self) -> io::Result<()> {
        self.board.publish(Instant::now())
    }

    /// Works until the VMM has ended and everybody knows.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(128);
        loop {
            let progress = self.round();
            if self.is_over() {
                return Ok(());
            }
            if !progress {
                self.settle();
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

    /// Becomes as small as it can be, once: when everybody knows that the guest is ready, and there is nothing to do.
    fn settle(&mut self) {
        if !self.has_settled && self.board.published().phase == MonitorPhase::Ready {
            self.has_settled = true;
            banger_process::forget_beginning();
        }
    }

    fn note(&mut self, event: &mio::event::Event) {
        match event.token() {
            SIGNALS => self.signalled = true,
            CLOCK => self.clock_jumped = true,
            VMM => {
                if let Some(question) = &mut self.boot.question {
                    question.readable = true;
                }
            }
            CONTROL => self.control_ready = true,
            CHANNEL_DOOR => self.channel_waiting = true,
            SERIAL => self.serial.readable = true,
            KEYBOARD => self.keyboard.writable = true,
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
                } else if let Some(attachment) = self.attachments.get_mut(&token) {
                    attachment.peer.note(event);
                } else if let Some(forward) = self.forwards.get_mut(&token) {
                    forward.note(event);
                }
            }
        }
    }

    /// Does a piece of everything that can be done now. Returns whether there may be more to do
    /// before anything new has happened.
    fn round(&mut self) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut progress = self.take_signals() | self.follow_clock();
        let heard = self.pump_console(&mut buffer)
            | self.engine.pump(&mut buffer).is_some()
            | self.pump_channel(&mut buffer);
        self.hear_vmm(&mut buffer);
        progress |= heard | self.accept_clients() | self.accept_forwards();
        progress |= self.pump_clients(&mut buffer) | self.pump_splices(&mut buffer);
        progress |= self.pump_datagrams(&mut buffer);
        progress |= self.pump_attachments(&mut buffer);
        progress |= self.flush_channel();
        progress |= self.reap();
        self.buffer = buffer;
        let now = Instant::now();
        self.keep_deadlines(now);
        self.advance_ending(now, heard);
        self.publish(now);
        progress
    }

    fn take_signals(&mut self) -> bool {
        if !std::mem::take(&mut self.signalled) {
            return false;
        }
        while let Some(signal) = system::next_signal(&self.signals) {
            if signal == libc::SIGTERM {
                self.host_goes_down();
            }
        }
        true
    }

    fn host_goes_down(&mut self) {
        if std::mem::replace(&mut self.host_shutdown, true) {
            return;
        }
        self.words.say("SIGTERM: the guest is asked to power off");
        self.let_guest_go_on();
        self.shutdown_deadline = Some(Instant::now() + self.shutdown_limit);
        self.wanted_shutdown = Some(ShutdownAction::Poweroff);
        self.ask_for_wanted_shutdown();
    }

    /// A guest that stands still does not hear that it is to go down.
    fn let_guest_go_on(&mut self) {
        self.programs.vmm.signal(Signal::CONT);
        let Some(resume) = &self.spec.resume else { return };
        match vmm::tell(resume) {
            Ok(vmm) => self.vmm_control = Some(vmm),
            Err(error) => self.words.complain("cannot let the guest go on", &error),
        }
    }

    /// Tells the guest the time when the host's clock has jumped.
    fn follow_clock(&mut self) -> bool {
        if !std::mem::take(&mut self.clock_jumped) {
            return false;
        }
        match self.clock.has_jumped() {
            Ok(jumped) => {
                if jumped {
                    self.set_guests_clock();
                }
                jumped
            }
            Err(error) => {
                self.words.complain("cannot watch the clock", &error);
                false
            }
        }
    }

    /// Does what is due while the VMM runs.
    fn keep_deadlines(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        self.follow_farewell(now);
        self.follow_sockets(now);
        self.end_idle_flows(now);
        if self.shutdown_deadline.is_some_and(|deadline| deadline <= now) {
            self.shutdown_deadline = None;
            self.kill_for_host();
        }
    }

    /// Brings a changed state to disk and to watchers, if that is due.
    fn publish(&mut self, now: Instant) {
        if self.board.due(now).is_some_and(|due| due <= now) {
            self.publish_now();
        }
        self.tell_watchers();
    }

    /// Brings the state to disk, for watchers to be told.
    fn publish_now(&mut self) {
        if let Err(error) = self.board.publish(Instant::now()) {
            self.words.complain("cannot write the state", &error);
        }
    }

    /// Returns how long nothing has to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let deadline = if let Some(ending) = &self.ending {
            ending.deadline()
        } else {
            let sockets = self.automatic.due(now);
            let idle = self.flows.due();
            [self.shutdown_deadline, self.boot.deadline(), sockets, idle].into_iter().flatten().min()
        };
        let due = [self.board.due(now), deadline].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(now))
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
