//! A reader of ext4 that knows what [`crate::check`] has to look at, made from the kernel's description
//! (Documentation/filesystems/ext4) and from nothing of the writer's. Whatever it cannot understand, it panics at.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use banger_image::rootfs::Timestamp;

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Blocks of a group.
pub const BLOCKS_PER_GROUP: u64 = 32768;
/// The root's inode.
pub const ROOT: u32 = 2;
/// The first inode that is no reserved one.
pub const FIRST_INODE: u32 = 11;
/// Files of up to this size are read at once, bytes.
const LARGEST_AT_ONCE: u64 = 16 << 20;

/// Returns the little-endian number of 16 bits at `at`.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Returns the little-endian number of 32 bits at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// A file system.
#[derive(Debug)]
pub struct Disk {
    file: File,
    /// All of it, if it is small.
    bytes: Option<Vec<u8>>,
    /// Its superblock.
    pub superblock: Vec<u8>,
    /// Its group descriptors.
    pub groups: Vec<Vec<u8>>,
    /// Blocks in all.
    pub blocks: u64,
}

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first within the file.
    pub logical: u64,
    /// The first within the file system.
    pub physical: u64,
    /// How many.
    pub length: u64,
}

/// An inode.
#[derive(Debug)]
pub struct Inode {
    bytes: Vec<u8>,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its inode.
    pub inode: u32,
    /// Its type, as directories have it.
    pub file_type: u8,
    /// Its name.
    pub name: Vec<u8>,
}

impl Disk {
    /// Opens a file system of `size` bytes.
    pub fn open(path: &Path, size: u64) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            file.metadata().map(|it| it.len()).ok(),
            Some(size),
            "the file's length is not what was said"
        );
        let bytes =
            (size <= LARGEST_AT_ONCE).then(|| read_at(&file, 0, usize::try_from(size).unwrap_or_default()));
        let superblock = read_at(&file, 1024, 1024);
        assert_eq!(u16_at(&superblock, 0x38), 0xef53, "the magic number");
        assert_eq!(u32_at(&superblock, 0x18), 2, "blocks of 4096 bytes");
        assert_eq!(u16_at(&superblock, 0x58), 256, "bytes of an inode");
        assert_eq!(u64::from(u32_at(&superblock, 0x20)), BLOCKS_PER_GROUP);
        let blocks = u64::from(u32_at(&superblock, 0x04));
        assert_eq!(blocks * BLOCK as u64, size, "as many blocks as there are bytes");
        let groups = usize::try_from(blocks.div_ceil(BLOCKS_PER_GROUP)).unwrap_or_default();
        let table = read_at(&file, BLOCK as u64, groups * 32);
        let groups = table.chunks(32).map(<[u8]>::to_vec).collect();
        Self { file, bytes, superblock, groups, blocks }
    }

    /// Returns a block.
    pub fn block(&self, number: u64) -> Vec<u8> {
        assert!(number < self.blocks, "block {number} is beyond the end");
        let at = number * BLOCK as u64;
        match &self.bytes {
            Some(bytes) => {
                let at = usize::try_from(at).unwrap_or_default();
                bytes[at..at + BLOCK].to_vec()
            }
            None => read_at(&self.file, at, BLOCK),
        }
    }

    /// Returns how many inodes a group has.
    pub fn inodes_per_group(&self) -> u32 {
        u32_at(&self.superblock, 0x28)
    }

    /// Returns an inode.
    pub fn inode(&self, number: u32) -> Inode {
        let (group, index) = ((number - 1) / self.inodes_per_group(), (number - 1) % self.inodes_per_group());
        let table = u64::from(u32_at(&self.groups[group as usize], 0x08));
        let block = self.block(table + u64::from(index / 16));
        let at = (index % 16) as usize * 256;
        Inode { bytes: block[at..at + 256].to_vec() }
    }

    /// Returns the extents of an inode, and the blocks that the tree of them takes.
    pub fn extents(&self, inode: &Inode) -> (Vec<Extent>, Vec<u64>) {
        assert_ne!(inode.flags() & 0x8_0000, 0, "the inode has extents");
        let root = inode.map();
        let (entries, depth) = header(root);
        if depth == 0 {
            return (leaf(root, entries), Vec::new());
        }
        assert_eq!(depth, 1, "the depth of a tree of extents");
        let (mut extents, mut blocks) = (Vec::new(), Vec::new());
        for index in root[12..].chunks(12).take(entries) {
            assert_eq!(u16_at(index, 8), 0, "block numbers have 32 bits");
            let block = u64::from(u32_at(index, 4));
            let node = self.block(block);
            let (entries, depth) = header(&node);
            assert_eq!(depth, 0, "the depth of a leaf");
            let leaf = leaf(&node, entries);
            assert_eq!(leaf.first().map(|it| it.logical), Some(u64::from(u32_at(index, 0))));
            extents.extend(leaf);
            blocks.push(block);
        }
        (extents, blocks)
    }

    /// Returns the entries of a directory, the two of itself included.
    pub fn directory(&self, inode: &Inode) -> Vec<Entry> {
        let (extents, _) = self.extents(inode);
        let mut entries = Vec::new();
        for block in extents.iter().flat_map(|it| it.physical..it.physical + it.length) {
            let block = self.block(block);
            let mut at = 0;
            while at < BLOCK {
                let (size, name) = (usize::from(u16_at(&block, at + 4)), usize::from(block[at + 6]));
                assert!(size >= 8 + name && size % 4 == 0 && at + size <= BLOCK, "an entry of {size} bytes");
                let inode = u32_at(&block, at);
                assert!(inode != 0 && name != 0, "there are no entries that nobody uses");
                let name = block[at + 8..at + 8 + name].to_vec();
                entries.push(Entry { inode, file_type: block[at + 7], name });
                at += size;
            }
        }
        entries
    }

    /// Returns the target of a symbolic link.
    pub fn target(&self, inode: &Inode) -> Vec<u8> {
        let size = usize::try_from(inode.size()).unwrap_or(usize::MAX);
        if size < 60 {
            return inode.map()[..size].to_vec();
        }
        let (extents, _) = self.extents(inode);
        let block = self.block(extents[0].physical);
        assert_eq!(block[size], 0, "a long target ends with a NUL");
        block[..size].to_vec()
    }

    /// Returns the extended attributes of an inode by their whole names.
    pub fn attributes(&self, inode: &Inode) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut attributes = BTreeMap::new();
        let area = 128 + usize::from(u16_at(&inode.bytes, 128));
        if u32_at(&inode.bytes, area) == 0xea02_0000 {
            read_attributes(&inode.bytes[area + 4..], 0, None, &mut attributes);
        }
        if let Some(block) = inode.attribute_block() {
            let block = self.block(block);
            assert_eq!((u32_at(&block, 0), u32_at(&block, 4), u32_at(&block, 8)), (0xea02_0000, 1, 1));
            read_attributes(&block, 32, Some(()), &mut attributes);
        }
        attributes
    }
}

