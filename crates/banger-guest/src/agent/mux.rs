//! Streams of the control channel as tokio knows streams.
//!
//! The protocol is `banger-channel`'s [`Endpoint`], a pure state machine. [`Mux`] puts it behind a lock that is never held
//! across an await; a [`MuxStream`] works on it directly, and wakes the driver when there is something to write.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use banger_channel::{Backlog, Endpoint, Event, ProtocolError, StreamId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};

/// Streams do not add to an output that is longer than this, bytes.
const OUTPUT_LIMIT: usize = 512 << 10;

/// The channel's streams. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Mux {
    state: Arc<Mutex<State>>,
    /// There is something to write.
    kick: Arc<Notify>,
    /// Everything has been written.
    drained: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    /// Counts endpoints: a stream of an earlier one is gone, whatever its number.
    generation: u64,
    slots: HashMap<StreamId, Slot>,
    /// Writers that wait for the output to become shorter.
    crowd: Vec<Waker>,
}

/// One stream's side that the driver fills.
#[derive(Debug)]
struct Slot {
    incoming: Backlog,
    /// Nothing comes any more.
    finished: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// True once the host has ended its side or the whole stream.
    closed: watch::Sender<bool>,
}

impl Slot {
    fn new() -> Self {
        Self {
            incoming: Backlog::default(),
            finished: false,
            reader: None,
            writer: None,
            closed: watch::Sender::new(false),
        }
    }

    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

impl Mux {
    /// Returns a channel that begins with a greeting in its output.
    pub(super) fn new() -> io::Result<Self> {
        let state = State { endpoint: greeting()?, generation: 0, slots: HashMap::new(), crowd: Vec::new() };
        Ok(Self { state: Arc::new(Mutex::new(state)), kick: Arc::default(), drained: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes from the port, and returns the streams that the host opened, with their service.
    pub(super) fn receive(&self, bytes: &[u8]) -> Result<Vec<(Offer, String)>, ProtocolError> {
        let mut state = self.lock();
        state.endpoint.receive(bytes)?;
        let mut offers = Vec::new();
        while let Some(event) = state.endpoint.next_event() {
            if let Some((id, service)) = state.handle(event) {
                let generation = state.generation;
                offers.push((Offer { mux: Some(self.clone()), id, generation }, service));
            }
        }
        Ok(offers)
    }

    /// Forgets every stream and greets anew: for a host that has lost its way in the byte stream.
    pub(super) fn begin_anew(&self) -> io::Result<()> {
        let endpoint = greeting()?;
        let mut state = self.lock();
        state.endpoint = endpoint;
        state.generation += 1;
        state.end_all();
        Ok(())
    }

    /// Lets `write` write from the output; it returns how much it wrote. Returns that, or `None` when there is nothing.
    pub(super) fn write_output(
        &self,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let mut state = self.lock();
        if !state.endpoint.has_output() {
            self.drained.notify_waiters();
            return None;
        }
        let written = match write(state.endpoint.output()) {
            Ok(written) => written,
            Err(error) => return Some(Err(error)),
        };
        state.endpoint.advance_output(written);
        if state.endpoint.output_len() < OUTPUT_LIMIT {
            state.crowd.drain(..).for_each(Waker::wake);
        }
        Some(Ok(written))
    }

    /// Waits until there is something new to write.
    pub(super) async fn kicked(&self) {
        self.kick.notified().await;
    }

    /// Waits until everything has been written, but not for long: the host may have stopped reading.
    pub(super) async fn flush(&self) {
        let drain = async {
            loop {
                let drained = self.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if !self.lock().endpoint.has_output() {
                    return;
                }
                self.kick.notify_one();
                drained.await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain).await;
    }
}

fn greeting() -> io::Result<Endpoint> {
    let mut session = [0; 16];
    rustix::rand::getrandom(&mut session, rustix::rand::GetRandomFlags::empty())?;
    Ok(Endpoint::guest(session))
}

impl State {
    /// Passes an event on to its stream. Returns a stream that the host wants opened.
    fn handle(&mut self, event: Event) -> Option<(StreamId, String)> {
        match event {
            Event::Connected | Event::Disconnected => self.end_all(),
            Event::Incoming(id, service) => {
                self.slots.insert(id, Slot::new());
                return Some((id, service));
            }
            Event::Data(id, bytes) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.incoming.push(bytes);
                    slot.wake();
                }
            }
            Event::Writable(id) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.wake();
                }
            }
            Event::Finished(id) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.finished = true;
                    slot.closed.send_replace(true);
                    slot.wake();
                }
            }
            Event::Reset(id) => {
                if let Some(mut slot) = self.slots.remove(&id) {
                    slot.closed.send_replace(true);
                    slot.wake();
                }
            }
            // Answers to what only a host asks.
            Event::Opened(_) | Event::Refused(..) => {}
        }
        None
    }

    fn end_all(&mut self) {
        for (_, mut slot) in self.slots.drain() {
            slot.closed.send_replace(true);
            slot.wake();
        }
    }

    /// Returns the slot of a stream that is not gone.
    fn slot(&mut self, generation: u64, id: StreamId) -> io::Result<&mut Slot> {
        let current = self.generation == generation;
        let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
        self.slots.get_mut(&id).filter(|_| current).ok_or_else(gone)
    }
}

