//! `banger vm console`.

use std::time::Duration;

use banger_api::Client;
use banger_types::vm::Vm;
use banger_types::{ApiError, ErrorKind};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{DONE, Outcome};
use crate::arguments::NameArguments;
use crate::context::Context;
use crate::error::CommandError;
use crate::session::{Input, Output, RawMode, SessionError, Signals, Stream};

/// The key that leaves the console: Ctrl-], as in telnet(1).
const LEAVE: u8 = 0x1d;
/// Most bytes of the guest's that are printed at a time.
const PIECE: usize = 32 << 10;
/// Most bytes that wait for a guest that does not read what is typed; what is typed beyond is lost.
const UNTYPED: usize = 1 << 20;
/// How long the guest may take to read what was typed before the console was left.
const LAST_KEYS: Duration = Duration::from_secs(1);
/// How long the daemon may take to see that a VM has ended whose console has.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How a console was left.
enum Left {
    /// By a key.
    Detached,
    /// By a signal, which has this exit code.
    Signalled(u8),
    /// The other end has closed it.
    Closed,
}

/// Attaches this process's terminal, or its standard input and output, to a VM's serial console.
pub(in crate::command) async fn console(context: &Context, arguments: &NameArguments) -> Outcome {
    let name = &arguments.name;
    let client = context.daemon().await?;
    let in_vm = |error: SessionError| error.in_vm(name);
    let signals = Signals::new().map_err(in_vm)?;
    let console = client.vm_console(name).await?;
    let raw = RawMode::enter().map_err(in_vm)?;
    if raw.is_some() {
        context.printer.note(&format!(
            "attached to the serial console of '{name}': Enter has a shell of root's, Ctrl-] leaves\r"
        ));
    }
    let leaves_by_key = raw.is_some();
    let left = attend(console, signals, leaves_by_key).await;
    drop(raw);
    match left.map_err(in_vm)? {
        Left::Detached => {
            context.printer.note("\nleft the console; the VM goes on");
            Ok(DONE)
        }
        Left::Signalled(code) => Ok(code),
        Left::Closed => tell_why(context, client, name).await,
    }
}

/// Moves bytes until somebody has enough.
async fn attend(
    console: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut signals: Signals,
    leaves_by_key: bool,
) -> Result<Left, SessionError> {
    let (mut printed, typed) = tokio::io::split(console);
    let mut typing = tokio::spawn(send(typed, leaves_by_key));
    let mut output = Output::start();
    let mut buffer = vec![0; PIECE];
    let mut input_open = true;
    let left = loop {
        tokio::select! {
            read = printed.read(&mut buffer) => match read {
                // A connection that breaks is as good as closed: why, the daemon knows.
                Ok(0) | Err(_) => break Left::Closed,
                Ok(length) => {
                    let piece = Bytes::copy_from_slice(&buffer[..length]);
                    output.write(Stream::Output, piece).await.map_err(SessionError::Output)?;
                }
            },
            left = &mut typing, if input_open => match left {
                Ok(Some(left)) => break left,
                // The guest may still have much to print when there is nothing more to type.
                Ok(None) | Err(_) => input_open = false,
            },
            received = signals.terminating() => break Left::Signalled(received.exit_code()),
        }
    };
    typing.abort();
    output.finish().await.map_err(SessionError::Output)?;
    Ok(left)
}

/// Types what comes from standard input. Returns how the console was left, if it was.
///
/// The guest may read nothing: from a terminal it is read on all the same, for the key that leaves.
async fn send(mut console: impl AsyncWrite + Unpin, leaves_by_key: bool) -> Option<Left> {
    let mut input = Input::start();
    let mut untyped: Vec<u8> = Vec::new();
    let mut input_open = true;
    loop {
        tokio::select! {
            piece = input.next(), if input_open && (leaves_by_key || untyped.is_empty()) => {
                let Some(piece) = piece else { input_open = false; continue };
                let end = piece.iter().position(|byte| leaves_by_key && *byte == LEAVE);
                if untyped.len() < UNTYPED {
                    untyped.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
                }
                if end.is_some() {
                    // What was typed before counts, but not for ever.
                    tokio::time::timeout(LAST_KEYS, console.write_all(&untyped)).await.ok();
                    return Some(Left::Detached);
                }
            }
            // It fails when the console was closed, which the reading side tells.
            typed = console.write(&untyped), if !untyped.is_empty() => drop(untyped.drain(..typed.ok()?)),
            else => return None,
        }
    }
}

/// Says what became of a VM whose console has closed.
async fn tell_why(context: &Context, client: &Client, name: &str) -> Outcome {
    let ended = tokio::time::timeout(END_LIMIT, last_state(client, name)).await;
    match ended {
        Ok(Ok(Some(vm))) => {
            context.printer.note(&format!("VM '{name}' is {}", vm.state));
            Ok(DONE)
        }
        Ok(Ok(None)) => {
            context.printer.note(&format!("VM '{name}' was deleted"));
            Ok(DONE)
        }
        // It goes on, or nobody knows.
        Ok(Err(_)) | Err(_) => {
            let error =
                ApiError::new(ErrorKind::Unreachable, format!("bangerd closed the console of '{name}'"))
                    .because("the VM itself goes on without bangerd")
                    .fix(format!("banger vm console {name}"));
            Err(error.into())
        }
    }
}

/// Waits until a VM is not alive. Returns nothing when it was deleted.
async fn last_state(client: &Client, name: &str) -> Result<Option<Vm>, CommandError> {
    let mut changes = client.watch_vm(name).await?;
    while let Some(vm) = changes.next().await? {
        if !vm.state.is_alive() {
            return Ok(Some(vm));
        }
    }
    match client.vm(name).await {
        Ok(_) => Err(CommandError::failed(ErrorKind::Unreachable, "bangerd has ended", "banger vm ls")),
        Err(banger_api::ClientError::Api(error)) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
