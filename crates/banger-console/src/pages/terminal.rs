//! A shell in a VM, in the browser: xterm.js on the page, and its bytes over a WebSocket (RFC 6455).

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use banger_session::{Program, SessionRequest, Terminal, TerminalSize, open};
use banger_types::vm::{SessionTarget, VmState};
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::answer::{Answer, Trouble};
use crate::guard::{InlineStyle, check_socket};
use crate::layout::Page;
use crate::visit::Visit;
use crate::{assets, form};

/// What the terminal is, as `TERM` says it to programs.
const KIND: &str = "xterm-256color";
/// Most bytes that are on their way to a page, or in it and not drawn.
const MOST_AHEAD: usize = 1 << 20;
/// Most pieces of what is typed, or pasted, that a guest has not read.
const MOST_TYPED: usize = 512;
/// Most that a page says at once, bytes. It cuts what is pasted into pieces of a quarter of that.
const LARGEST_MESSAGE: usize = 64 << 10;
/// Most columns or rows.
const LARGEST_SIDE: u32 = 2_000;
/// How long a shell that is left may take to be told so.
const GOODBYE: Duration = Duration::from_secs(5);

/// `GET /vms/NAME/terminal`
pub(crate) async fn show(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let body = match visit.app.terminal.missing() {
        Some(missing) => absent(&missing),
        None if vm.state != VmState::Running => html! {
            p.empty { "There is a terminal while the VM runs, and it is " (vm.state.to_string()) "." }
            p.actions {
                @if matches!(vm.state, VmState::Stopped | VmState::Failed) {
                    (form::button(&visit, &format!("/vms/{}/do/start", vm.name), "Start", &[]))
                }
            }
        },
        None => screen(&visit, vm.name.as_str()),
    };
    let (title, from) = (format!("Terminal of VM {}", vm.name), format!("/vms/{}", vm.name));
    let mut answer = Page::new(&title, body).from(&from, vm.name.as_str()).answer(&visit);
    answer.extensions_mut().insert(InlineStyle);
    Ok(answer)
}

fn absent(missing: &str) -> Markup {
    html! {
        div.notice.warn {
            p { strong { "⚠ There is no terminal here." } }
            p { "Because: " (missing) " is not beside banger's programs; it is xterm.js, which packages bring along." }
            p { "What to do: " code { "cargo xtask build" } " fetches it where banger is built; " code { "banger ssh" } " opens the same shell." }
        }
    }
}

fn screen(visit: &Visit, name: &str) -> Markup {
    html! {
        link rel="stylesheet" href=(assets::address("xterm.css"));
        script type="module" src=(assets::address("terminal.js")) {}
        noscript {
            p.notice.warn { "⚠ The terminal needs JavaScript. " code { "banger ssh " (name) } " opens the same shell." }
        }
        p.hint { "Keys go to the shell, Tab as well: Ctrl+Shift+F6 leaves it. Closing this page ends the shell and what it runs." }
        p.actions {
            span id="terminal-state" role="status" {}
            button type="button" id="again" hidden { "Connect again" }
        }
        div id="terminal" role="application" aria-label=(format!("Terminal of VM {name}"))
            data-socket=(visit.to(&format!("/vms/{name}/terminal/socket"))) {}
    }
}

/// `GET /vms/NAME/terminal/socket`
pub(crate) async fn connect(
    visit: Visit,
    Path(name): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer {
    check_socket(&headers)?;
    let upgrade = upgrade.map_err(|rejection| {
        let error = ApiError::new(ErrorKind::Usage, "this address is for the terminal's page alone");
        Trouble::with_status(rejection.status().as_u16(), error.because(rejection.body_text()))
    })?;
    let permit = Arc::clone(&visit.app.terminals).try_acquire_owned().map_err(|_| {
        let error = ApiError::new(ErrorKind::Unreachable, "too many terminals are open");
        Trouble::from(error.fix("close some of them"))
    })?;
    let side = |name, usual| visit.query(name).parse().unwrap_or(usual);
    let size = Size { columns: side("columns", 80), rows: side("rows", 24) };
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).max_frame_size(LARGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        hold(&visit, &name, size, socket).await;
        drop(permit);
    }))
}

/// What a page says beside what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// It has drawn so many bytes more.
    Drawn(usize),
    /// It has another size.
    Size(Size),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Size {
    columns: u32,
    rows: u32,
}

impl From<Size> for TerminalSize {
    fn from(size: Size) -> Self {
        let side = |side: u32| side.clamp(1, LARGEST_SIDE);
        Self { columns: side(size.columns), rows: side(size.rows), width: 0, height: 0 }
    }
}

/// Holds a session until the shell, the page, or the daemon ends, and says how it ended.
async fn hold(visit: &Visit, name: &str, size: Size, mut socket: WebSocket) {
    let ended = tokio::select! {
        ended = converse(visit, name, size, &mut socket) => ended,
        () = visit.app.shutdown.cancelled() => "The terminal was closed: bangerd ends. The VM goes on.".to_owned(),
        () = visit.session.over() => "The terminal was closed: you are signed out.".to_owned(),
    };
    let goodbye = async {
        // Whoever has closed the page does not hear it.
        socket.send(Message::Text(json!({ "ended": ended }).to_string().into())).await.ok();
        socket.send(Message::Close(None)).await.ok();
    };
    tokio::time::timeout(GOODBYE, goodbye).await.ok();
}

