//! Inodes as bytes (inodes.rst).

use super::extent::{self, Extent};
use super::layout::{
    BLOCK_BYTES, FLAG_EXTENTS, INODE, INODE_BASE, INODE_EXTRA, LONGEST_INLINE_TARGET, MOST_LINKS, file_mode,
};
use super::tree::{Kind, Node};
use crate::encoding::{count, high_16, high_32, low_16, low_32, put_u16, put_u32};
use crate::rootfs::{Special, Timestamp};

/// Where the blocks that an inode has beside a file's data begin, and how many they are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Placement {
    /// The first block: of a directory's entries, a link's target, or a file's extent tree.
    pub(super) first: u32,
    /// How many.
    pub(super) blocks: u32,
    /// The block of extended attributes, or 0.
    pub(super) attributes: u32,
    /// Directories in this directory.
    pub(super) subdirectories: u32,
}

/// Returns the bytes of an inode.
pub(super) fn encode(node: &Node, placement: &Placement) -> [u8; INODE] {
    let mut inode = [0; INODE];
    let body = body(&node.kind, placement);
    put_u16(&mut inode, 0x00, body.file_type | (node.mode & 0o7777));
    put_u16(&mut inode, 0x02, low_16(node.uid));
    put_u32(&mut inode, 0x04, low_32(body.size));
    put_u16(&mut inode, 0x18, low_16(node.gid));
    put_u16(&mut inode, 0x1a, links(node, placement));
    let blocks = body.blocks + u64::from(placement.attributes != 0);
    // Counted in units of 512 bytes.
    let sectors = blocks * (BLOCK_BYTES / 512);
    put_u32(&mut inode, 0x1c, low_32(sectors));
    put_u32(&mut inode, 0x20, body.flags);
    inode[0x28..0x28 + 60].copy_from_slice(&body.map);
    put_u32(&mut inode, 0x68, placement.attributes);
    put_u32(&mut inode, 0x6c, high_32(body.size));
    put_u16(&mut inode, 0x74, low_16(high_32(sectors)));
    put_u16(&mut inode, 0x78, high_16(node.uid));
    put_u16(&mut inode, 0x7a, high_16(node.gid));
    put_u16(&mut inode, INODE_BASE, INODE_EXTRA);
    // Access, change, modification and creation: the archive knows only one of them, and the clock
    // has no place in a reproducible image.
    let (seconds, extra) = time(node.modified);
    for (at, extra_at) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
        put_u32(&mut inode, at, seconds);
        put_u32(&mut inode, extra_at, extra);
    }
    if let Some(attributes) = &node.attributes {
        attributes.put_in_inode(&mut inode);
    }
    inode
}

fn links(node: &Node, placement: &Placement) -> u16 {
    let links = match node.kind {
        Kind::Directory { .. } => 2 + placement.subdirectories,
        _ => node.names,
    };
    // Feature dir_nlink: 1 says "more than can be counted".
    if links > MOST_LINKS { 1 } else { low_16(links) }
}

/// Seconds have 34 bits: 32 in the old field, signed, and 2 below the nanoseconds (inodes.rst,
/// "Inode Timestamps"). What lies outside is moved to the nearest time that can be kept.
fn time(time: Timestamp) -> (u32, u32) {
    const EARLIEST: i64 = -(1 << 31);
    const LATEST: i64 = (1 << 34) - (1 << 31) - 1;
    let seconds = time.seconds.clamp(EARLIEST, LATEST);
    let nanoseconds = if seconds == time.seconds { time.nanoseconds.min(999_999_999) } else { 0 };
    let [b0, b1, b2, b3, ..] = seconds.to_le_bytes();
    let low = u32::from_le_bytes([b0, b1, b2, b3]);
    // An epoch is added to the signed low half, so the first begins at the earliest time.
    let epoch = low_32(((seconds - EARLIEST) >> 32).unsigned_abs());
    (low, nanoseconds << 2 | epoch)
}

struct Body {
    file_type: u16,
    size: u64,
    /// Blocks, without that of the attributes.
    blocks: u64,
    flags: u32,
    map: [u8; 60],
}

fn body(kind: &Kind, placement: &Placement) -> Body {
    let own = [Extent { logical: 0, physical: placement.first, length: placement.blocks }];
    match kind {
        Kind::Directory { .. } => Body {
            file_type: file_mode::DIRECTORY,
            size: u64::from(placement.blocks) * BLOCK_BYTES,
            blocks: placement.blocks.into(),
            flags: FLAG_EXTENTS,
            map: directory_map(placement),
        },
        Kind::File { size, extents } => Body {
            file_type: file_mode::REGULAR,
            size: *size,
            blocks: extents.iter().map(|e| u64::from(e.length)).sum::<u64>() + u64::from(placement.blocks),
            flags: FLAG_EXTENTS,
            map: extent::root(extents, placement.first),
        },
        Kind::Link(target) if target.len() <= LONGEST_INLINE_TARGET => {
            let mut map = [0; 60];
            map[..target.len()].copy_from_slice(target);
            Body { file_type: file_mode::LINK, size: count(target.len()), blocks: 0, flags: 0, map }
        }
        Kind::Link(target) => Body {
            file_type: file_mode::LINK,
            size: count(target.len()),
            blocks: 1,
            flags: FLAG_EXTENTS,
            map: extent::root(&own, 0),
        },
        Kind::Special(special) => {
            let (file_type, map) = special_body(*special);
            Body { file_type, size: 0, blocks: 0, flags: 0, map }
        }
    }
}

/// A directory is contiguous, and four extents hold 131072 blocks: more than 500 MB of names, which
/// the bound on a directory's size keeps it below.
fn directory_map(placement: &Placement) -> [u8; 60] {
    let mut extents = Vec::with_capacity(1);
    extent::push(&mut extents, 0, placement.first, placement.blocks);
    extent::root(&extents, 0)
}

/// Device numbers: in the old form where they fit, else in the new one in the second word
/// (inodes.rst, `i_block` of device files; `linux/kdev_t.h`).
fn special_body(special: Special) -> (u16, [u8; 60]) {
    let mut map = [0; 60];
    let file_type = match special {
        Special::CharacterDevice { .. } => file_mode::CHARACTER,
        Special::BlockDevice { .. } => file_mode::BLOCK,
        Special::Fifo => file_mode::FIFO,
        Special::Socket => file_mode::SOCKET,
    };
    if let Special::CharacterDevice { major, minor } | Special::BlockDevice { major, minor } = special {
        if major < 256 && minor < 256 {
            put_u32(&mut map, 0, major << 8 | minor);
        } else {
            put_u32(&mut map, 4, (minor & 0xff) | major << 8 | (minor & !0xff) << 12);
        }
    }
    (file_type, map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_wrap_into_epochs() {
        let at = |seconds| time(Timestamp { seconds, nanoseconds: 1 });
        assert_eq!(at(0), (0, 4));
        assert_eq!(at(-1), (u32::MAX, 4));
        assert_eq!(at(0x7fff_ffff), (0x7fff_ffff, 4));
        assert_eq!(at(0x8000_0000), (0x8000_0000, 5));
        assert_eq!(at(i64::MAX), (0x7fff_ffff, 3), "the latest time, without nanoseconds");
        assert_eq!(at(i64::MIN), (0x8000_0000, 0), "the earliest time, without nanoseconds");
    }
}
