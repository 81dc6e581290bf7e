//! What is read from a client and not yet taken by a program, and the brake on it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Bytes that may wait for the programs of one connection before the connection is no longer read.
const LIMIT: usize = 8 << 20;

/// How much of a connection's input waits for programs.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    /// `usize::MAX` once the client has gone: the rest is short, and its end has to be seen.
    limit: AtomicUsize,
    /// The transport's reader, when it was told to wait.
    reader: Mutex<Option<Waker>>,
}

/// Bytes that count until they are dropped.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    backlog: Arc<Backlog>,
}

impl Chunk {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.backlog.wake();
    }
}

impl Backlog {
    /// Returns an empty one.
    pub(super) fn new() -> Arc<Self> {
        Self::with_limit(LIMIT)
    }

    fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            reader: Mutex::new(None),
        })
    }

    /// Counts bytes.
    pub(super) fn hold(self: &Arc<Self>, bytes: Bytes) -> Chunk {
        self.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        Chunk { bytes, backlog: Arc::clone(self) }
    }

    /// Takes the brake away once `closed` is true, and never returns before.
    pub(super) async fn open_when(&self, mut closed: watch::Receiver<bool>) {
        if closed.wait_for(|closed| *closed).await.is_err() {
            // Whoever could tell is gone: so is the stream, and reading says so.
        }
        self.limit.store(usize::MAX, Ordering::Relaxed);
        self.wake();
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if !self.is_full()
            && let Some(waker) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waker.wake();
        }
    }

    /// Returns whether there is room; when there is none, wakes the task as soon as there is.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // Room that was made between the question and the waker woke nobody.
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// A client's stream, read only while there is room in the backlog, and written without ever waiting.
///
/// russh's loop waits until everything is written before it reads again, on both sides when the client is russh as well: two
/// such loops that both have much to say would wait for each other. So what cannot be written at once is kept here, and goes
/// out whenever the loop waits for something to read. That costs no more than the windows that the client has granted.
#[derive(Debug)]
pub(super) struct Transport<S> {
    stream: S,
    backlog: Arc<Backlog>,
    outgoing: BytesMut,
}

impl<S> Transport<S> {
    /// Wraps a stream.
    pub(super) fn new(stream: S, backlog: Arc<Backlog>) -> Self {
        Self { stream, backlog, outgoing: BytesMut::new() }
    }
}

impl<S: AsyncWrite + Unpin> Transport<S> {
    /// Writes what is kept; ready when nothing is.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        std::task::ready!(self.backlog.poll_room(cx));
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outgoing.extend_from_slice(bytes);
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_flush(cx),
            // What is kept goes out with the next read; whoever waited here would not read.
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn reading_stops_at_the_limit_and_goes_on_below_it() {
        let backlog = Backlog::with_limit(4);
        let (mut client, stream) = tokio::io::duplex(64);
        let mut transport = Transport::new(stream, Arc::clone(&backlog));
        client.write_all(b"ab").await.unwrap();
        let chunk = backlog.hold(Bytes::from_static(b"12345"));
        let mut byte = [0];
        let blocked = tokio::time::timeout(Duration::from_millis(50), transport.read(&mut byte)).await;
        assert!(blocked.is_err());
        let reading = tokio::spawn(async move {
            transport.read_exact(&mut byte).await.unwrap();
            transport
        });
        tokio::task::yield_now().await;
        drop(chunk);
        let mut transport = reading.await.unwrap();

        let _chunk = backlog.hold(Bytes::from_static(b"12345"));
        let closed = watch::Sender::new(true);
        backlog.open_when(closed.subscribe()).await;
        transport.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");
    }

    #[tokio::test]
    async fn writing_never_waits_and_all_of_it_arrives() {
        let (mut client, stream) = tokio::io::duplex(16);
        let mut transport = Transport::new(stream, Backlog::new());
        let bytes = vec![7; 10_000];
        transport.write_all(&bytes).await.unwrap();
        transport.flush().await.unwrap();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        // Nothing comes, but waiting for it writes.
        let waiting = tokio::time::timeout(Duration::from_millis(50), transport.read_u8()).await;
        assert!(waiting.is_err());
        transport.shutdown().await.unwrap();
        drop(transport);
        assert!(reading.await.unwrap() == bytes);
    }
}
