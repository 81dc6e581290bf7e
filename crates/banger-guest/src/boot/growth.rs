//! The private disk's file system grows to the size of its disk.
//!
//! The host makes the file larger while the VM is stopped. The kernel grows a mounted ext4 by itself
//! (`EXT4_IOC_RESIZE_FS`, linux/fs/ext4/ioctl.c): no tool has to be in the image, and a journal protects every step.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::ioctl::{Setter, ioctl, opcode};

use crate::log;

/// Where an ext4 has its superblock, and what is read of it (Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: u64 = 1024;
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xef53;

/// `_IOW('f', 16, __u64)`
const RESIZE: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);

/// An ext4's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    blocks: u64,
    /// Bytes of a block.
    block: u64,
}

/// Lets the file system of `device`, which is mounted at `mounted`, take all of the device. One that cannot grow is used as it is.
pub(super) fn grow(device: &'static str, mounted: &Path) {
    match try_to_grow(device, mounted) {
        Ok(None) => {}
        Ok(Some(bytes)) => log!("the private disk's file system has grown to {} MiB", bytes >> 20),
        Err(error) => log!("the private disk's file system does not grow: {error}"),
    }
}

/// Returns the new size in bytes, or `None` when there was nothing to do.
fn try_to_grow(device: &'static str, mounted: &Path) -> io::Result<Option<u64>> {
    let disk = File::open(device)?;
    let mut superblock = [0; LENGTH];
    disk.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let size = size_of(&superblock).ok_or(io::ErrorKind::InvalidData)?;
    let wanted = io::Seek::seek(&mut &disk, io::SeekFrom::End(0))? / size.block;
    if wanted <= size.blocks {
        return Ok(None);
    }
    resize(File::open(mounted)?, wanted)?;
    Ok(Some(wanted * size.block))
}

#[expect(unsafe_code, reason = "rustix does not know ext4's ioctls")]
fn resize(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: the request takes a pointer to one 64-bit number, and only reads it.
    unsafe { ioctl(directory, Setter::<RESIZE, u64>::new(blocks)) }.map_err(io::Error::from)
}

/// Returns the size that a superblock names: `s_blocks_count_lo` and `_hi`, `s_log_block_size`.
fn size_of(superblock: &[u8; LENGTH]) -> Option<Size> {
    let number = |at: usize| Some(u32::from_le_bytes(superblock.get(at..at + 4)?.try_into().ok()?));
    let magic = u16::from_le_bytes(superblock.get(0x38..0x3a)?.try_into().ok()?);
    let exponent = number(0x18)?;
    // The largest block of the format has 64 KiB.
    (magic == MAGIC && exponent <= 6).then_some(())?;
    Some(Size { blocks: u64::from(number(0x150)?) << 32 | u64::from(number(4)?), block: 1024 << exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_tells_the_size() {
        let mut superblock = [0; LENGTH];
        assert_eq!(size_of(&superblock), None);
        superblock[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        superblock[4..8].copy_from_slice(&7u32.to_le_bytes());
        superblock[0x18] = 2;
        superblock[0x150] = 1;
        assert_eq!(size_of(&superblock), Some(Size { blocks: (1 << 32) + 7, block: 4096 }));
        superblock[0x18] = 7;
        assert_eq!(size_of(&superblock), None);
    }

    #[test]
    fn the_request_is_the_kernels() {
        assert_eq!(RESIZE, 0x4008_6610);
    }
}