/// A stream that the host wants opened. Dropped without an answer, it is refused.
#[derive(Debug)]
pub(super) struct Offer {
    mux: Option<Mux>,
    id: StreamId,
    generation: u64,
}

impl Offer {
    /// Opens the stream.
    pub(super) fn accept(mut self) -> MuxStream {
        // There is always a channel: it is taken only here and in `refuse`, which consume the offer.
        let mux = self.mux.take().unwrap_or_else(|| unreachable!("an offer is answered once"));
        let mut state = mux.lock();
        if state.generation == self.generation {
            state.endpoint.accept(self.id);
        }
        drop(state);
        mux.kick.notify_one();
        MuxStream { mux, id: self.id, generation: self.generation }
    }

    /// Turns the stream down, for a reason that people can read.
    pub(super) fn refuse(mut self, reason: &str) {
        self.answer_no(reason);
    }

    fn answer_no(&mut self, reason: &str) {
        let Some(mux) = self.mux.take() else { return };
        let mut state = mux.lock();
        if state.generation == self.generation {
            state.endpoint.refuse(self.id, reason);
            state.slots.remove(&self.id);
        }
        drop(state);
        mux.kick.notify_one();
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.answer_no("the guest could not serve it");
    }
}

/// One open stream. Dropping it ends it both ways.
#[derive(Debug)]
pub(super) struct MuxStream {
    mux: Mux,
    id: StreamId,
    generation: u64,
}

impl MuxStream {
    /// Returns what becomes true as soon as the host has ended its side, read or not.
    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        match self.mux.lock().slot(self.generation, self.id) {
            Ok(slot) => slot.closed.subscribe(),
            Err(_) => watch::Sender::new(true).subscribe(),
        }
    }
}