impl Inode {
    fn map(&self) -> &[u8] {
        &self.bytes[0x28..0x28 + 60]
    }

    fn flags(&self) -> u32 {
        u32_at(&self.bytes, 0x20)
    }

    /// Returns the type and the permissions.
    pub fn mode(&self) -> u16 {
        u16_at(&self.bytes, 0)
    }

    /// Returns the size, bytes.
    pub fn size(&self) -> u64 {
        u64::from(u32_at(&self.bytes, 0x04)) | u64::from(u32_at(&self.bytes, 0x6c)) << 32
    }

    /// Returns owner and group.
    pub fn owner(&self) -> (u32, u32) {
        let id = |low, high| u32::from(u16_at(&self.bytes, low)) | u32::from(u16_at(&self.bytes, high)) << 16;
        (id(0x02, 0x78), id(0x18, 0x7a))
    }

    /// Returns how many names lead here.
    pub fn links(&self) -> u16 {
        u16_at(&self.bytes, 0x1a)
    }

    /// Returns the blocks that it says it has.
    pub fn blocks(&self) -> u64 {
        let sectors = u64::from(u32_at(&self.bytes, 0x1c)) | u64::from(u16_at(&self.bytes, 0x74)) << 32;
        assert_eq!(sectors % 8, 0);
        sectors / 8
    }

    /// Returns when its content changed last.
    pub fn modified(&self) -> Timestamp {
        let extra = u32_at(&self.bytes, 0x88);
        let low = i64::from(u32_at(&self.bytes, 0x10).cast_signed());
        Timestamp { seconds: low + (i64::from(extra & 3) << 32), nanoseconds: extra >> 2 }
    }

