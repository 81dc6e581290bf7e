//! The user's terminal: its size, and raw mode that is always taken back.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};

use banger_session::{Terminal, TerminalSize};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

use super::SessionError;

/// What the terminal was like before raw mode; empty when there is nothing to take back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Returns the terminal that a program in a guest is to have: one like this process's.
pub(crate) fn current() -> Terminal {
    Terminal { kind: std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()), size: size() }
}

/// Returns the size of the terminal that this process has as input, output or error; that of
/// the classic terminal when it has none, or one that does not know.
pub(super) fn size() -> TerminalSize {
    let size = size_of(io::stdin()).or_else(|| size_of(io::stdout())).or_else(|| size_of(io::stderr()));
    match size {
        Some(size) => TerminalSize {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
            width: size.ws_xpixel.into(),
            height: size.ws_ypixel.into(),
        },
        None => TerminalSize { columns: 80, rows: 24, width: 0, height: 0 },
    }
}

fn size_of(terminal: impl AsFd) -> Option<Winsize> {
    tcgetwinsize(terminal).ok().filter(|size| size.ws_col > 0)
}

/// While it lives, the terminal hands every key on as it is. The former mode is put back when it
/// is dropped, and when the program panics (which in a release build aborts without dropping).
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Sets standard input's terminal to raw mode; `None` when it is none.
    pub(crate) fn enter() -> Result<Option<Self>, SessionError> {
        static HOOK: Once = Once::new();
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let failed =
            |source: rustix::io::Errno| SessionError::Setup { what: "the terminal", source: source.into() };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        let guard = Self(());
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(guard))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // `try_lock`: a panic may come while it is held.
    let before = BEFORE.try_lock().ok().and_then(|mut before| before.take());
    if let Some(before) = before {
        // The terminal may be gone, and then there is nothing to put back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}