impl AsyncRead for MuxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.mux.lock();
        let slot = state.slot(self.generation, self.id)?;
        let mut taken = 0;
        while !slot.incoming.is_empty() && buffer.remaining() > 0 {
            let bytes = slot.incoming.front();
            let length = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..length]);
            taken += length;
            slot.incoming.advance(length);
        }
        if taken > 0 {
            state.endpoint.consumed(self.id, taken);
            if state.endpoint.has_output() {
                self.mux.kick.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        if slot.finished || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        slot.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.mux.lock();
        state.slot(self.generation, self.id)?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if state.endpoint.output_len() >= OUTPUT_LIMIT {
            state.crowd.push(cx.waker().clone());
            return Poll::Pending;
        }
        let sent = state.endpoint.send(self.id, bytes);
        if sent == 0 {
            state.slot(self.generation, self.id)?.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.mux.kick.notify_one();
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.mux.lock();
        if state.slot(self.generation, self.id).is_ok() {
            state.endpoint.finish(self.id);
            self.mux.kick.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        let mut state = self.mux.lock();
        if state.slot(self.generation, self.id).is_ok() {
            state.slots.remove(&self.id);
            // Nothing is sent when both sides have finished.
            state.endpoint.reset(self.id);
            self.mux.kick.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Passes everything that waits from one side to the other, until nothing does.
    fn settle(host: &mut Endpoint, mux: &Mux) -> Vec<(Offer, String)> {
        let mut offers = Vec::new();
        loop {
            let mut moved = false;
            let to_guest = host.output().to_vec();
            host.advance_output(to_guest.len());
            if !to_guest.is_empty() {
                offers.extend(mux.receive(&to_guest).unwrap());
                moved = true;
            }
            while let Some(written) = mux.write_output(|bytes| {
                host.receive(bytes).unwrap();
                Ok(bytes.len())
            }) {
                moved |= written.unwrap() > 0;
            }
            if !moved {
                return offers;
            }
        }
    }

    fn connected() -> (Endpoint, Mux) {
        let mut host = Endpoint::host();
        let mux = Mux::new().unwrap();
        settle(&mut host, &mux);
        assert_eq!(host.next_event(), Some(Event::Connected));
        (host, mux)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_halves_close_by_themselves() {
        let (mut host, mux) = connected();
        let id = host.open("agent").unwrap();
        let (offer, name) = settle(&mut host, &mux).remove(0);
        assert_eq!(name, "agent");
        let mut stream = offer.accept();
        settle(&mut host, &mux);
        assert_eq!(host.next_event(), Some(Event::Opened(id)));
        assert_eq!(host.send(id, b"hello"), 5);
        host.finish(id);
        settle(&mut host, &mux);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        assert!(*stream.closed().borrow());
        stream.write_all(b"still open").await.unwrap();
        stream.shutdown().await.unwrap();
        settle(&mut host, &mux);
        assert_eq!(host.next_event(), Some(Event::Data(id, b"still open".to_vec())));
        assert_eq!(host.next_event(), Some(Event::Finished(id)));
        drop(stream);
        settle(&mut host, &mux);
        assert_eq!(host.next_event(), None, "a stream that has ended is not reset");
    }

    #[tokio::test]
    async fn small_pieces_are_read_as_one() {
        let (mut host, mux) = connected();
        let id = host.open("ssh").unwrap();
        let (offer, _) = settle(&mut host, &mux).remove(0);
        let mut stream = offer.accept();
        settle(&mut host, &mux);
        let bytes: Vec<u8> = (0..banger_channel::WINDOW).map(|number| number.to_le_bytes()[0]).collect();
        for byte in bytes.chunks(1) {
            assert_eq!(host.send(id, byte), 1);
        }
        settle(&mut host, &mux);
        let mut buffer = vec![0; 2 * bytes.len()];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), bytes.len());
        assert!(buffer.starts_with(&bytes));
    }

    #[tokio::test]
    async fn a_writer_without_credit_waits_and_goes_on_with_credit() {
        let (mut host, mux) = connected();
        let id = host.open("ssh").unwrap();
        let (offer, _) = settle(&mut host, &mux).remove(0);
        let mut stream = offer.accept();
        let writing = tokio::spawn(async move {
            stream.write_all(&vec![7; banger_channel::WINDOW + 1]).await.unwrap();
            stream
        });
        let mut received = 0;
        while received <= banger_channel::WINDOW {
            tokio::task::yield_now().await;
            settle(&mut host, &mux);
            while let Some(event) = host.next_event() {
                if let Event::Data(_, bytes) = event {
                    received += bytes.len();
                    host.consumed(id, bytes.len());
                }
            }
        }
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_of_an_earlier_session_is_gone_even_if_its_number_comes_again() {
        let (mut host, mux) = connected();
        host.open("ssh").unwrap();
        let (offer, _) = settle(&mut host, &mux).remove(0);
        let mut stream = offer.accept();
        mux.begin_anew().unwrap();
        let mut host = Endpoint::host();
        settle(&mut host, &mux);
        let id = host.open("ssh").unwrap();
        let (offer, _) = settle(&mut host, &mux).remove(0);
        let _second = offer.accept();
        assert!(stream.read(&mut [0; 8]).await.is_err());
        assert!(stream.write(b"x").await.is_err());
        drop(stream);
        settle(&mut host, &mux);
        assert_eq!(host.next_event(), Some(Event::Connected));
        assert_eq!(host.next_event(), Some(Event::Opened(id)));
        assert_eq!(host.next_event(), None, "the second stream is not reset by the first");
    }

    #[tokio::test]
    async fn an_offer_that_nobody_answers_is_refused() {
        let (mut host, mux) = connected();
        let id = host.open("ssh").unwrap();
        drop(settle(&mut host, &mux));
        settle(&mut host, &mux);
        assert!(matches!(host.next_event(), Some(Event::Refused(refused, _)) if refused == id));
    }
}
