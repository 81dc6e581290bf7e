//! Blocks of a file system that nobody uses, given back to whoever has the disk.

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Updater, ioctl, opcode};

/// `FITRIM`: `_IOWR('X', 121, struct fstrim_range)` (linux/fs.h).
const TRIM: rustix::ioctl::Opcode = opcode::read_write::<Range>(b'X', 121);

/// `struct fstrim_range`, bytes.
#[repr(C)]
#[derive(Debug)]
struct Range {
    start: u64,
    /// How far to look, and then how much was given back.
    length: u64,
    /// Shorter free extents are left.
    minimum: u64,
}

/// Gives all free blocks of the file system back that a directory is on. Returns how many bytes they have.
#[expect(unsafe_code, reason = "rustix does not know this request")]
pub(crate) fn trim(directory: impl AsFd) -> io::Result<u64> {
    let mut range = Range { start: 0, length: u64::MAX, minimum: 0 };
    // SAFETY: the request takes a pointer to a `struct fstrim_range`, which it reads and writes.
    unsafe { ioctl(directory, Updater::<TRIM, Range>::new(&mut range)) }?;
    Ok(range.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_kernels() {
        assert_eq!(TRIM, 0xc018_5879);
    }
}
