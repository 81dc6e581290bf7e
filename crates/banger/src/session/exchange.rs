//! A running session: bytes, signals and window sizes, until the guest's program has ended.
//!
//! Receiving, sending and signals are three independent flows: the guest may stop reading while
//! this process's output is stuck, and Ctrl-C must work all the same.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::time::Instant;

use super::signals::{Received, Signals, exit_code};
use super::terminal::{RawMode, size};
use super::{Input, Output, SessionError, Stream};

/// A second Ctrl-C within this time ends the client, whatever the guest's program makes of it.
const REPEAT: Duration = Duration::from_secs(2);

/// SSH's number for standard error (RFC 4254 section 5.2).
const STANDARD_ERROR: u32 = 1;

/// What is shown for a program that died of a signal that Linux does not have.
const UNKNOWN_SIGNAL: u8 = 255;

/// Passes everything on until the program has ended, and returns the exit code to end with.
pub(super) async fn run(channel: Channel<Msg>, mut signals: Signals, tty: bool) -> Result<u8, SessionError> {
    let raw = if tty { RawMode::enter()? } else { None };
    let (reader, writer) = channel.split();
    let writer = Arc::new(writer);
    let sending = tokio::spawn(send(Arc::clone(&writer)));
    let ended = tokio::select! {
        ended = receive(reader) => ended,
        received = pass_signals(&mut signals, &writer, tty) => Ok(received.exit_code()),
    };
    sending.abort();
    drop(raw);
    ended
}

/// Sends standard input, and its end.
async fn send(writer: Arc<ChannelWriteHalf<Msg>>) {
    let mut input = Input::start();
    while let Some(piece) = input.next().await {
        // It fails when the connection ended, which the receiving side tells.
        if writer.data_bytes(piece).await.is_err() {
            return;
        }
    }
    drop(writer.eof().await);
}

/// Writes what the program prints, and returns the exit code to end with.
async fn receive(mut reader: ChannelReadHalf) -> Result<u8, SessionError> {
    let mut output = Output::start();
    let mut status = None;
    let mut closed = false;
    while !closed {
        let message = tokio::select! {
            message = reader.wait() => message,
            error = output.failed() => return Err(SessionError::Output(error)),
        };
        let (stream, data) = match message {
            Some(ChannelMsg::Data { data }) => (Stream::Output, data),
            Some(ChannelMsg::ExtendedData { data, ext: STANDARD_ERROR }) => (Stream::Error, data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                // More than a Linux program can say; none of it may look like success.
                status = Some(u8::try_from(exit_status).unwrap_or(u8::MAX));
                continue;
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                status = Some(exit_code(&signal_name).unwrap_or(UNKNOWN_SIGNAL));
                continue;
            }
            Some(ChannelMsg::Close) => {
                closed = true;
                continue;
            }
            None => break,
            Some(_) => continue,
        };
        output.write(stream, data).await.map_err(SessionError::Output)?;
    }
    output.finish().await.map_err(SessionError::Output)?;
    match status {
        Some(code) => Ok(code),
        None if closed => Err(SessionError::NoStatus),
        None => Err(banger_session::SessionError::Lost.into()),
    }
}

/// Passes signals on. Returns the one that is to end the client.
async fn pass_signals(signals: &mut Signals, writer: &Arc<ChannelWriteHalf<Msg>>, tty: bool) -> Received {
    let mut interrupted: Option<Instant> = None;
    loop {
        let received = signals.next().await;
        let writer = Arc::clone(writer);
        // A stuck connection must not keep the next signal from being heard, so none is waited for.
        match received {
            Received::WindowChange if tty => {
                let size = size();
                tokio::spawn(async move {
                    writer.window_change(size.columns, size.rows, size.width, size.height).await
                });
            }
            Received::WindowChange => {}
            Received::Interrupt if interrupted.is_some_and(|before| before.elapsed() < REPEAT) => {
                return received;
            }
            // With a terminal, keys reach the guest as bytes: these come from outside, and mean
            // the client. The guest's program gets a hangup as its terminal goes.
            Received::Terminate | Received::Hangup | Received::Quit if tty => return received,
            Received::Interrupt | Received::Terminate | Received::Hangup | Received::Quit => {
                if received == Received::Interrupt {
                    interrupted = Some(Instant::now());
                }
                if let Some(name) = received.name() {
                    tokio::spawn(async move { writer.signal(name).await });
                }
            }
        }
    }
}
