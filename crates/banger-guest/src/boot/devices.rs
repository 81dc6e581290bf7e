//! Waiting for the drives.

use std::path::Path;
use std::time::{Duration, Instant};

use banger_types::guest::drive;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::BootError;
use crate::uevent;

/// How long a drive may take to appear. `virtio_blk` finds them while its module is being loaded, so that normally
/// nothing is waited for at all.
const LIMIT: Duration = Duration::from_secs(10);

/// Every guest's drives.
pub(super) const DRIVES: [&str; 4] = [drive::BASE, drive::PRIVATE, drive::MODULES, drive::CONFIG];

/// Returns once these drives are there.
pub(super) fn wait_for(drives: &[&'static str]) -> Result<(), BootError> {
    if missing(drives).is_none() {
        return Ok(());
    }
    let end = Instant::now() + LIMIT;
    let socket = uevent::socket().map_err(|source| BootError::File {
        action: "listen for",
        path: "uevents".into(),
        source,
    })?;
    // Looked at again after the socket is open: nothing can slip between.
    while let Some(path) = missing(drives) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(BootError::NoDevice { path, seconds: LIMIT.as_secs() });
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        // A failure or a timeout is seen by the look at the clock above.
        let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout));
        uevent::drain(&socket);
    }
    Ok(())
}

fn missing(drives: &[&'static str]) -> Option<&'static str> {
    drives.iter().copied().find(|path| !Path::new(path).exists())
}
