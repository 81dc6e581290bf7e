//! `banger vm proxy`, for OpenSSH's `ProxyCommand`.

use banger_session::connect_to_monitor;
use banger_types::guest::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{DONE, Outcome};
use crate::arguments::ProxyArguments;
use crate::context::Context;
use crate::session::{Input, Output, SessionError, Stream};

/// Bytes that are read from the guest at once.
const PIECE: usize = 32 << 10;

/// Connects standard input and output to the guest's SSH server until that hangs up.
pub(in crate::command) async fn proxy(context: &Context, arguments: &ProxyArguments) -> Outcome {
    let target = context.daemon().await?.session(&arguments.name).await?;
    let in_vm = |error: SessionError| error.in_vm(target.name.as_str());
    let stream = connect_to_monitor(&target.monitor_socket, Service::Ssh).await;
    let stream = stream.map_err(|error| in_vm(error.into()))?;
    let (mut from_guest, mut to_guest) = stream.into_split();
    let sending = tokio::spawn(async move {
        let mut input = Input::start();
        while let Some(piece) = input.next().await {
            // It fails when the guest hung up, which the receiving side tells.
            if to_guest.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to_guest.shutdown().await);
    });
    let mut output = Output::start();
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        let count = tokio::select! {
            count = from_guest.read_buf(&mut piece) => count,
            error = output.failed() => return Err(in_vm(SessionError::Output(error))),
        };
        // A connection that breaks is one that ended: SSH itself tells the difference.
        if count.unwrap_or(0) == 0 {
            break;
        }
        output.write(Stream::Output, piece.freeze()).await.map_err(|e| in_vm(SessionError::Output(e)))?;
    }
    sending.abort();
    output.finish().await.map_err(|error| in_vm(SessionError::Output(error)))?;
    Ok(DONE)
}
