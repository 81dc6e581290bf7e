//! Sessions in a guest: SSH over a stream that the VM's monitor opens.
//!
//! The daemon says where to go and is not needed any more: `monitor` connects, `connection` does
//! the handshake and logs in, `exchange` passes bytes, signals and window sizes until the program
//! has ended. `streams` and `terminal` are this process's own ends of it.

mod connection;
mod error;
mod exchange;
mod monitor;
mod signals;
mod streams;
mod terminal;

use std::path::PathBuf;

use banger_types::guest::{EXEC_REQUEST_LIMIT, EXEC_SUBSYSTEM, ExecRequest};
use banger_types::vm::SessionTarget;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelStream};

use self::terminal::Size;

pub(crate) use connection::Connection;
pub(crate) use error::SessionError;
pub(crate) use monitor::connect as connect_to_monitor;
pub(crate) use signals::Signals;
pub(crate) use streams::{Input, Output, Stream};
pub(crate) use terminal::RawMode;

/// What to run in a guest, and how.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    /// What to run.
    pub(crate) program: Program,
    /// As whom; `None` is the image's user.
    pub(crate) user: Option<String>,
    /// Whether it gets a terminal.
    pub(crate) tty: bool,
    /// The socket of the SSH agent that the guest may use.
    pub(crate) agent: Option<PathBuf>,
}

/// What is run in a guest.
#[derive(Debug)]
pub(crate) enum Program {
    /// The user's login shell.
    Shell,
    /// A line for the user's shell.
    CommandLine(Vec<u8>),
    /// Exactly this.
    Command(ExecRequest),
}

/// Runs a program in a guest with this process's standard input, output and error, and returns the
/// exit code to end with.
pub(crate) async fn perform(target: &SessionTarget, request: SessionRequest) -> Result<u8, SessionError> {
    let mut signals = Signals::new()?;
    let user = request.user.as_deref().unwrap_or(&target.default_user);
    let (connection, channel) = tokio::select! {
        opened = open(target, user, &request) => opened?,
        received = signals.terminating() => return Ok(received.exit_code()),
    };
    let code = exchange::run(channel, signals, request.tty).await;
    drop(connection);
    code
}

async fn open(
    target: &SessionTarget,
    user: &str,
    request: &SessionRequest,
) -> Result<(Connection, Channel<Msg>), SessionError> {
    let connection = Connection::open(target, user, request.agent.clone()).await?;
    let mut channel = connection.session_channel().await?;
    if request.agent.is_some() {
        channel.agent_forward(true).await?;
        confirmed(&mut channel, "SSH agent forwarding").await?;
    }
    if request.tty {
        let terminal = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        let size = Size::current();
        channel.request_pty(true, &terminal, size.columns, size.rows, size.width, size.height, &[]).await?;
        confirmed(&mut channel, "a terminal").await?;
    }
    match &request.program {
        Program::Shell => {
            channel.request_shell(true).await?;
            confirmed(&mut channel, "a login shell").await?;
        }
        Program::CommandLine(line) => {
            channel.exec(true, line.clone()).await?;
            confirmed(&mut channel, "a command line").await?;
        }
        Program::Command(command) => {
            let mut line = serde_json::to_vec(command).map_err(SessionError::Encode)?;
            line.push(b'\n');
            if line.len() > EXEC_REQUEST_LIMIT {
                return Err(SessionError::CommandTooLong { limit: EXEC_REQUEST_LIMIT });
            }
            channel.request_subsystem(true, EXEC_SUBSYSTEM).await?;
            confirmed(&mut channel, "a command").await?;
            channel.data_bytes(line).await?;
        }
    }
    Ok((connection, channel))
}

/// Opens an SFTP session as `user`, or else the image's user. The stream lasts as long as the connection.
pub(crate) async fn open_files(
    target: &SessionTarget,
    user: Option<&str>,
) -> Result<(Connection, ChannelStream<Msg>), SessionError> {
    let user = user.unwrap_or(&target.default_user);
    let connection = Connection::open(target, user, None).await?;
    let mut channel = connection.session_channel().await?;
    channel.request_subsystem(true, "sftp").await?;
    confirmed(&mut channel, "file transfers").await?;
    Ok((connection, channel.into_stream()))
}

/// Waits for the answer to the request just made.
async fn confirmed(channel: &mut Channel<Msg>, what: &'static str) -> Result<(), SessionError> {
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::Failure | ChannelMsg::Close) => return Err(SessionError::Refused { what }),
            None => return Err(SessionError::Lost),
            // Window adjustments; data cannot come before a program runs.
            Some(_) => {}
        }
    }
}
