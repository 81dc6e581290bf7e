//! The guest's clock, set by the host's.

use std::io;

use rustix::time::{ClockId, clock_gettime, clock_settime};

/// A clock that is off by no more than this is left alone, nanoseconds. A jump costs programs more.
const TOLERANCE: u128 = 100_000_000;

/// Sets the clock to the host's time if it is off by more than the tolerance.
pub(super) fn adjust(unix_time_ns: u64) -> io::Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    if (now - i128::from(unix_time_ns)).unsigned_abs() <= TOLERANCE { Ok(()) } else { set(unix_time_ns) }
}

fn set(unix_time_ns: u64) -> io::Result<()> {
    let time = crate::boot::timespec(unix_time_ns).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(clock_settime(ClockId::Realtime, time)?)
}
