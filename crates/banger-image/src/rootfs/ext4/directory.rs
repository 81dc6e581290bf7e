//! Blocks of directories (directory.rst, "Linear Directories").

use super::layout::{BLOCK, entry_type};
use crate::encoding::{low_16, low_32, put_u8, put_u16, put_u32};
use crate::rootfs::Special;

use super::tree::Kind;

/// Bytes of an entry before its name.
pub(super) const ENTRY: usize = 8;

/// Returns the `file_type` of an entry for this kind of inode.
pub(super) fn type_of(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory { .. } => entry_type::DIRECTORY,
        Kind::File { .. } => entry_type::REGULAR,
        Kind::Link(_) => entry_type::LINK,
        Kind::Special(Special::CharacterDevice { .. }) => entry_type::CHARACTER,
        Kind::Special(Special::BlockDevice { .. }) => entry_type::BLOCK,
        Kind::Special(Special::Fifo) => entry_type::FIFO,
        Kind::Special(Special::Socket) => entry_type::SOCKET,
    }
}

/// Gathers entries into blocks. Entries never cross a block's end; the last one of a block is
/// stretched to it.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    bytes: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
    /// Where the next one goes.
    end: usize,
}

impl Blocks {
    /// Returns the bytes that an entry with a name of this length takes.
    pub(super) const fn entry_size(name_length: usize) -> usize {
        (ENTRY + name_length).next_multiple_of(4)
    }

    /// Adds an entry. Names are 255 bytes at most: [`crate::rootfs::TreePath`] sees to it.
    pub(super) fn push(&mut self, inode: u32, file_type: u8, name: &[u8]) {
        let size = Self::entry_size(name.len());
        if self.end + size > self.bytes.len() {
            self.stretch();
            self.bytes.resize(self.bytes.len() + BLOCK, 0);
        }
        let entry = &mut self.bytes[self.end..];
        put_u32(entry, 0, inode);
        put_u16(entry, 4, low_16(low_32(size as u64)));
        put_u8(entry, 6, name.len().to_le_bytes()[0]);
        put_u8(entry, 7, file_type);
        entry[ENTRY..ENTRY + name.len()].copy_from_slice(name);
        self.last = self.end;
        self.end += size;
    }

    /// Lets the last entry reach to its block's end, so that the next begins a new one.
    pub(super) fn stretch(&mut self) {
        if self.end < self.bytes.len() {
            let size = self.bytes.len() - self.last;
            put_u16(&mut self.bytes, self.last + 4, low_16(low_32(size as u64)));
            self.end = self.bytes.len();
        }
    }

    /// Returns the blocks.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.stretch();
        self.bytes
    }
}
