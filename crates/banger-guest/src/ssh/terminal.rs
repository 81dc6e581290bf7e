//! Pseudo-terminals (RFC 4254 sections 6.2, 6.7 and 8).

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use russh::Pty;
use rustix::fs::{Gid, Mode, Uid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
    tcgetattr, tcsetattr, tcsetwinsize,
};

/// What a client wants of its terminal.
#[derive(Debug, Clone)]
pub(super) struct TerminalRequest {
    /// Its kind, for `TERM`.
    pub(super) term: String,
    /// Its size.
    pub(super) size: Winsize,
    /// Its modes.
    pub(super) modes: Vec<(Pty, u32)>,
}

/// A terminal: we have the one side, the session's programs the other.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Our side.
    pub(super) master: OwnedFd,
    /// The programs' side.
    pub(super) slave: OwnedFd,
    /// The programs' side's name, for `SSH_TTY`.
    pub(super) name: OsString,
}

/// Opens a terminal that belongs to `user`, in the group `tty` when the image has one.
pub(super) fn open(request: &TerminalRequest, user: u32, group: u32) -> io::Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // By descriptor, not by name: it works whatever is mounted on /dev/pts.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let name = ptsname(&master, Vec::new()).map(CString::into_bytes).unwrap_or_default();
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(&slave, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620))?;
    }
    let mut attributes = tcgetattr(&slave)?;
    apply(&mut attributes, &request.modes);
    tcsetattr(&slave, OptionalActions::Now, &attributes)?;
    tcsetwinsize(&slave, request.size)?;
    Ok(Terminal { master, slave, name: OsString::from_vec(name) })
}

/// Changes what the client names and Linux has. Speeds mean nothing here.
fn apply(attributes: &mut Termios, modes: &[(Pty, u32)]) {
    for &(mode, value) in modes {
        let on = value != 0;
        if let Some(index) = special_code(mode) {
            // 255 is "no character" (RFC 4254 section 8); to Linux that is 0 (`_POSIX_VDISABLE`).
            attributes.special_codes[index] =
                u8::try_from(value).ok().filter(|&code| code != 255).unwrap_or(0);
        } else if let Some(flag) = input_mode(mode) {
            attributes.input_modes.set(flag, on);
        } else if let Some(flag) = local_mode(mode) {
            attributes.local_modes.set(flag, on);
        } else if let Some(flag) = output_mode(mode) {
            attributes.output_modes.set(flag, on);
        } else {
            match mode {
                Pty::CS7 if on => set_size(attributes, ControlModes::CS7),
                Pty::CS8 if on => set_size(attributes, ControlModes::CS8),
                Pty::PARENB => attributes.control_modes.set(ControlModes::PARENB, on),
                Pty::PARODD => attributes.control_modes.set(ControlModes::PARODD, on),
                _ => {}
            }
        }
    }
}

fn set_size(attributes: &mut Termios, size: ControlModes) {
    attributes.control_modes.remove(ControlModes::CSIZE);
    attributes.control_modes.insert(size);
}

fn special_code(mode: Pty) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IUCLC => InputModes::IUCLC,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::XCASE => LocalModes::XCASE,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        Pty::PENDIN => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output_mode(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::OLCUC => OutputModes::OLCUC,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(modes: Vec<(Pty, u32)>) -> TerminalRequest {
        let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        TerminalRequest { term: "xterm".to_owned(), size, modes }
    }

    #[test]
    fn a_terminal_has_the_clients_size_and_modes() {
        let modes = vec![
            (Pty::ECHO, 0),
            (Pty::VINTR, 24),
            (Pty::VQUIT, 255),
            (Pty::IUTF8, 1),
            (Pty::ONLCR, 0),
            (Pty::CS7, 1),
            (Pty::TTY_OP_ISPEED, 38400),
        ];
        let own = rustix::process::geteuid().as_raw();
        let terminal = open(&request(modes), own, rustix::process::getegid().as_raw()).unwrap();
        let size = rustix::termios::tcgetwinsize(&terminal.slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (40, 100));
        let attributes = tcgetattr(&terminal.slave).unwrap();
        assert!(!attributes.local_modes.contains(LocalModes::ECHO));
        assert!(attributes.local_modes.contains(LocalModes::ICANON), "what is not named stays");
        assert!(attributes.input_modes.contains(InputModes::IUTF8));
        assert!(!attributes.output_modes.contains(OutputModes::ONLCR));
        assert_eq!(attributes.special_codes[SpecialCodeIndex::VINTR], 24);
        assert_eq!(attributes.special_codes[SpecialCodeIndex::VQUIT], 0);
        assert!(terminal.name.to_string_lossy().starts_with("/dev/pts/"));
    }
}
