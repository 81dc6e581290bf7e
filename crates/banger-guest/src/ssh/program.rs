//! Starting a session's program as its user.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use tokio::process::Child;

use super::terminal::Terminal;
use crate::init::signals::send_to_group;
use crate::login::Logins;
use crate::process::{Failure, Identity, Program, begin_session};
use crate::user::Login;
use crate::{log, login};

/// A running program and our ends of its standard streams.
#[derive(Debug)]
pub(super) struct Running {
    /// The program.
    pub(super) process: Process,
    /// Our ends.
    pub(super) streams: Streams,
}

/// Our ends of a program's standard streams.
#[derive(Debug)]
pub(super) enum Streams {
    /// All three are a terminal.
    Terminal(OwnedFd),
    /// One pipe each.
    Pipes {
        /// To be written.
        input: OwnedFd,
        /// To be read.
        output: OwnedFd,
        /// To be read.
        errors: OwnedFd,
    },
}

/// A program. It leads its own session, so that its id is also its session's and its first process group's.
#[derive(Debug)]
pub(super) enum Process {
    /// Our own child.
    Child(Child),
    /// A process in a login session.
    Login(login::Process),
}

impl Process {
    /// Waits for its end. Nothing is lost when this is dropped and called again.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await,
            Self::Login(process) => process.wait().await,
        }
    }

    /// Sends a signal to the process group that the program was started in, while there is one.
    pub(super) fn signal(&self, number: i32) {
        match self {
            Self::Child(child) => {
                let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(group) = id {
                    let _ = send_to_group(group, number);
                }
            }
            Self::Login(process) => process.signal(number),
        }
    }

    /// Tells the program that its client has gone, and takes it in whenever it ends.
    pub(super) fn hang_up(mut self) {
        if let Self::Login(process) = &mut self {
            process.hang_up();
        }
        self.signal(Signal::HUP.as_raw());
        // Who is stopped hears nothing.
        self.signal(Signal::CONT.as_raw());
        tokio::spawn(async move { self.wait().await });
    }
}

/// Starts a program as `user`, on a terminal or on pipes; in a login session if there are `logins`, and if that works out.
pub(super) async fn start(
    program: &Program,
    user: &Login,
    terminal: Option<Terminal>,
    logins: Option<&Logins>,
) -> Result<Running, Failure> {
    let has_terminal = terminal.is_some();
    let (streams, theirs) =
        connect(terminal).map_err(|error| Failure::new(&format!("no streams: {error}")))?;
    if let Some(logins) = logins {
        let opened = logins.open(user, has_terminal.then_some(&theirs[0])).await;
        match opened.and_then(|session| session.start(program, &theirs, has_terminal)) {
            Ok(process) => return Ok(Running { process: Process::Login(process), streams }),
            // Nobody is locked out by what the image's PAM or logind thinks.
            Err(error) => log!("no login session for {}: {}", user.name.display(), log::chain(&error)),
        }
    }
    let child = start_child(program, user, theirs, has_terminal)?;
    Ok(Running { process: Process::Child(child), streams })
}

fn start_child(
    program: &Program,
    user: &Login,
    theirs: [OwnedFd; 3],
    has_terminal: bool,
) -> Result<Child, Failure> {
    let mut command = program.command();
    let [input, output, errors] = theirs.map(Stdio::from);
    command.stdin(input).stdout(output).stderr(errors);
    let identity = Identity::of(user, &program.directory)?;
    // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
    #[expect(unsafe_code, reason = "changing the user in the right order takes code between fork and exec")]
    unsafe {
        command.pre_exec(move || begin_session(has_terminal).and_then(|()| identity.assume()));
    }
    // The command owns the program's ends of the streams until it is dropped, here.
    tokio::process::Command::from(command).spawn().map_err(|error| Failure::of_start(&program.path, &error))
}

/// Returns our ends of the streams, and the program's.
fn connect(terminal: Option<Terminal>) -> io::Result<(Streams, [OwnedFd; 3])> {
    if let Some(terminal) = terminal {
        let theirs = [terminal.slave.try_clone()?, terminal.slave.try_clone()?, terminal.slave];
        return Ok((Streams::Terminal(terminal.master), theirs));
    }
    let (their_input, input) = io::pipe()?;
    let (output, their_output) = io::pipe()?;
    let (errors, their_errors) = io::pipe()?;
    let ours = Streams::Pipes { input: input.into(), output: output.into(), errors: errors.into() };
    Ok((ours, [their_input.into(), their_output.into(), their_errors.into()]))
}
