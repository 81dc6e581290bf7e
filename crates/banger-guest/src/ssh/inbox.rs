//! What a client sends on one channel.

use std::sync::Arc;

use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::termios::Winsize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::transport::{Backlog, Chunk};

/// What is not data: it overtakes data that nobody reads.
#[derive(Debug)]
pub(super) enum Control {
    /// The terminal has another size.
    Resize(Winsize),
    /// Signal the program.
    Signal(Sig),
    /// The client has closed the channel, or is gone.
    Close,
}

/// A channel's input, unbounded here and bounded by the connection's [`Backlog`].
#[derive(Debug)]
pub(super) struct Inbox {
    /// Bytes; ends with the client's EOF.
    pub(super) data: UnboundedReceiver<Chunk>,
    /// Everything else; ends after [`Control::Close`].
    pub(super) control: UnboundedReceiver<Control>,
}

/// Splits a channel into what comes, which a task of its own takes in, and where to write.
pub(super) fn receive(channel: Channel<Msg>, backlog: &Arc<Backlog>) -> (Inbox, ChannelWriteHalf<Msg>) {
    let (reader, writer) = channel.split();
    let (data_sender, data) = unbounded_channel();
    let (control_sender, control) = unbounded_channel();
    tokio::spawn(relay(reader, Arc::clone(backlog), data_sender, control_sender));
    (Inbox { data, control }, writer)
}

async fn relay(
    mut reader: ChannelReadHalf,
    backlog: Arc<Backlog>,
    data: UnboundedSender<Chunk>,
    control: UnboundedSender<Control>,
) {
    let mut data = Some(data);
    loop {
        let message = tokio::select! {
            message = reader.wait() => message,
            // The channel's owner is done with it.
            () = control.closed() => return,
        };
        let event = match message {
            Some(ChannelMsg::Data { data: bytes }) => {
                // Whoever does not want (more) data has dropped the other end: then it is dropped here.
                if let Some(data) = &data {
                    let _ = data.send(backlog.hold(bytes));
                }
                continue;
            }
            Some(ChannelMsg::Eof) => {
                data = None;
                continue;
            }
            Some(ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height }) => {
                Control::Resize(window(col_width, row_height, pix_width, pix_height))
            }
            Some(ChannelMsg::Signal { signal }) => Control::Signal(signal),
            None | Some(ChannelMsg::Close) => {
                let _ = control.send(Control::Close);
                return;
            }
            // Requests: the handler answers those.
            Some(_) => continue,
        };
        let _ = control.send(event);
    }
}

/// Returns a size as the kernel has it: 16 bits each.
pub(super) fn window(columns: u32, rows: u32, width: u32, height: u32) -> Winsize {
    let cut = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Winsize { ws_row: cut(rows), ws_col: cut(columns), ws_xpixel: cut(width), ws_ypixel: cut(height) }
}
