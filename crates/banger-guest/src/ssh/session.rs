//! One session channel from its program's start to its exit status.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::server::{Handle, Msg};
use rustix::termios::{tcgetpgrp, tcsetwinsize};
use tokio::io::Interest;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::exec::{self, Wanted};
use super::inbox::{Control, Inbox};
use super::program::{self, Process, Streams};
use super::terminal::{self, TerminalRequest};
use super::transport::Chunk;
use super::{Server, signal};
use crate::async_file::AsyncFile;
use crate::init::signals::send_to_group;
use crate::login::Logins;
use crate::process::{Failure, Program};
use crate::user::{self, Environment, Login};

/// Bytes that are read from a program at once: as much as fits into one packet of most clients.
const READ_SIZE: usize = 32 << 10;
/// How long output may still come after the program has ended, when others hold its pipes: what a shell's last
/// background writer was just about to say. A terminal needs none of it.
const GRACE: Duration = Duration::from_millis(100);
/// Standard error's number in SSH (RFC 4254 section 5.2).
const STANDARD_ERROR: u32 = 1;

/// A session channel before its program.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) server: Arc<Server>,
    pub(super) login: Arc<Login>,
    pub(super) handle: Handle,
    pub(super) inbox: Inbox,
    pub(super) writer: ChannelWriteHalf<Msg>,
    /// Variables that the client has set.
    pub(super) variables: Vec<(String, String)>,
    /// The terminal that it wants.
    pub(super) terminal: Option<TerminalRequest>,
    /// The socket that leads to its agent.
    pub(super) agent_socket: Option<std::path::PathBuf>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With this status.
    Status(u32),
    /// By this signal, with a core dump or without.
    Signal(i32, bool),
    /// Nobody is there to be told: the client has gone.
    Unheard,
}

impl Session {
    /// Runs what is wanted, and reports how it ended.
    pub(super) async fn run(mut self, wanted: Wanted) {
        let end = match self.serve(wanted).await {
            Ok(end) => end,
            Err(failure) => {
                let message = Bytes::from(failure.message);
                let _ = self.writer.extended_data_bytes(STANDARD_ERROR, message).await;
                End::Status(failure.status)
            }
        };
        // An error here says that the connection is gone: nobody is left to be told.
        let _ = self.report(end).await;
    }

    async fn serve(&mut self, wanted: Wanted) -> Result<End, Failure> {
        let group = user::group_number(&self.server.places.etc, "tty").unwrap_or(self.login.gid);
        let terminal = match &self.terminal {
            Some(request) => Some(
                terminal::open(request, self.login.uid, group)
                    .map_err(|error| Failure::new(&format!("cannot open a terminal: {error}")))?,
            ),
            None => None,
        };
        let mut environment = self.environment();
        if let Some(terminal) = &terminal {
            environment.set("SSH_TTY", &terminal.name);
        }
        // Shells and their command lines get a login session, as from any SSH server. The array and sftp do not: they are
        // for programs to use, in numbers, and a login costs far more than most of what they run (the user's systemd is
        // started with the first, and stopped after the last).
        let places = &self.server.places;
        let logins = matches!(wanted, Wanted::Shell | Wanted::CommandLine(_))
            .then(|| Logins::of(&places.logins, &places.etc, &places.helper, &self.login))
            .flatten();
        let mut first_input = Vec::new();
        let program = match wanted {
            Wanted::Shell => Program::login_shell(&self.login, environment),
            Wanted::CommandLine(line) => exec::command_line(&self.login, environment, line),
            Wanted::Sftp => exec::sftp(&self.login, environment, &self.server.places.helper),
            Wanted::Array => {
                let (request, rest) = exec::read_request(&mut self.inbox.data).await?;
                first_input = rest;
                exec::array(request, &self.server.image, &self.login, environment)?
            }
        };
        self.supervise(&program, terminal, logins.as_ref(), first_input).await
    }

    fn environment(&self) -> Environment {
        let mut environment = Environment::of_session(&self.server.image.environment, &self.login);
        if let Some(terminal) = &self.terminal {
            environment.set("TERM", &terminal.term);
        }
        if let Some(socket) = &self.agent_socket {
            environment.set("SSH_AUTH_SOCK", socket);
        }
        for (name, value) in &self.variables {
            environment.set(name, value);
        }
        environment
    }

    /// Starts the program and stays with it to its end.
    async fn supervise(
        &mut self,
        program: &Program,
        terminal: Option<terminal::Terminal>,
        logins: Option<&Logins>,
        first_input: Vec<u8>,
    ) -> Result<End, Failure> {
        let running = program::start(program, &self.login, terminal, logins).await?;
        let mut process = running.process;
        let (input, streams) =
            ends(running.streams).map_err(|error| Failure::new(&format!("no streams: {error}")))?;
        let (_, nothing) = tokio::sync::mpsc::unbounded_channel();
        let data = std::mem::replace(&mut self.inbox.data, nothing);
        let feeding = tokio::spawn(feed(input, data, first_input));
        // When this is dropped, however that comes, the program's input ends with it.
        let _feeding = AbortOnDrop(feeding);
        let ended = watch::Sender::new(false);
        let pumps = streams.pump(&self.writer, &ended);
        tokio::pin!(pumps);
        let mut pumping = true;
        let status = loop {
            tokio::select! {
                status = process.wait() => break status,
                () = &mut pumps, if pumping => pumping = false,
                control = self.inbox.control.recv() => match control {
                    Some(Control::Resize(size)) => streams.resize(size),
                    Some(Control::Signal(wanted)) => streams.signal(&process, signal::number(&wanted)),
                    Some(Control::Close) | None => {
                        process.hang_up();
                        return Ok(End::Unheard);
                    }
                },
            }
        };
        ended.send_replace(true);
        while pumping {
            tokio::select! {
                () = &mut pumps => pumping = false,
                control = self.inbox.control.recv() => {
                    if matches!(control, Some(Control::Close) | None) {
                        return Ok(End::Unheard);
                    }
                }
            }
        }
        let status = status.map_err(|error| Failure::new(&format!("lost the program: {error}")))?;
        Ok(end_of(status))
    }

