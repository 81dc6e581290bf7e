//! The end of the pass: everything that is not a file's data.
//!
//! What comes after the data, in this order: directories, long link targets, extent trees and
//! attribute blocks; then all groups' block bitmaps, inode bitmaps and inode tables (`flex_bg` lets
//! them be anywhere); last, at the front, group descriptors and superblock.

use std::io;

use fs_err::os::unix::fs::FileExt;
use rustix::fs::FallocateFlags;
use sha2::{Digest, Sha256};

use super::attribute::Attributes;
use super::blocks::BlockStream;
use super::directory::{self, Blocks};
use super::extent;
use super::inode::{self, Placement};
use super::layout::{
    BLOCK, BLOCK_BYTES, BLOCKS_PER_GROUP, DESCRIPTOR, DESCRIPTORS_PER_BLOCK, FIRST_DATA_BLOCK, FIRST_INODE,
    INODE, INODES_PER_BLOCK, LIMIT_GIB, LONGEST_INLINE_TARGET, MOST_BLOCKS, MOST_INODES_PER_GROUP,
    ROOT_INODE,
};
use super::superblock::{self, Superblock};
use super::tree::{Entries, Kind, Node, NodeId, Tree};
use crate::encoding::{count, low_16, low_32, put_u16, put_u32};
use crate::rootfs::WriteError;

/// A part of the last group that is too small to be worth its trouble is stretched to this.
const SHORTEST_GROUP: u64 = 256;

/// Writes the rest of the file system and returns its size in bytes.
pub(super) fn finish(tree: &mut Tree, stream: BlockStream, label: &str) -> Result<u64, WriteError> {
    tree.add_lost_and_found()?;
    Finish { numbers: number(tree), tree, stream }.run(label)
}

/// Gives every node its inode number, in the order of their making; 0 to those that are gone.
fn number(tree: &Tree) -> Vec<u32> {
    let mut numbers = vec![0; tree.ids()];
    let others = tree.iter().filter(|(id, _)| *id != NodeId::ROOT);
    for ((id, _), number) in others.zip(FIRST_INODE..) {
        numbers[id.index()] = number;
    }
    numbers[NodeId::ROOT.index()] = ROOT_INODE;
    numbers
}

struct Finish<'a> {
    tree: &'a Tree,
    stream: BlockStream,
    numbers: Vec<u32>,
}

/// Where the groups' metadata goes.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    groups: u64,
    inodes_per_group: u32,
    /// The first block bitmap; the others follow, then the inode bitmaps, then the inode tables.
    first: u64,
    /// Blocks in all.
    blocks: u64,
}

impl Geometry {
    /// Finds the smallest number of groups that holds the data before `first`, the inodes, and the
    /// groups' own blocks.
    fn new(first: u64, inodes: u32) -> Result<Self, WriteError> {
        let mut groups = u64::from(inodes.div_ceil(MOST_INODES_PER_GROUP));
        loop {
            if groups * BLOCKS_PER_GROUP > MOST_BLOCKS {
                return Err(too_large());
            }
            let inodes_per_group = inodes.div_ceil(low_32(groups)).next_multiple_of(INODES_PER_BLOCK);
            let table = u64::from(inodes_per_group / INODES_PER_BLOCK);
            let end = first + groups * (2 + table);
            let needed = end.div_ceil(BLOCKS_PER_GROUP);
            if needed <= groups {
                // More groups than the blocks need: only their inodes are wanted. The space between
                // is free and was never written.
                let shortest = (groups - 1) * BLOCKS_PER_GROUP + if groups > 1 { SHORTEST_GROUP } else { 0 };
                return Ok(Self { groups, inodes_per_group, first, blocks: end.max(shortest) });
            }
            groups = needed;
        }
    }

    fn block_bitmap(&self, group: u64) -> u64 {
        self.first + group
    }

    fn inode_bitmap(&self, group: u64) -> u64 {
        self.first + self.groups + group
    }

    fn inode_table(&self, group: u64) -> u64 {
        let table = u64::from(self.inodes_per_group / INODES_PER_BLOCK);
        self.first + 2 * self.groups + group * table
    }

    fn end(&self) -> u64 {
        self.inode_table(self.groups)
    }

    fn inodes(&self) -> u32 {
        self.inodes_per_group * low_32(self.groups)
    }

    fn descriptor_blocks(&self) -> u64 {
        self.groups.div_ceil(DESCRIPTORS_PER_BLOCK)
    }
}

fn too_large() -> WriteError {
    WriteError::TooLarge { limit_gib: LIMIT_GIB }
}