async fn converse(visit: &Visit, name: &str, size: Size, socket: &mut WebSocket) -> String {
    let target = match visit.client().session(name).await {
        Ok(target) => target,
        Err(error) => return told(&Trouble::from(error).error),
    };
    match exchange(&target, size, socket).await {
        Ok(ended) => ended,
        Err(error) => told(&error.in_vm(name)),
    }
}

/// Returns an error as a line of text.
fn told(error: &ApiError) -> String {
    let mut parts = vec![error.what.as_str()];
    parts.extend(error.why.iter().map(String::as_str));
    parts.extend(error.fix.as_deref());
    parts.join("; ")
}

/// Passes bytes on in both ways. Returns how it ended, for people.
async fn exchange(
    target: &SessionTarget,
    size: Size,
    socket: &mut WebSocket,
) -> Result<String, banger_session::SessionError> {
    let terminal = Terminal { kind: KIND.to_owned(), size: size.into() };
    let request =
        SessionRequest { program: Program::Shell, user: None, terminal: Some(terminal), agent: None };
    let (connection, channel) = open(target, &request).await?;
    let ended = pass(channel, socket).await;
    drop(connection);
    ended
}

/// What goes to a guest's shell.
enum Typed {
    Bytes(Bytes),
    Size(TerminalSize),
}

/// Passes bytes on in both ways, each on its own: a shell that does not read must be heard all the same, or neither goes on.
async fn pass(channel: Channel<Msg>, socket: &mut WebSocket) -> Result<String, banger_session::SessionError> {
    let (from_guest, to_guest) = channel.split();
    let (sender, typed) = mpsc::channel(MOST_TYPED);
    tokio::select! {
        ended = receive(from_guest, socket, sender) => Ok(ended),
        failed = send(&to_guest, typed) => Err(failed.into()),
    }
}

/// Sends what is typed, until that fails.
async fn send(to_guest: &ChannelWriteHalf<Msg>, mut typed: mpsc::Receiver<Typed>) -> russh::Error {
    while let Some(typed) = typed.recv().await {
        let sent = match typed {
            Typed::Bytes(bytes) => to_guest.data_bytes(bytes).await,
            Typed::Size(size) => {
                to_guest.window_change(size.columns, size.rows, size.width, size.height).await
            }
        };
        if let Err(error) = sent {
            return error;
        }
    }
    // Whoever types has ended, and says how.
    pending().await
}

/// Shows what is printed, and takes what is typed. Returns how it ended, for people.
async fn receive(
    mut from_guest: ChannelReadHalf,
    socket: &mut WebSocket,
    typed: mpsc::Sender<Typed>,
) -> String {
    let mut ahead = 0_usize;
    let mut status = None;
    let closed = || "The terminal was closed.".to_owned();
    if socket.send(Message::Text(json!({ "begun": true }).to_string().into())).await.is_err() {
        return closed();
    }
    loop {
        tokio::select! {
            said = socket.recv() => {
                let typed_now = match said {
                    Some(Ok(Message::Binary(bytes))) => Typed::Bytes(bytes),
                    Some(Ok(Message::Text(word))) => match serde_json::from_str(&word) {
                        Ok(Word::Drawn(count)) => {
                            ahead = ahead.saturating_sub(count);
                            continue;
                        }
                        Ok(Word::Size(size)) => Typed::Size(size.into()),
                        Err(_) => return "The page said what this version of banger does not know: reload it.".to_owned(),
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return closed(),
                };
                if typed.try_send(typed_now).is_err() {
                    return "More was typed, or pasted, than the guest reads: the terminal was closed.".to_owned();
                }
            }
            printed = next(&mut from_guest), if ahead < MOST_AHEAD => match printed {
                Printed::Bytes(bytes) => {
                    ahead += bytes.len();
                    if socket.send(Message::Binary(bytes)).await.is_err() {
                        return closed();
                    }
                }
                Printed::Status(ended) => status = Some(ended),
                Printed::End => break,
            },
        }
    }
    status.unwrap_or_else(|| "The connection to the guest was lost.".to_owned())
}

/// What comes from a guest's shell.
enum Printed {
    Bytes(Bytes),
    /// How it ended, for people.
    Status(String),
    End,
}

async fn next(from_guest: &mut ChannelReadHalf) -> Printed {
    loop {
        return match from_guest.wait().await {
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => Printed::Bytes(data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                Printed::Status(format!("The shell has ended with code {exit_status}."))
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                Printed::Status(format!("The shell was ended by the signal {signal_name:?}."))
            }
            Some(ChannelMsg::Close) | None => Printed::End,
            Some(_) => continue,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_two_things_and_no_size_is_too_large() {
        let word = |text: &str| serde_json::from_str::<Word>(text).ok();
        assert_eq!(word(r#"{"drawn":7}"#), Some(Word::Drawn(7)));
        let size = Size { columns: 0, rows: 4_000_000_000 };
        assert_eq!(word(r#"{"size":{"columns":0,"rows":4000000000}}"#), Some(Word::Size(size)));
        let bounded = TerminalSize::from(size);
        assert_eq!((bounded.columns, bounded.rows), (1, LARGEST_SIDE));
        for bad in ["", "{}", r#"{"drawn":-1}"#, r#"{"run":"rm"}"#] {
            assert_eq!(word(bad), None, "{bad}");
        }
    }
}
