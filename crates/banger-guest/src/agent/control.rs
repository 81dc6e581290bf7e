//! The service `agent`: JSON lines between guest and host (banger-types, `guest`).

use std::io;
use std::sync::Arc;

use banger_types::guest::{
    GuestHello, GuestMessage, GuestReply, GuestRequest, HostMessage, ListeningSockets, PROTOCOL_NEWEST,
    PROTOCOL_OLDEST, PROTOCOL_WITH_SOCKETS, ShutdownAction, Transport,
};
use rustix::process::Pid;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::task::JoinSet;

use super::clock;
use super::listeners::Listeners;
use super::mux::{Mux, MuxStream};
use super::sockets::listening;
use super::stats::stats;
use super::stopping::Stopping;
use crate::trim::trim;
use crate::{boot, init, log};

/// Longest line from the host, bytes. A host's lines are short, and a host is not trusted with our memory.
const LINE_LIMIT: u64 = 64 << 10;

/// One host's connection.
pub(super) struct Control {
    stopping: Stopping,
    mux: Mux,
    listeners: Listeners,
    /// Trims the private disk, and takes its time.
    trim: Arc<dyn Fn() -> io::Result<u64> + Send + Sync>,
}

impl Control {
    pub(super) fn new(stopping: Stopping, mux: Mux, listeners: Listeners) -> Self {
        Self { stopping, mux, listeners, trim: Arc::new(trim_private_disk) }
    }

    /// Serves one host to the end of its connection.
    pub(super) async fn serve(self, stream: MuxStream) {
        let (reader, writer) = tokio::io::split(stream);
        let result =
            self.converse(Lines { reader: BufReader::new(reader), line: Vec::new() }, Messages(writer)).await;
        if let Err(error) = result {
            log!("agent connection: {error}");
        }
    }

    async fn converse(
        self,
        mut lines: Lines<impl AsyncRead + Unpin>,
        mut messages: Messages<impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        messages.send(&GuestMessage::Hello(hello())).await?;
        let Some(first) = lines.next().await? else { return Ok(()) };
        let protocol = match first {
            HostMessage::Welcome { protocol, unix_time_ns } => {
                if !(PROTOCOL_OLDEST..=PROTOCOL_NEWEST).contains(&protocol) {
                    return Err(invalid(&format!("the host chose protocol {protocol}")));
                }
                if let Err(error) = clock::adjust(unix_time_ns) {
                    log!("cannot set the clock: {error}");
                }
                protocol
            }
            HostMessage::Request { .. } => return Err(invalid("the host did not begin with its welcome")),
        };
        messages.send(&GuestMessage::Ready).await?;
        self.serve_requests(protocol, lines, messages).await
    }

    /// Answers what a host asks that was welcomed.
    async fn serve_requests(
        mut self,
        protocol: u32,
        mut lines: Lines<impl AsyncRead + Unpin>,
        mut messages: Messages<impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        let mut promise = self.stopping.promise();
        let mut stopping = self.stopping.subscribe();
        let mut told = None;
        // A host that does not know them would break the conversation off.
        let mut tells_sockets = protocol >= PROTOCOL_WITH_SOCKETS;
        self.listeners.mark_changed();
        // What takes long goes on beside the conversation: a host that wants an end is heard all the while.
        let mut trims = JoinSet::new();
        loop {
            let announced = *stopping.borrow_and_update();
            if let Some(action) = announced
                && told != announced
            {
                messages.send(&GuestMessage::Stopping(action)).await?;
                told = announced;
                drop(promise.take());
            }
            tokio::select! {
                line = lines.next() => match line? {
                    Some(HostMessage::Request { id, request: GuestRequest::Trim }) if trims.is_empty() => {
                        let trim = Arc::clone(&self.trim);
                        trims.spawn_blocking(move || (id, trim()));
                    }
                    Some(HostMessage::Request { id, request }) => {
                        let shutdown = matches!(request, GuestRequest::Shutdown(_)).then(|| request.clone());
                        let result = self.answer(request).await;
                        let accepted = result.is_ok();
                        messages.send(&GuestMessage::Reply { id, result }).await?;
                        if let Some(GuestRequest::Shutdown(action)) = shutdown.filter(|_| accepted) {
                            self.go_down(action).await;
                        }
                    }
                    Some(HostMessage::Welcome { .. }) => return Err(invalid("the host welcomed twice")),
                    None => return Ok(()),
                },
                Some(trimmed) = trims.join_next() => {
                    let (id, trimmed) = trimmed.map_err(io::Error::other)?;
                    let problem = |error| format!("the private disk cannot be trimmed: {error}");
                    let result = trimmed.map(GuestReply::Trimmed).map_err(problem);
                    messages.send(&GuestMessage::Reply { id, result }).await?;
                }
                changed = stopping.changed() => changed.map_err(io::Error::other)?,
                changed = self.listeners.changed(), if tells_sockets => {
                    tells_sockets = changed.is_ok();
                    let sockets = self.listeners.borrow_and_update().clone();
                    if let Some(sockets) = sockets {
                        messages.send(&GuestMessage::Sockets(sockets)).await?;
                    }
                }
            }
        }
    }