impl Finish<'_> {
    fn run(mut self, label: &str) -> Result<u64, WriteError> {
        let placements = self.place_all()?;
        let used = self.numbers.iter().copied().max().unwrap_or(ROOT_INODE).max(FIRST_INODE - 1);
        let geometry = Geometry::new(self.stream.next(), used)?;
        let free = self.free_blocks(&geometry);
        let (bitmaps, free_per_group) = block_bitmaps(&geometry, &free);
        let directories = self.directories_per_group(&geometry);
        let uuid = self.write_groups(&geometry, &placements, &bitmaps, used).map_err(WriteError::Image)?;

        let descriptors = descriptors(&geometry, &free_per_group, &directories, used);
        let superblock = Superblock {
            blocks: geometry.blocks,
            free_blocks: free_per_group.iter().copied().map(u64::from).sum(),
            inodes: geometry.inodes(),
            free_inodes: geometry.inodes() - used,
            inodes_per_group: geometry.inodes_per_group,
            uuid,
            label: superblock::label(label),
        };
        let freed = self.tree.freed();
        let write = || -> io::Result<()> {
            let file = self.stream.finish()?;
            file.write_all_at(&descriptors, BLOCK_BYTES)?;
            file.write_all_at(&superblock.encode(), count(superblock::OFFSET))?;
            for extent in freed {
                let (start, length) = (u64::from(extent.physical), u64::from(extent.length));
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // A favour to the host's disk; a file system that cannot do it changes nothing.
                let _: Result<(), _> =
                    rustix::fs::fallocate(file.file(), flags, start * BLOCK_BYTES, length * BLOCK_BYTES);
            }
            file.set_len(geometry.blocks * BLOCK_BYTES)
        };
        write().map_err(WriteError::Image)?;
        Ok(geometry.blocks * BLOCK_BYTES)
    }

    /// Writes what the inodes have beside files' data.
    fn place_all(&mut self) -> Result<Vec<Placement>, WriteError> {
        let mut placements = vec![Placement::default(); self.numbers.len()];
        let tree = self.tree;
        for (id, node) in tree.iter() {
            placements[id.index()] = self.place(id, node).map_err(WriteError::Image)?;
            if self.stream.next() > MOST_BLOCKS {
                return Err(too_large());
            }
        }
        Ok(placements)
    }

    fn place(&mut self, id: NodeId, node: &Node) -> io::Result<Placement> {
        let mut placement = Placement { first: self.next(), ..Placement::default() };
        match &node.kind {
            Kind::Directory { parent, entries } => {
                let (blocks, subdirectories) = self.directory(id, *parent, entries);
                self.stream.append(&blocks)?;
                placement.subdirectories = subdirectories;
            }
            Kind::File { extents, .. } => {
                extent::leaf_blocks(extents).try_for_each(|block| self.stream.append(&block))?;
            }
            Kind::Link(target) if target.len() > LONGEST_INLINE_TARGET => self.stream.append(target)?,
            Kind::Link(_) | Kind::Special(_) => {}
        }
        placement.blocks = self.next() - placement.first;
        if let Some(attributes) = node.attributes.as_deref().filter(|a| Attributes::needs_block(a)) {
            placement.attributes = self.next();
            self.stream.append(&attributes.block())?;
        }
        Ok(placement)
    }

    fn next(&self) -> u32 {
        low_32(self.stream.next())
    }

    fn directory(&self, id: NodeId, parent: NodeId, entries: &Entries) -> (Vec<u8>, u32) {
        let mut blocks = Blocks::default();
        let mut subdirectories = 0;
        let type_of = |id| self.tree.kind(id).map_or(0, directory::type_of);
        let itself = [(id, &b"."[..]), (parent, b"..")];
        for (entry, name) in itself {
            blocks.push(self.numbers[entry.index()], type_of(entry), name);
        }
        for (name, entry) in entries {
            let node = entry.node;
            subdirectories += u32::from(matches!(self.tree.kind(node), Some(Kind::Directory { .. })));
            blocks.push(self.numbers[node.index()], type_of(node), name);
        }
        (blocks.finish(), subdirectories)
    }

    /// Returns the runs of blocks that nothing uses: `(first, length)`.
    fn free_blocks(&self, geometry: &Geometry) -> Vec<(u64, u64)> {
        let unused_descriptors = 1 + geometry.descriptor_blocks();
        let mut free = vec![
            (unused_descriptors, FIRST_DATA_BLOCK - unused_descriptors),
            (geometry.end(), geometry.blocks - geometry.end()),
        ];
        free.extend(self.tree.freed().iter().map(|e| (u64::from(e.physical), u64::from(e.length))));
        free
    }

    fn directories_per_group(&self, geometry: &Geometry) -> Vec<u32> {
        let mut directories = vec![0; low_32(geometry.groups) as usize];
        for (id, node) in self.tree.iter() {
            if matches!(node.kind, Kind::Directory { .. }) {
                let group = (self.numbers[id.index()] - 1) / geometry.inodes_per_group;
                directories[group as usize] += 1;
            }
        }
        directories
    }

    fn write_groups(
        &mut self,
        geometry: &Geometry,
        placements: &[Placement],
        block_bitmaps: &[u8],
        used_inodes: u32,
    ) -> io::Result<[u8; 16]> {
        self.stream.append(block_bitmaps)?;
        for group in 0..low_32(geometry.groups) {
            let first = group * geometry.inodes_per_group;
            let used = used_inodes.saturating_sub(first).min(geometry.inodes_per_group);
            let mut bitmap = vec![0; BLOCK];
            set_bits(&mut bitmap, 0, used);
            // Bits without an inode are set (inode_bitmap: "bits beyond the end are set").
            set_bits(&mut bitmap, geometry.inodes_per_group, low_32(count(BLOCK)) * 8);
            self.stream.append(&bitmap)?;
        }
        self.write_inodes(geometry, placements)
    }

    fn write_inodes(&mut self, geometry: &Geometry, placements: &[Placement]) -> io::Result<[u8; 16]> {
        const BATCH: usize = 64 * BLOCK;
        let mut batch: Vec<u8> = Vec::with_capacity(BATCH);
        let mut hash = Sha256::new();
        let tree = self.tree;
        // The root has a number below all others; between it and them lie the reserved ones.
        let reserved = usize::try_from(FIRST_INODE - 1).unwrap_or_default();
        batch.resize(reserved * INODE, 0);
        for (id, node) in tree.iter() {
            let inode = inode::encode(node, &placements[id.index()]);
            if id == NodeId::ROOT {
                let at = (ROOT_INODE as usize - 1) * INODE;
                batch[at..at + INODE].copy_from_slice(&inode);
                continue;
            }
            batch.extend_from_slice(&inode);
            if batch.len() == BATCH {
                hash.update(&batch);
                self.stream.append(&batch)?;
                batch.clear();
            }
        }
        hash.update(&batch);
        self.stream.append(&batch)?;
        let end = geometry.end();
        let zeros = vec![0; BLOCK];
        while self.stream.next() < end {
            self.stream.append(&zeros)?;
        }
        Ok(uuid(hash))
    }
}

