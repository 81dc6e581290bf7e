//! The port of the virtio console that carries the control channel.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use banger_types::guest::CONTROL_PORT_NAME;
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;

use crate::async_file::AsyncFile;
use crate::uevent;

/// Opens the port as soon as it is there. Its name comes with a message of its own, after the device.
pub(super) async fn open() -> io::Result<OwnedFd> {
    if let Some(path) = find() {
        return open_device(&path);
    }
    let events = AsyncFile::new(uevent::socket()?, Interest::READABLE)?;
    loop {
        // Looked for after the socket is open: the event cannot slip between.
        if let Some(path) = find() {
            return open_device(&path);
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
