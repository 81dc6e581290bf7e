//! `banger-guest console`: a shell of root's on the serial line, for whoever presses Enter there.
//!
//! The way into a guest whose boot hangs or whose agent does not answer: it needs this program and a shell. Whoever is at the
//! other end of the line is the guest's owner, who is root by any other way, too; so nobody is asked for a password, which
//! most images do not have. Until Enter is pressed there is no shell.
//!
//! This process leads the session that has the line as its terminal, and stays its leader: when the leader of a session ends,
//! the kernel hangs up its terminal, and nobody but the leader's session may put words into its input. The shell is a job of it.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{getpgrp, setsid};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, Termios, Winsize, tcflush,
    tcgetattr, tcgetwinsize, tcsetattr, tcsetpgrp, tcsetwinsize,
};

use crate::init::signals;
use crate::process::{Failure, Identity, Program, heed_all_signals};
use crate::user::{self, Environment};
use crate::{boot, log, path};

/// The serial line (Linux, Documentation/admin-guide/devices.txt, major 4): what the kernel is told is its console.
const LINE: &str = "/dev/ttyS0";
/// What a terminal at the end of a serial line is taken for, as agetty(8) does.
const TERM: &str = "vt220";
/// Its size: nobody tells through a serial line.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// Serves the line for as long as there is one. Succeeds at once when there is none.
pub fn run() -> ExitCode {
    // Process 1 blocks what it reads itself.
    signals::unblock_all();
    ignore_keys();
    let line = match take(Path::new(LINE)) {
        Ok(line) => line,
        Err(error) => {
            log!("there is no shell on {LINE}: {error}");
            return ExitCode::SUCCESS;
        }
    };
    match serve(&line) {
        Ok(never) => match never {},
        // Somebody has hung it up; whoever keeps this program running starts it anew.
        Err(error) => {
            log!("{LINE}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Signals that keys of the terminal send to all of its jobs, and this is one.
#[expect(unsafe_code, reason = "no safe wrapper sets a disposition")]
fn ignore_keys() {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: SIG_IGN is no address of a handler.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Opens the line and makes it this session's terminal.
fn take(path: &Path) -> io::Result<OwnedFd> {
    let line = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    // Who leads a session already may keep it.
    let _ = setsid();
    rustix::process::ioctl_tiocsctty(&line)?;
    Ok(line)
}

fn serve(line: &OwnedFd) -> io::Result<std::convert::Infallible> {
    let mut modes = tcgetattr(line)?;
    make_plain(&mut modes);
    if tcgetwinsize(line)?.ws_row == 0 {
        tcsetwinsize(line, SIZE)?;
    }
    take_back(line, &modes)?;
    loop {
        wait_for_enter(line)?;
        keep_private(line);
        let message = match run_shell(line) {
            Ok(()) => "banger-guest: the shell has ended; Enter starts another\n".to_owned(),
            Err(failure) => failure.message,
        };
        // First of all: what is typed after the message counts.
        take_back(line, &modes)?;
        std::fs::File::from(line.try_clone()?).write_all(format!("\n{message}").as_bytes())?;
    }
}

/// Makes the line as it was. A job that is left may be stopped, or have changed everything.
fn take_back(line: &OwnedFd, modes: &Termios) -> io::Result<()> {
    keep_private(line);
    tcsetpgrp(line, getpgrp())?;
    tcsetattr(line, OptionalActions::Drain, modes)?;
    Ok(tcflush(line, QueueSelector::IFlush)?)
}

/// Keeps all but root from reading what is typed, as agetty(8) does: udev, which may come at any time, lets a group read.
fn keep_private(line: &OwnedFd) {
    let _ = rustix::fs::fchown(line, Some(Uid::ROOT), Some(Gid::ROOT));
    let _ = rustix::fs::fchmod(line, Mode::from_raw_mode(0o600));
}

/// Lines that can be edited and are shown. Ctrl-S would hold up all that prints on the console.
fn make_plain(modes: &mut Termios) {
    modes.local_modes.insert(
        LocalModes::ICANON
            | LocalModes::ISIG
            | LocalModes::IEXTEN
            | LocalModes::ECHO
            | LocalModes::ECHOE
            | LocalModes::ECHOK,
    );
    modes.input_modes.insert(InputModes::ICRNL | InputModes::IUTF8);
    modes.input_modes.remove(InputModes::IXON | InputModes::IXOFF | InputModes::INLCR | InputModes::IGNCR);
    modes.output_modes.insert(OutputModes::OPOST | OutputModes::ONLCR);
}

fn wait_for_enter(line: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0; 256];
    loop {
        match rustix::io::read(line, &mut buffer) {
            Ok(length) if buffer[..length].ends_with(b"\n") => return Ok(()),
            // Ctrl-D; or the line is hung up, and then it has no modes either.
            Ok(0) => {
                tcgetattr(line)?;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs root's shell as the line's foreground job, to its end.
fn run_shell(line: &OwnedFd) -> Result<(), Failure> {
    let program = shell()?;
    let mut command = program.command();
    connect(&mut command, line).map_err(|error| Failure::new(&format!("no streams: {error}")))?;
    let identity = Identity::of_root(&program.directory);
    #[expect(unsafe_code, reason = "becoming the foreground job takes code between fork and exec")]
    // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setpgid(None, None)?;
            // Allowed in the background as well, for SIGTTOU is still ignored.
            tcsetpgrp(rustix::stdio::stdin(), getpgrp())?;
            heed_all_signals();
            identity.assume()
        });
    }
    let mut shell = command.spawn().map_err(|error| Failure::of_start(&program.path, &error))?;
    // Jobs of an image without an init of its own that outlive it belong to process 1.
    shell.wait().map(drop).map_err(|error| Failure::new(&format!("cannot wait for the shell: {error}")))
}

fn connect(command: &mut Command, line: &OwnedFd) -> io::Result<()> {
    command.stdin(Stdio::from(line.try_clone()?));
    command.stdout(Stdio::from(line.try_clone()?));
    command.stderr(Stdio::from(line.try_clone()?));
    Ok(())
}

fn shell() -> Result<Program, Failure> {
    let root = user::find(Path::new("/etc"), "").map_err(|error| Failure::new(&log::chain(&error)))?;
    // Without the configuration there is a shell all the same: it may be what is wrong.
    let config = std::fs::read(path::CONFIG).ok().and_then(|bytes| boot::parse_config(&bytes).ok());
    let variables = config.map(|config| config.image.environment).unwrap_or_default();
    let mut environment = Environment::of_session(&variables, &root);
    environment.set("TERM", TERM);
    Ok(Program::login_shell(&root, environment))
}
