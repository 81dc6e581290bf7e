//! A session in a guest (`banger_session`) with this process's own ends: `exchange` passes bytes, signals and window sizes until
//! the program has ended; `streams` and `terminal` are where they come from and go to.

mod error;
mod exchange;
mod signals;
mod streams;
mod terminal;

use banger_session::{SessionRequest, open};
use banger_types::vm::SessionTarget;

pub(crate) use error::SessionError;
pub(crate) use signals::Signals;
pub(crate) use streams::{Input, Output, Stream};
pub(crate) use terminal::{RawMode, current as current_terminal};

/// Runs a program in a guest with this process's standard input, output and error, and returns the
/// exit code to end with.
pub(crate) async fn perform(target: &SessionTarget, request: SessionRequest) -> Result<u8, SessionError> {
    let mut signals = Signals::new()?;
    let (connection, channel) = tokio::select! {
        opened = open(target, &request) => opened?,
        received = signals.terminating() => return Ok(received.exit_code()),
    };
    let code = exchange::run(channel, signals, request.terminal.is_some()).await;
    drop(connection);
    code
}
