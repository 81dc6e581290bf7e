//! A real terminal for the program: a pseudo-terminal that is its controlling one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

pub(crate) struct Terminal {
    master: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    slave: OwnedFd,
    seen: Vec<u8>,
}

impl Terminal {
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let terminal = Self { master: master.into(), slave, seen: Vec::new() };
        terminal.resize(columns, rows);
        terminal
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Starts the program with this terminal as input, output, error and controlling terminal.
    pub(crate) fn spawn(&self, mut command: Command) -> Child {
        let stream = || self.slave.try_clone().unwrap();
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm-256color");
        let setup = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "a controlling terminal can only be taken between fork and exec")]
        // SAFETY: the closure makes two system calls and touches no memory.
        let command = unsafe { command.pre_exec(setup) };
        command.spawn().unwrap()
    }

    pub(crate) fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Reads what the program prints until it has printed `text`; returns all that was printed up
    /// to then since the last time.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                let rest = self.seen.split_off(at + text.len());
                let printed = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8(printed).unwrap();
            }
            let mut descriptors = [PollFd::new(&self.master, PollFlags::IN)];
            let limit = rustix::time::Timespec { tv_sec: 30, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut descriptors, Some(&limit)).unwrap();
            assert!(ready > 0, "waited for {text:?}, saw {:?}", String::from_utf8_lossy(&self.seen));
            let count = self.master.read(&mut buffer).unwrap();
            assert!(count > 0, "the terminal closed before it showed {text:?}");
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Returns whether the terminal edits lines and echoes, as a shell leaves it.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}
