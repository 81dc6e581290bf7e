//! The virtio-serial port that carries the control channel, and the task that moves its bytes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use banger_types::guest::CONTROL_PORT_NAME;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use super::mux::{Mux, Offer};
use crate::async_file::AsyncFile;
use crate::{log, uevent};

/// Bytes that are read at once. The driver hands out a page at a time at most, so that more would be idle memory.
const READ_SIZE: usize = 16 << 10;
/// Reads and writes in a row before other tasks get their turn.
const BURST: usize = 16;

/// Finds the port and moves bytes for as long as the program runs. Each stream that the host opens goes to `serve`.
pub(super) async fn drive(mux: Mux, serve: impl Fn(Offer, String)) {
    let port = match open().await {
        Ok(port) => port,
        Err(error) => {
            log!("no control channel: {error}");
            return;
        }
    };
    if let Err(error) = pump(&port, &mux, serve).await {
        log!("the control channel broke: {error}");
    }
}

async fn pump(port: &Port, mux: &Mux, serve: impl Fn(Offer, String)) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let mut busy = false;
        for _ in 0..BURST {
            let Some(length) = port.read(&mut buffer)? else { break };
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
            match mux.write_output(|bytes| port.write(bytes)) {
                None | Some(Ok(0)) => break,
                Some(result) => busy |= result? > 0,
            }
        }
        if busy {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                result = port.changed() => result?,
                () = mux.kicked() => {}
            }
        }
    }
}

/// The open port.
///
/// While no host is connected the port says "hung up" (`EPOLLHUP`) to every question, which tokio takes for a final
/// answer: it would never wait again. So the port is watched by an epoll instance of its own, edge-triggered, and tokio
/// watches that instance, which only ever says that something has changed.
#[derive(Debug)]
struct Port {
    device: OwnedFd,
    changes: AsyncFile,
}

impl Port {
    fn new(device: OwnedFd) -> io::Result<Self> {
        let changes = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &changes,
            &device,
            EventData::new_u64(0),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        Ok(Self { device, changes: AsyncFile::register(changes, Interest::READABLE)? })
    }

    /// Reads what is there; `None` when nothing is, or no host.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.device, buffer) {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Ok(length) => Ok(Some(length)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what can be written now; 0 when nothing can.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::io::write(&self.device, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            result => Ok(result?),
        }
    }

    /// Waits until the port may have something to read, room to write, or a host.
    async fn changed(&self) -> io::Result<()> {
        self.changes.changed().await?;
        // Taken before the port is tried again, so that no change is lost in between.
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 4];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.changes, &mut events[..], Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens the port as soon as it is there. Its name comes with a message of its own, after the device.
async fn open() -> io::Result<Port> {
    if let Some(path) = find() {
        return Port::new(open_device(&path)?);
    }
    let events = AsyncFile::new(uevent::socket()?, Interest::READABLE)?;
    loop {
        // Looked for after the socket is open: the event cannot slip between.
        if let Some(path) = find() {
            return Port::new(open_device(&path)?);
        }
        events.changed().await?;
        uevent::drain(&events);
    }
}

fn open_device(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", path.display())))
}

/// Returns the device of the port with our name. The kernel makes it in devtmpfs, without any udev.
fn find() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let port = ports.filter_map(Result::ok).find(|port| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == CONTROL_PORT_NAME)
    })?;
    let device = Path::new("/dev").join(port.file_name());
    device.exists().then_some(device)
}
