//! The superblock (super.rst).

use super::layout::{BLOCK_BYTES, BLOCKS_PER_GROUP, FIRST_INODE, INODE, INODE_EXTRA};
use crate::encoding::{low_16, low_32, put_u8, put_u16, put_u32};

/// Bytes from the start of the file system to the superblock.
pub(super) const OFFSET: usize = 1024;
const SIZE: usize = 1024;

// Feature flags: s_feature_compat, s_feature_incompat, s_feature_ro_compat.
const COMPATIBLE: u32 = EXT_ATTR | SPARSE_SUPER2;
const EXT_ATTR: u32 = 0x8;
const SPARSE_SUPER2: u32 = 0x200;
const INCOMPATIBLE: u32 = FILETYPE | EXTENTS | FLEX_BG;
const FILETYPE: u32 = 0x2;
const EXTENTS: u32 = 0x40;
const FLEX_BG: u32 = 0x200;
const READ_ONLY_COMPATIBLE: u32 = LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE;
const LARGE_FILE: u32 = 0x2;
const HUGE_FILE: u32 = 0x8;
const DIR_NLINK: u32 = 0x20;
const EXTRA_ISIZE: u32 = 0x40;

/// `s_default_mount_opts`: user attributes and access control lists.
const MOUNT_XATTR_ACL: u32 = 0x4 | 0x8;

/// What is in a superblock of ours and differs from one to the next.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) inodes: u32,
    pub(super) free_inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
}

impl Superblock {
    /// Returns the bytes. Times are 0: the clock has no place in a reproducible image.
    pub(super) fn encode(&self) -> [u8; SIZE] {
        let mut block = [0; SIZE];
        let per_group = low_32(BLOCKS_PER_GROUP);
        let log_block_size = BLOCK_BYTES.trailing_zeros() - 10;
        put_u32(&mut block, 0x00, self.inodes);
        put_u32(&mut block, 0x04, low_32(self.blocks));
        put_u32(&mut block, 0x0c, low_32(self.free_blocks));
        put_u32(&mut block, 0x10, self.free_inodes);
        put_u32(&mut block, 0x18, log_block_size);
        put_u32(&mut block, 0x1c, log_block_size);
        put_u32(&mut block, 0x20, per_group);
        put_u32(&mut block, 0x24, per_group);
        put_u32(&mut block, 0x28, self.inodes_per_group);
        put_u16(&mut block, 0x36, 0xffff); // s_max_mnt_count: no check by count
        put_u16(&mut block, 0x38, 0xef53);
        put_u16(&mut block, 0x3a, 1); // s_state: cleanly unmounted
        put_u16(&mut block, 0x3c, 1); // s_errors: go on
        put_u32(&mut block, 0x4c, 1); // s_rev_level: inodes of dynamic size
        put_u32(&mut block, 0x54, FIRST_INODE);
        put_u16(&mut block, 0x58, low_16(low_32(INODE as u64)));
        put_u32(&mut block, 0x5c, COMPATIBLE);
        put_u32(&mut block, 0x60, INCOMPATIBLE);
        put_u32(&mut block, 0x64, READ_ONLY_COMPATIBLE);
        block[0x68..0x78].copy_from_slice(&self.uuid);
        block[0x78..0x88].copy_from_slice(&self.label);
        put_u32(&mut block, 0x100, MOUNT_XATTR_ACL);
        put_u16(&mut block, 0x15c, INODE_EXTRA);
        put_u16(&mut block, 0x15e, INODE_EXTRA);
        put_u8(&mut block, 0x174, 4); // s_log_groups_per_flex
        block
    }
}

/// Returns the label, cut to its field.
pub(super) fn label(text: &str) -> [u8; 16] {
    let mut label = [0; 16];
    for (to, from) in label.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    label
}
