//! Signals: those that this process gets, and those that a guest's program died of.

use russh::Sig;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::SessionError;

/// A signal that this process got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Interrupt,
    Terminate,
    Hangup,
    Quit,
    WindowChange,
}

impl Received {
    /// Returns what a shell shows for a program that this signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        self.name().and_then(|name| exit_code(&name)).unwrap_or(1)
    }

    /// Returns the signal as SSH names it (RFC 4254 section 6.9); window changes have no name.
    pub(super) fn name(self) -> Option<Sig> {
        match self {
            Self::Interrupt => Some(Sig::INT),
            Self::Terminate => Some(Sig::TERM),
            Self::Hangup => Some(Sig::HUP),
            Self::Quit => Some(Sig::QUIT),
            Self::WindowChange => None,
        }
    }
}

/// The signals that matter to a session. Once listened to, they no longer end the process.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    window_change: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, SessionError> {
        let listen = |kind| signal(kind).map_err(|source| SessionError::Setup { what: "signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            window_change: listen(SignalKind::window_change())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.terminate.recv() => Received::Terminate,
            _ = self.hangup.recv() => Received::Hangup,
            _ = self.quit.recv() => Received::Quit,
            _ = self.window_change.recv() => Received::WindowChange,
        }
    }

    /// Waits for the next signal that would have ended the process.
    pub(crate) async fn terminating(&mut self) -> Received {
        loop {
            match self.next().await {
                Received::WindowChange => {}
                received => return received,
            }
        }
    }
}

/// Returns what a shell shows for a program that died of `signal`: 128 + its number on Linux
/// (signal(7)); `None` for a name that Linux does not know.
pub(super) fn exit_code(signal: &Sig) -> Option<u8> {
    let number = match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) => custom(name)?,
    };
    Some(128 + number)
}

/// Returns the number of a signal that RFC 4254 does not name. A local name has the form
/// `NAME@DOMAIN`; one without a name of its own, as a real-time signal, is its number there.
fn custom(name: &str) -> Option<u8> {
    let local = name.split('@').next().unwrap_or(name);
    let local = local.strip_prefix("SIG").unwrap_or(local);
    Some(match local {
        "TRAP" => 5,
        "BUS" => 7,
        "USR2" => 12,
        "STKFLT" => 16,
        "CHLD" => 17,
        "CONT" => 18,
        "STOP" => 19,
        "TSTP" => 20,
        "TTIN" => 21,
        "TTOU" => 22,
        "URG" => 23,
        "XCPU" => 24,
        "XFSZ" => 25,
        "VTALRM" => 26,
        "PROF" => 27,
        "WINCH" => 28,
        "IO" | "POLL" => 29,
        "PWR" => 30,
        "SYS" => 31,
        number => number.parse().ok().filter(|number| (1..=64).contains(number))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_is_128_and_its_number() {
        for (signal, code) in [
            (Sig::KILL, Some(137)),
            (Sig::TERM, Some(143)),
            (Sig::Custom("USR2".into()), Some(140)),
            (Sig::Custom("SYS@openssh.com".into()), Some(159)),
            (Sig::Custom("34@banger".into()), Some(162)),
            (Sig::Custom("SIG34".into()), Some(162)),
            (Sig::Custom("200".into()), None),
            (Sig::Custom("\x1b[2J".into()), None),
        ] {
            assert_eq!(exit_code(&signal), code, "{signal:?}");
        }
    }
}
