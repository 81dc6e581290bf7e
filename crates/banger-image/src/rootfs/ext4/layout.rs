//! Numbers of the on-disk format.
//!
//! All from the kernel's Documentation/filesystems/ext4/ ("Data Structures and Algorithms"), whose
//! file names are given where a group of constants begins.

/// Bytes in a block; the only size that is written here.
pub(super) const BLOCK: usize = 4096;
/// The same for arithmetic on sizes.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Blocks in a group: as many as one block of bitmap has bits (blockgroup.rst).
pub(super) const BLOCKS_PER_GROUP: u64 = 32768;
/// Inodes in a group at most, for the same reason.
pub(super) const MOST_INODES_PER_GROUP: u32 = 32768;
/// Bytes of a group descriptor without the `64bit` feature (`group_descr.rst`).
pub(super) const DESCRIPTOR: usize = 32;
/// Group descriptors in a block.
pub(super) const DESCRIPTORS_PER_BLOCK: u64 = 128;
/// Blocks kept free after the superblock for descriptors, as their number is known only at the end.
/// What is not needed of them is free space that was never written.
pub(super) const DESCRIPTOR_BLOCKS: u64 = 16;
/// The first block that data can be in.
pub(super) const FIRST_DATA_BLOCK: u64 = 1 + DESCRIPTOR_BLOCKS;
/// Blocks of the largest file system: 256 GiB.
pub(super) const MOST_BLOCKS: u64 = DESCRIPTOR_BLOCKS * DESCRIPTORS_PER_BLOCK * BLOCKS_PER_GROUP;

/// The same in GiB, for messages.
pub(super) const LIMIT_GIB: u64 = (MOST_BLOCKS * BLOCK_BYTES) >> 30;

/// Bytes of an inode (inodes.rst).
pub(super) const INODE: usize = 256;
/// Inodes in a block.
pub(super) const INODES_PER_BLOCK: u32 = 16;
/// Bytes of an inode before its extra fields.
pub(super) const INODE_BASE: usize = 128;
/// Bytes of the extra fields that are written: up to and with `i_projid`.
pub(super) const INODE_EXTRA: u16 = 32;
/// Where attributes inside an inode begin.
pub(super) const INODE_ATTRIBUTES: usize = 160;
/// The root's inode (`special_inodes.rst`).
pub(super) const ROOT_INODE: u32 = 2;
/// The first inode that is not reserved.
pub(super) const FIRST_INODE: u32 = 11;
/// Most links of an inode; a directory with more has the count 1 (feature `dir_nlink`).
pub(super) const MOST_LINKS: u32 = 65000;
/// `i_flags`: the block map is a tree of extents.
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;

/// `i_mode`, the type.
pub(super) mod file_mode {
    pub(in super::super) const FIFO: u16 = 0x1000;
    pub(in super::super) const CHARACTER: u16 = 0x2000;
    pub(in super::super) const DIRECTORY: u16 = 0x4000;
    pub(in super::super) const BLOCK: u16 = 0x6000;
    pub(in super::super) const REGULAR: u16 = 0x8000;
    pub(in super::super) const LINK: u16 = 0xa000;
    pub(in super::super) const SOCKET: u16 = 0xc000;
}

/// `file_type` of a directory entry (directory.rst).
pub(super) mod entry_type {
    pub(in super::super) const REGULAR: u8 = 1;
    pub(in super::super) const DIRECTORY: u8 = 2;
    pub(in super::super) const CHARACTER: u8 = 3;
    pub(in super::super) const BLOCK: u8 = 4;
    pub(in super::super) const FIFO: u8 = 5;
    pub(in super::super) const SOCKET: u8 = 6;
    pub(in super::super) const LINK: u8 = 7;
}

/// Longest target of a symbolic link that sits in its inode (inodes.rst, "Symbolic Links").
pub(super) const LONGEST_INLINE_TARGET: usize = 59;
/// Longest target at all: a block less its NUL.
pub(super) const LONGEST_TARGET: usize = BLOCK - 1;

/// Blocks of the longest extent (ifork.rst, "Extent Tree").
pub(super) const LONGEST_EXTENT: u32 = 32768;
/// Extents that fit into an inode.
pub(super) const INLINE_EXTENTS: usize = 4;
/// Extents that fit into a block.
pub(super) const EXTENTS_PER_BLOCK: usize = (BLOCK - 12) / 12;
/// Extents of a file at most, with one level of blocks.
pub(super) const MOST_EXTENTS: usize = INLINE_EXTENTS * EXTENTS_PER_BLOCK;
