//! Forwarded connections (RFC 4254 section 7).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelOpenFailure, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::inbox::{self, Control, Inbox};
use super::transport::{Backlog, Chunk};

/// Bytes that are read from a connection at once.
const READ_SIZE: usize = 32 << 10;

/// Connects to the first of the addresses that answers.
pub(super) async fn connect(addresses: Vec<IpAddr>, port: u32) -> Result<TcpStream, ChannelOpenFailure> {
    let Ok(port) = u16::try_from(port) else { return Err(ChannelOpenFailure::ConnectFailed) };
    for address in addresses {
        if let Ok(stream) = TcpStream::connect((address, port)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(ChannelOpenFailure::ConnectFailed)
}

/// How long a listener that could not accept waits. Short of files it would fail at once, again and again, and there
/// is no event to wait for.
pub(super) const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Passes bytes between a channel and a connection, each direction to its own end.
pub(super) async fn splice<S>(inbox: Inbox, writer: ChannelWriteHalf<Msg>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Inbox { data, mut control } = inbox;
    let (reader, sink) = tokio::io::split(stream);
    let closed = async {
        while let Some(event) = control.recv().await {
            if matches!(event, Control::Close) {
                break;
            }
        }
    };
    let outward = async {
        tokio::select! {
            () = fill(reader, &writer) => {}
            () = closed => {}
        }
    };
    // A client that has closed the channel wants nothing more of the connection, but what it had sent before still counts.
    tokio::join!(drain(data, sink), outward);
    let _ = writer.close().await;
}

async fn drain(mut data: UnboundedReceiver<Chunk>, mut sink: impl AsyncWrite + Unpin) {
    while let Some(chunk) = data.recv().await {
        if sink.write_all(chunk.bytes()).await.is_err() {
            return;
        }
    }
    let _ = sink.shutdown().await;
}

async fn fill(mut reader: impl AsyncRead + Unpin, writer: &ChannelWriteHalf<Msg>) {
    let mut buffer = vec![0; READ_SIZE];
    while let Ok(length) = reader.read(&mut buffer).await
        && length > 0
    {
        if writer.data_bytes(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
            return;
        }
    }
    let _ = writer.eof().await;
}

/// Gives a channel that we have opened to a connection.
pub(super) async fn splice_opened<S>(channel: Channel<Msg>, backlog: &Arc<Backlog>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (inbox, writer) = inbox::receive(channel, backlog);
    splice(inbox, writer, stream).await;
}

/// Sends each connection to a port of the guest to the client (`ssh -R`). `address` is what the client asked for.
pub(super) async fn serve_remote(
    listener: TcpListener,
    handle: Handle,
    backlog: Arc<Backlog>,
    address: String,
) {
    let port = listener.local_addr().map_or(0, |address| u32::from(address.port()));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // The connection was gone before we had it, or files are short: the next one may do better.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (handle, backlog, address) = (handle.clone(), Arc::clone(&backlog), address.clone());
        tokio::spawn(async move {
            let opened = handle
                .channel_open_forwarded_tcpip(address, port, peer.ip().to_string(), u32::from(peer.port()))
                .await;
            if let Ok(channel) = opened {
                splice_opened(channel, &backlog, stream).await;
            }
        });
    }
}