/// Returns a UUID of version 8 (RFC 9562 section 5.8: "vendor-specific") made of the inodes.
fn uuid(inodes: Sha256) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&inodes.finalize()[..16]);
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}

/// Sets the bits from `start` up to `end`.
fn set_bits(bitmap: &mut [u8], start: u32, end: u32) {
    for bit in start..end {
        bitmap[(bit / 8) as usize] |= 1 << (bit % 8);
    }
}

/// Returns all groups' block bitmaps, one after the other, and the number of free blocks in each.
/// One bitmap of the whole is the same bytes as those of the groups: each has a block's worth of
/// bits. Bits beyond the last block are set (blockgroup.rst).
fn block_bitmaps(geometry: &Geometry, free: &[(u64, u64)]) -> (Vec<u8>, Vec<u32>) {
    let mut bitmap = vec![0xff; low_32(geometry.groups) as usize * BLOCK];
    let mut free_per_group = vec![0; low_32(geometry.groups) as usize];
    for &(first, length) in free {
        for block in low_32(first)..low_32(first + length) {
            bitmap[(block / 8) as usize] &= !(1 << (block % 8));
            free_per_group[(block / low_32(BLOCKS_PER_GROUP)) as usize] += 1;
        }
    }
    (bitmap, free_per_group)
}

/// Returns the table of group descriptors (`group_descr.rst`).
fn descriptors(geometry: &Geometry, free_blocks: &[u32], directories: &[u32], used_inodes: u32) -> Vec<u8> {
    let mut table = vec![0; free_blocks.len() * DESCRIPTOR];
    let groups = table.chunks_exact_mut(DESCRIPTOR).zip(0u32..).zip(free_blocks.iter().zip(directories));
    for ((descriptor, group), (&free_blocks, &directories)) in groups {
        let used = used_inodes.saturating_sub(group * geometry.inodes_per_group);
        let free_inodes = geometry.inodes_per_group - used.min(geometry.inodes_per_group);
        let group = u64::from(group);
        put_u32(descriptor, 0x00, low_32(geometry.block_bitmap(group)));
        put_u32(descriptor, 0x04, low_32(geometry.inode_bitmap(group)));
        put_u32(descriptor, 0x08, low_32(geometry.inode_table(group)));
        put_u16(descriptor, 0x0c, low_16(free_blocks));
        put_u16(descriptor, 0x0e, low_16(free_inodes));
        put_u16(descriptor, 0x10, low_16(directories));
    }
    table
}
