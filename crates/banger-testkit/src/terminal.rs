//! A real terminal for a program: a pseudo-terminal that is its controlling one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Seconds that a program on a busy machine may be silent before what is waited for counts as missing.
const SILENCE_SECONDS: i64 = 90;

/// A terminal that the test holds as a user would: it reads the screen, types, and changes the window's size.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    slave: OwnedFd,
    seen: Vec<u8>,
}

impl Terminal {
    /// Returns a terminal of this many characters in each direction.
    pub fn new(columns: u16, rows: u16) -> Self {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("open a pseudo-terminal");
        rustix::pty::grantpt(&master).expect("own the pseudo-terminal");
        rustix::pty::unlockpt(&master).expect("unlock the pseudo-terminal");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("the pseudo-terminal's name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave =
            rustix::fs::open(name, flags, Mode::empty()).expect("open the pseudo-terminal's other side");
        let terminal = Self { master: master.into(), slave, seen: Vec::new() };
        terminal.resize(columns, rows);
        terminal
    }

    /// Changes the window's size, in characters.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("set the terminal's size");
    }

    /// Starts a program with this terminal as input, output, error and controlling terminal.
    pub fn spawn(&self, mut command: Command) -> Child {
        let stream = || self.slave.try_clone().expect("duplicate the terminal");
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm-256color");
        let setup = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "a controlling terminal can only be taken between fork and exec")]
        // SAFETY: the closure makes two system calls and touches no memory.
        let command = unsafe { command.pre_exec(setup) };
        command.spawn().expect("start a program on a terminal")
    }

    /// Types.
    pub fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("type");
    }

    /// Reads what the program prints until it has printed `text`; returns all that was printed up
    /// to then since the last time.
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                let rest = self.seen.split_off(at + text.len());
                let printed = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8_lossy(&printed).into_owned();
            }
            let mut descriptors = [PollFd::new(&self.master, PollFlags::IN)];
            let limit = rustix::time::Timespec { tv_sec: SILENCE_SECONDS, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut descriptors, Some(&limit)).expect("wait for the terminal");
            assert!(ready > 0, "waited for {text:?}, saw {:?}", String::from_utf8_lossy(&self.seen));
            let count = self.master.read(&mut buffer).expect("read the terminal");
            assert!(count > 0, "the terminal closed before it showed {text:?}");
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Returns whether the terminal edits lines and echoes, as a shell leaves it.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("the terminal's modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}
