//! Signals by name, as SSH has them (RFC 4254 sections 6.9 and 6.10).

use russh::Sig;

use crate::process::signal;

/// What follows the name of a signal that the RFC does not know: such names have an `@` and a domain.
const SUFFIX: &str = "@linux";

/// Returns the number of a signal that a client names; `None` for one that Linux does not have.
pub(super) fn number(signal: &Sig) -> Option<i32> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name.split('@').next().unwrap_or_default(),
    };
    signal::by_name(name)
}

/// Returns the name of a signal that ended a program.
pub(super) fn name(number: i32) -> Sig {
    match number {
        libc::SIGABRT => Sig::ABRT,
        libc::SIGALRM => Sig::ALRM,
        libc::SIGFPE => Sig::FPE,
        libc::SIGHUP => Sig::HUP,
        libc::SIGILL => Sig::ILL,
        libc::SIGINT => Sig::INT,
        libc::SIGKILL => Sig::KILL,
        libc::SIGPIPE => Sig::PIPE,
        libc::SIGQUIT => Sig::QUIT,
        libc::SIGSEGV => Sig::SEGV,
        libc::SIGTERM => Sig::TERM,
        libc::SIGUSR1 => Sig::USR1,
        // The RFC knows it, and russh does not.
        libc::SIGUSR2 => Sig::Custom("USR2".to_owned()),
        _ => Sig::Custom(match signal::name(number) {
            Some(name) => format!("{name}{SUFFIX}"),
            None => format!("{number}{SUFFIX}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_survives_the_way_through_ssh() {
        for (_, expected) in signal::SIGNALS {
            assert_eq!(number(&name(expected)), Some(expected));
        }
        assert!(matches!(name(libc::SIGUSR2), Sig::Custom(text) if text == "USR2"));
        assert!(matches!(name(libc::SIGBUS), Sig::Custom(text) if text == "BUS@linux"));
        assert!(matches!(name(40), Sig::Custom(text) if text == "40@linux"));
        assert_eq!(number(&Sig::Custom("NOPE".to_owned())), None);
    }
}
