//! This process's standard input, output and error, each on a thread of its own.
//!
//! They may be files, pipes or terminals that others have open too, so they can neither be polled
//! in every case nor be set non-blocking; and a thread that waits for a terminal does not keep the
//! process from ending.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Bytes of one piece: as much as an SSH packet takes.
const PIECE: usize = 32 << 10;

/// Pieces between a thread and the connection; more wait where they come from.
const PIECES: usize = 8;

/// Where a piece of output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// Standard input.
#[derive(Debug)]
pub(crate) struct Input {
    pieces: mpsc::Receiver<Bytes>,
}

impl Input {
    /// Begins to read standard input.
    pub(crate) fn start() -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            let mut buffer = vec![0; PIECE];
            loop {
                match input.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // One that cannot be read, because it is closed or its terminal is gone, has
                    // no more to say.
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self { pieces }
    }

    /// Returns the next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

/// Standard output and error, in the order in which they are given.
#[derive(Debug)]
pub(crate) struct Output {
    pieces: mpsc::Sender<(Stream, Bytes)>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Begins to write.
    pub(crate) fn start() -> Self {
        let (pieces, mut receiver) = mpsc::channel::<(Stream, Bytes)>(PIECES);
        let (sender, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let result = loop {
                let Some((stream, piece)) = receiver.blocking_recv() else { break Ok(()) };
                if let Err(error) = write(stream, &piece) {
                    break Err(error);
                }
            };
            // The receiver is gone when nobody wants to know any more.
            drop(sender.send(result));
        });
        Self { pieces, ended }
    }

    /// Writes a piece, or waits until there is room for it. Fails if an earlier one could not be
    /// written.
    pub(crate) async fn write(&mut self, stream: Stream, piece: Bytes) -> io::Result<()> {
        if self.pieces.send((stream, piece)).await.is_ok() {
            return Ok(());
        }
        (&mut self.ended).await.unwrap_or(Ok(())).and(Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        self.ended.await.unwrap_or(Ok(()))
    }

    /// Waits until something could not be written.
    pub(crate) async fn failed(&mut self) -> io::Error {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

fn write(stream: Stream, piece: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Output => {
            let mut output = io::stdout().lock();
            output.write_all(piece)?;
            output.flush()
        }
        Stream::Error => io::stderr().lock().write_all(piece),
    }
}
