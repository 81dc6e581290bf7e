//! Sessions in a guest: SSH over a stream that the VM's monitor opens.
//!
//! The daemon says where to go ([`SessionTarget`]) and is not needed any more: [`connect_to_monitor`] connects, [`Connection`] does
//! the handshake and logs in, and what is asked for in [`SessionRequest`] is opened as a channel. What goes through it is its
//! user's business.

mod connection;
mod error;
mod monitor;

use std::path::PathBuf;

use banger_types::guest::{EXEC_REQUEST_LIMIT, EXEC_SUBSYSTEM, ExecRequest};
use banger_types::vm::SessionTarget;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelStream};

pub use connection::Connection;
pub use error::{SessionError, see_what_became_of};
pub use monitor::connect as connect_to_monitor;

/// What to run in a guest, and how.
#[derive(Debug)]
pub struct SessionRequest {
    /// What to run.
    pub program: Program,
    /// As whom; `None` is the image's user.
    pub user: Option<String>,
    /// The terminal that it gets, if it gets one.
    pub terminal: Option<Terminal>,
    /// The socket of the SSH agent that the guest may use.
    pub agent: Option<PathBuf>,
}

/// What is run in a guest.
#[derive(Debug)]
pub enum Program {
    /// The user's login shell.
    Shell,
    /// A line for the user's shell.
    CommandLine(Vec<u8>),
    /// Exactly this.
    Command(ExecRequest),
}

/// A terminal (RFC 4254 section 6.2).
#[derive(Debug, Clone)]
pub struct Terminal {
    /// What it is, as `TERM` says it.
    pub kind: String,
    /// How large it is.
    pub size: TerminalSize,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Its width, characters.
    pub columns: u32,
    /// Its height, characters.
    pub rows: u32,
    /// Its width, pixels; 0 if nobody knows.
    pub width: u32,
    /// Its height, pixels; 0 if nobody knows.
    pub height: u32,
}

/// Logs in, and begins what is asked for. It lasts as long as the connection.
///
/// # Errors
/// If the guest cannot be reached, does not let the user in, or refuses a part of it.
pub async fn open(
    target: &SessionTarget,
    request: &SessionRequest,
) -> Result<(Connection, Channel<Msg>), SessionError> {
    let user = request.user.as_deref().unwrap_or(&target.default_user);
    let connection = Connection::open(target, user, request.agent.clone()).await?;
    let mut channel = connection.session_channel().await?;
    if request.agent.is_some() {
        channel.agent_forward(true).await?;
        confirmed(&mut channel, "SSH agent forwarding").await?;
    }
    if let Some(Terminal { kind, size }) = &request.terminal {
        channel.request_pty(true, kind, size.columns, size.rows, size.width, size.height, &[]).await?;
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
///
/// # Errors
/// Those of [`open`].
pub async fn open_files(
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