    /// Does what is asked; a shutdown itself comes after its answer.
    async fn answer(&self, request: GuestRequest) -> Result<GuestReply, String> {
        match request {
            GuestRequest::Shutdown(_) => Ok(GuestReply::Done),
            GuestRequest::Sync => tokio::task::spawn_blocking(rustix::fs::sync)
                .await
                .map(|()| GuestReply::Done)
                .map_err(|error| error.to_string()),
            GuestRequest::SetClock(unix_time_ns) => {
                clock::adjust(unix_time_ns).map(|()| GuestReply::Done).map_err(|error| error.to_string())
            }
            GuestRequest::Trim => Err("the private disk is being trimmed already".to_owned()),
            GuestRequest::Sockets => {
                let told = self.listeners.borrow().is_some();
                let look = || listening(&[Transport::Tcp, Transport::Udp], &[]);
                let found = tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())?;
                found
                    .map(|found| GuestReply::Sockets(ListeningSockets { told, ..found }))
                    .map_err(|error| format!("the kernel does not say what listens: {error}"))
            }
            GuestRequest::Stats => stats().map(GuestReply::Stats).map_err(|error| error.to_string()),
        }
    }

    /// Announces the end and asks process 1 for it.
    async fn go_down(&self, action: ShutdownAction) {
        self.stopping.announce(action);
        self.mux.flush().await;
        if let Err(error) = init::signals::send(Pid::INIT, init::signals::request(action)) {
            log!("cannot ask process 1 to go down: {error}");
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn hello() -> GuestHello {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    GuestHello {
        protocol_oldest: PROTOCOL_OLDEST,
        protocol_newest: PROTOCOL_NEWEST,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.trim().to_owned(),
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        systemd: init::is_systemd(),
    }
}

/// The disk itself is mounted nowhere; directories that lie on it are.
fn trim_private_disk() -> io::Result<u64> {
    let mut trimmed = Err(io::ErrorKind::NotFound.into());
    for (_, directory) in boot::VOLUMES {
        trimmed = std::fs::File::open(directory).and_then(trim);
        if trimmed.is_ok() {
            break;
        }
    }
    trimmed
}

/// The host's lines.
struct Lines<R> {
    reader: BufReader<R>,
    /// The beginning of a line; kept here so that a cancelled [`Lines::next`] loses nothing.
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Returns the next message; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<HostMessage>> {
        let room = LINE_LIMIT - self.line.len() as u64;
        (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        match line.last() {
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) if line.len() as u64 == LINE_LIMIT => Err(invalid("the host's line is too long")),
            Some(_) | None => Ok(None),
        }
    }
}

/// Our lines.
struct Messages<W>(W);

impl<W: AsyncWrite + Unpin> Messages<W> {
    async fn send(&mut self, message: &GuestMessage) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_host_is_heard_while_the_disk_is_being_trimmed() {
        let (done, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let trim = Arc::new(move || gate.lock().unwrap().recv().map_err(io::Error::other));
        let (_, listeners) = tokio::sync::watch::channel(None);
        let control = Control { stopping: Stopping::default(), mux: Mux::new().unwrap(), listeners, trim };
        let (host, guest) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(guest);
        let lines = Lines { reader: BufReader::new(reader), line: Vec::new() };
        let served = tokio::spawn(control.serve_requests(PROTOCOL_NEWEST, lines, Messages(writer)));
        let (reader, mut writer) = tokio::io::split(host);
        let mut answers = BufReader::new(reader).lines();
        let requests = [GuestRequest::Trim, GuestRequest::Trim, GuestRequest::Stats];
        for (id, request) in (1..).zip(requests) {
            let line = serde_json::to_string(&HostMessage::Request { id, request }).unwrap();
            writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        let mut next = async || {
            // One that is deaf never answers.
            let line = tokio::time::timeout(Duration::from_secs(30), answers.next_line()).await;
            let line = line.expect("an answer").unwrap().unwrap();
            match serde_json::from_str(&line).unwrap() {
                GuestMessage::Reply { id, result } => (id, result),
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(next().await, (2, Err(_))));
        assert!(matches!(next().await, (3, Ok(GuestReply::Stats(_)))));
        done.send(7).unwrap();
        assert_eq!(next().await, (1, Ok(GuestReply::Trimmed(7))));
        drop((writer, answers));
        served.await.unwrap().unwrap();
    }
}