    /// Says how it ended, and that this is all: RFC 4254 sections 6.10 and 5.3.
    async fn report(&self, end: End) -> Result<(), ()> {
        let id = self.writer.id();
        match end {
            End::Status(status) => self.handle.exit_status_request(id, status).await?,
            End::Signal(number, core_dumped) => {
                let name = signal::name(number);
                self.handle.exit_signal_request(id, name, core_dumped, String::new(), String::new()).await?;
            }
            End::Unheard => {}
        }
        self.handle.eof(id).await?;
        self.handle.close(id).await
    }
}

fn end_of(status: std::process::ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Status(u32::try_from(code).unwrap_or(u32::MAX)),
        (None, Some(number)) => End::Signal(number, status.core_dumped()),
        (None, None) => End::Status(u32::MAX),
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Our ends of a program's streams, as tokio has them.
struct Ends {
    output: Arc<AsyncFile>,
    /// `None` on a terminal, where errors go the way of the output.
    errors: Option<AsyncFile>,
}

/// Returns where to write a program's input, which ends when that is dropped, and the rest.
fn ends(streams: Streams) -> io::Result<(Arc<AsyncFile>, Ends)> {
    match streams {
        Streams::Terminal(master) => {
            let master = Arc::new(AsyncFile::new(master, Interest::READABLE | Interest::WRITABLE)?);
            Ok((Arc::clone(&master), Ends { output: master, errors: None }))
        }
        Streams::Pipes { input, output, errors } => {
            let input = Arc::new(AsyncFile::new(input, Interest::WRITABLE)?);
            let output = Arc::new(AsyncFile::new(output, Interest::READABLE)?);
            let errors = Some(AsyncFile::new(errors, Interest::READABLE)?);
            Ok((input, Ends { output, errors }))
        }
    }
}

impl Ends {
    fn is_terminal(&self) -> bool {
        self.errors.is_none()
    }

    /// Passes on all output: until it ends, or until the program has ended and nothing is left.
    async fn pump(&self, writer: &ChannelWriteHalf<Msg>, ended: &watch::Sender<bool>) {
        let grace = (!self.is_terminal()).then_some(GRACE);
        let output = pump(&self.output, writer, None, ended.subscribe(), grace);
        match &self.errors {
            None => output.await,
            Some(errors) => {
                let errors = pump(errors, writer, Some(STANDARD_ERROR), ended.subscribe(), grace);
                tokio::join!(output, errors);
            }
        }
    }

    fn resize(&self, size: rustix::termios::Winsize) {
        if self.is_terminal() {
            let _ = tcsetwinsize(&*self.output, size);
        }
    }

    /// Signals what runs in the terminal's foreground; without a terminal, all that the program has started.
    fn signal(&self, process: &Process, number: Option<i32>) {
        let Some(number) = number else { return };
        let foreground = self.is_terminal().then(|| tcgetpgrp(&*self.output).ok()).flatten();
        match foreground {
            Some(group) => drop(send_to_group(group, number)),
            None => process.signal(number),
        }
    }
}

/// Writes a client's input to a program, and ends it when the client does.
async fn feed(input: Arc<AsyncFile>, mut data: UnboundedReceiver<Chunk>, first: Vec<u8>) {
    // A program that does not want its input any more is none of the client's business: the rest is dropped.
    if input.write_all(&first).await.is_err() {
        return;
    }
    while let Some(chunk) = data.recv().await {
        if input.write_all(chunk.bytes()).await.is_err() {
            return;
        }
    }
}

/// Passes on one stream of a program's output.
async fn pump(
    file: &AsyncFile,
    writer: &ChannelWriteHalf<Msg>,
    extended: Option<u32>,
    mut ended: watch::Receiver<bool>,
    grace: Option<Duration>,
) {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let over = *ended.borrow();
        let length = if over {
            match (file.try_read(&mut buffer), grace) {
                (Ok(None), Some(grace)) => match tokio::time::timeout(grace, file.read(&mut buffer)).await {
                    Ok(result) => result.ok(),
                    Err(_) => None,
                },
                (Ok(length), _) => length,
                (Err(_), _) => None,
            }
        } else {
            tokio::select! {
                biased;
                // A terminal whose last program has gone fails with EIO: that is its end.
                result = file.read(&mut buffer) => result.ok(),
                _ = ended.wait_for(|ended| *ended) => continue,
            }
        };
        let Some(length) = length.filter(|&length| length > 0) else { return };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let sent = match extended {
            None => writer.data_bytes(bytes).await,
            Some(number) => writer.extended_data_bytes(number, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}
