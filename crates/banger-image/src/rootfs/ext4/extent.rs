//! Extents: runs of blocks, and the tree that lists them (ifork.rst, "Extent Tree").

use super::layout::{BLOCK, EXTENTS_PER_BLOCK, INLINE_EXTENTS, LONGEST_EXTENT};
use crate::encoding::{count, low_16, low_32, put_u16, put_u32};

const HEADER_MAGIC: u16 = 0xf30a;

/// A run of blocks of a file. Block numbers have 32 bits: the file system has 2^26 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block within the file.
    pub(super) logical: u32,
    /// First block within the file system.
    pub(super) physical: u32,
    /// Blocks, at most [`LONGEST_EXTENT`].
    pub(super) length: u32,
}

/// Appends a run, joining it to the last one where both are contiguous.
pub(super) fn push(extents: &mut Vec<Extent>, logical: u32, physical: u32, length: u32) {
    let (mut logical, mut physical, mut length) = (logical, physical, length);
    if let Some(last) = extents.last_mut()
        && last.logical + last.length == logical
        && last.physical + last.length == physical
    {
        let joined = length.min(LONGEST_EXTENT - last.length);
        last.length += joined;
        logical += joined;
        physical += joined;
        length -= joined;
    }
    while length > 0 {
        let part = length.min(LONGEST_EXTENT);
        extents.push(Extent { logical, physical, length: part });
        logical += part;
        physical += part;
        length -= part;
    }
}

/// Returns how many blocks of their own the extents need: none, or leaves of a tree of depth 1.
pub(super) fn leaves(extents: usize) -> u32 {
    if extents <= INLINE_EXTENTS { 0 } else { low_32(count(extents.div_ceil(EXTENTS_PER_BLOCK))) }
}

/// Returns the root of the tree, for `i_block`. `first_leaf` is the first of [`leaves`] blocks.
pub(super) fn root(extents: &[Extent], first_leaf: u32) -> [u8; 60] {
    let mut root = [0; 60];
    if leaves(extents.len()) == 0 {
        put_node(&mut root, extents);
        return root;
    }
    let groups = extents.chunks(EXTENTS_PER_BLOCK);
    put_header(&mut root, groups.len(), INLINE_EXTENTS, 1);
    for (index, (group, leaf)) in groups.zip(first_leaf..).enumerate() {
        let entry = &mut root[12 * (index + 1)..];
        put_u32(entry, 0, group[0].logical);
        put_u32(entry, 4, leaf);
    }
    root
}

/// Returns the leaves of the tree, in order.
pub(super) fn leaf_blocks(extents: &[Extent]) -> impl Iterator<Item = Vec<u8>> {
    let groups = if leaves(extents.len()) == 0 { &[] } else { extents };
    groups.chunks(EXTENTS_PER_BLOCK).map(|group| {
        let mut block = vec![0; BLOCK];
        put_node(&mut block, group);
        block
    })
}

fn put_node(node: &mut [u8], extents: &[Extent]) {
    let room = node.len() / 12 - 1;
    put_header(node, extents.len(), room, 0);
    for (index, extent) in extents.iter().enumerate() {
        let entry = &mut node[12 * (index + 1)..];
        put_u32(entry, 0, extent.logical);
        put_u16(entry, 4, low_16(extent.length));
        put_u32(entry, 8, extent.physical);
    }
}

fn put_header(node: &mut [u8], entries: usize, room: usize, depth: u16) {
    put_u16(node, 0, HEADER_MAGIC);
    put_u16(node, 2, low_16(low_32(count(entries))));
    put_u16(node, 4, low_16(low_32(count(room))));
    put_u16(node, 6, depth);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_runs_join_up_to_the_longest_extent() {
        let mut extents = Vec::new();
        for start in (0..70_000).step_by(1000) {
            push(&mut extents, start, 100 + start, 1000);
        }
        let lengths: Vec<u32> = extents.iter().map(|e| e.length).collect();
        assert_eq!(lengths, [32768, 32768, 4464]);
        assert_eq!(extents[2], Extent { logical: 65536, physical: 65636, length: 4464 });
        push(&mut extents, 80_000, 70_100, 5);
        assert_eq!(extents.len(), 4, "a hole in the file begins a new extent");
    }

    #[test]
    fn a_tree_grows_leaves_when_the_inode_is_full() {
        assert_eq!((leaves(4), leaves(5), leaves(340), leaves(341)), (0, 1, 1, 2));
        let extents: Vec<_> =
            (0..341).map(|n| Extent { logical: 2 * n, physical: 100 + n, length: 1 }).collect();
        let root = root(&extents, 9000);
        assert_eq!(root[2..4], [2, 0], "entries");
        assert_eq!(root[6], 1, "depth");
        assert_eq!(leaf_blocks(&extents).count(), 2);
    }
}
