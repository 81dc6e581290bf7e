//! The byte stream that carries the control channel, and the task that moves its bytes.
//!
//! It is a socket where the machine has a socket device, and else a port of its console.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use super::mux::{Mux, Offer};
use super::{port, socket};
use crate::async_file::AsyncFile;
use crate::log;
use crate::virtio::Device;

/// Bytes that are read at once. The driver hands out a page at a time at most, so that more would be idle memory.
const READ_SIZE: usize = 16 << 10;
/// Reads and writes in a row before other tasks get their turn.
const BURST: usize = 16;
/// How long a host that cannot be reached is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Moves bytes for as long as the program runs. Each stream that the host opens goes to `serve`.
pub(super) async fn drive(mux: Mux, serve: impl Fn(Offer, String)) {
    let result = if Device::Socket.is_there() {
        drive_socket(&mux, serve).await
    } else {
        drive_port(&mux, serve).await
    };
    if let Err(error) = result {
        log!("no control channel: {error}");
    }
}

async fn drive_port(mux: &Mux, serve: impl Fn(Offer, String)) -> io::Result<()> {
    pump(&Link::new(port::open().await?, false)?, mux, serve).await
}

/// A connection that ends is followed by another.
async fn drive_socket(mux: &Mux, serve: impl Fn(Offer, String)) -> io::Result<()> {
    let listener = socket::Listener::new()?;
    loop {
        let connected = listener.connected().await.and_then(|connection| Link::new(connection, true));
        match connected {
            Ok(link) => {
                if let Err(error) = pump(&link, mux, &serve).await {
                    log!("the host has gone: {error}");
                }
                mux.begin_anew()?;
            }
            Err(error) => {
                log!("the host cannot be reached: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn pump(link: &Link, mux: &Mux, serve: impl Fn(Offer, String)) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let mut busy = false;
        for _ in 0..BURST {
            let Some(length) = link.read(&mut buffer)? else { break };
            busy = true;
            match mux.receive(&buffer[..length]) {
                Ok(offers) => offers.into_iter().for_each(|(offer, service)| serve(offer, service)),
                Err(error) => {
                    log!("the host broke the channel's protocol: {error}; beginning anew");
                    mux.begin_anew()?;
                }
            }
        }
        for _ in 0..BURST {
            match mux.write_output(|bytes| link.write(bytes)) {
                None | Some(Ok(0)) => break,
                Some(result) => busy |= result? > 0,
            }
        }
        if busy {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                result = link.changed() => result?,
                () = mux.kicked() => {}
            }
        }
    }
}

/// An open byte stream.
///
/// While no host is connected a console's port says "hung up" (`EPOLLHUP`) to every question, which tokio takes for a
/// final answer: it would never wait again. So the stream is watched by an epoll instance of its own, edge-triggered, and
/// tokio watches that instance, which only ever says that something has changed.
#[derive(Debug)]
struct Link {
    stream: OwnedFd,
    changes: AsyncFile,
    /// Whether a read of nothing is the end; a port that reads nothing has no host, for now.
    ends: bool,
}

impl Link {
    fn new(stream: OwnedFd, ends: bool) -> io::Result<Self> {
        let changes = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &changes,
            &stream,
            EventData::new_u64(0),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        Ok(Self { stream, ends, changes: AsyncFile::register(changes, Interest::READABLE)? })
    }

    /// Reads what is there; `None` when nothing is, or no host.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.stream, buffer) {
            Ok(0) if self.ends => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Ok(length) => Ok(Some(length)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what can be written now; 0 when nothing can.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.stream, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            result => Ok(result?),
        }
    }

    /// Waits until the stream may have something to read, room to write, or a host.
    async fn changed(&self) -> io::Result<()> {
        self.changes.changed().await?;
        // Taken before the stream is tried again, so that no change is lost in between.
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.changes, &mut events[..], Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