    /// Returns the block of its extended attributes.
    pub fn attribute_block(&self) -> Option<u64> {
        Some(u64::from(u32_at(&self.bytes, 0x68))).filter(|&block| block != 0)
    }

    /// Returns whether its blocks are listed as extents.
    pub fn has_extents(&self) -> bool {
        self.flags() & 0x8_0000 != 0
    }

    /// Returns a device's major and minor number.
    pub fn device(&self) -> (u32, u32) {
        let (old, new) = (u32_at(self.map(), 0), u32_at(self.map(), 4));
        if old != 0 {
            return (old >> 8 & 0xff, old & 0xff);
        }
        (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
    }
}

fn read_at(file: &File, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).unwrap_or_else(|error| panic!("{length} bytes at {at}: {error}"));
    bytes
}

/// Returns how many entries a node of a tree of extents has, and how far it is from the leaves.
fn header(node: &[u8]) -> (usize, u16) {
    assert_eq!(u16_at(node, 0), 0xf30a, "the magic number of extents");
    let (entries, most) = (usize::from(u16_at(node, 2)), usize::from(u16_at(node, 4)));
    assert!(entries <= most && 12 + 12 * most <= node.len(), "{entries} of {most} entries");
    (entries, u16_at(node, 6))
}

fn leaf(node: &[u8], entries: usize) -> Vec<Extent> {
    let extent = |bytes: &[u8]| {
        assert_eq!(u16_at(bytes, 6), 0, "block numbers have 32 bits");
        let length = u64::from(u16_at(bytes, 4));
        assert!((1..=32768).contains(&length), "an extent that is written has up to 32768 blocks");
        Extent { logical: u64::from(u32_at(bytes, 0)), physical: u64::from(u32_at(bytes, 8)), length }
    };
    node[12..].chunks(12).take(entries).map(extent).collect()
}

/// Reads attributes whose entries begin at `at`. In a block they are in order and have hashes.
fn read_attributes(
    area: &[u8],
    mut at: usize,
    block: Option<()>,
    attributes: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) {
    let (mut first_value, mut before) = (area.len(), None);
    while u32_at(area, at) != 0 {
        let (length, prefix) = (usize::from(area[at]), area[at + 1]);
        let (value_at, size) = (usize::from(u16_at(area, at + 2)), u32_at(area, at + 8) as usize);
        let name = &area[at + 16..at + 16 + length];
        let value = if size == 0 { &[][..] } else { &area[value_at..value_at + size] };
        if size > 0 {
            assert!(value_at % 4 == 0, "a value begins at a multiple of four");
            first_value = first_value.min(value_at);
        }
        if block.is_some() {
            let here = Some((prefix, length, name));
            assert!(before < here, "attributes of a block are in order");
            before = here;
            assert_eq!(u32_at(area, at + 12), hash(name, value), "the hash of an attribute");
        }
        let whole = [prefix_text(prefix), name].concat();
        let value = if matches!(prefix, 2 | 3) { access_list(value) } else { value.to_vec() };
        assert_eq!(attributes.insert(whole, value), None, "an attribute is there once");
        at += 16 + length.next_multiple_of(4);
    }
    assert!(at + 4 <= first_value, "attributes and their values lie apart");
}

fn prefix_text(prefix: u8) -> &'static [u8] {
    match prefix {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        other => panic!("an attribute has the prefix {other}"),
    }
}

fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = 0u32;
    for &byte in name {
        hash = hash << 5 ^ hash >> 27 ^ u32::from(byte);
    }
    for word in value.chunks(4) {
        let mut bytes = [0; 4];
        bytes[..word.len()].copy_from_slice(word);
        hash = hash << 16 ^ hash >> 16 ^ u32::from_le_bytes(bytes);
    }
    hash
}

/// Returns an access control list as `getxattr(2)` has it.
fn access_list(disk: &[u8]) -> Vec<u8> {
    assert_eq!(u32_at(disk, 0), 1, "the version of an access control list");
    let (mut list, mut rest) = (2u32.to_le_bytes().to_vec(), &disk[4..]);
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(4);
        list.extend_from_slice(head);
        let has_id = matches!(u16_at(head, 0), 0x02 | 0x08);
        let (id, tail) = if has_id { tail.split_at(4) } else { (&[0xff; 4][..], tail) };
        list.extend_from_slice(id);
        rest = tail;
    }
    list
}
