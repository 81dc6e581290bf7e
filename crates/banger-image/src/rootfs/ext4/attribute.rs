//! Extended attributes (attributes.rst): in the inode as far as they fit, else in one block.

use super::layout::{BLOCK, INODE, INODE_ATTRIBUTES};
use crate::encoding::{count, low_16, low_32, printable, put_u8, put_u16, put_u32};
use crate::rootfs::{ExtendedAttribute, TreePath, WriteError};

const MAGIC: u32 = 0xea02_0000;
/// Bytes of an entry before its name.
const ENTRY: usize = 16;
/// Bytes of a block's header.
const BLOCK_HEADER: usize = 32;
/// Entries and values that fit into an inode: what is left of it, less the magic number before
/// them and the zero word that ends the entries.
const INODE_ROOM: usize = INODE - INODE_ATTRIBUTES - 4 - 4;
/// The same of a block.
const BLOCK_ROOM: usize = BLOCK - BLOCK_HEADER - 4;

/// Prefixes of names, which the format keeps as numbers. Longer ones first.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
];

/// One attribute as the format has it. The order of the fields is the order in a block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    prefix: u8,
    name_length: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Entry {
    fn size(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// The hash over name and value that the format asks for in a block.
    fn hash(&self) -> u32 {
        let by_name = self.name.iter().fold(0u32, |hash, &b| hash.rotate_left(5) ^ u32::from(b));
        self.value.chunks(4).fold(by_name, |hash, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// The attributes of one inode, sorted and placed.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    in_inode: Vec<Entry>,
    in_block: Vec<Entry>,
}

impl Attributes {
    /// Returns the attributes placed, or `None` when there are none.
    pub(super) fn place(
        path: &TreePath,
        attributes: Vec<ExtendedAttribute>,
    ) -> Result<Option<Box<Self>>, WriteError> {
        let mut entries: Vec<Entry> = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            let entry = entry(&attribute).map_err(|rule| WriteError::Attribute {
                path: path.to_string(),
                name: printable(&attribute.name),
                rule,
            })?;
            entries.retain(|other| (other.prefix, &other.name) != (entry.prefix, &entry.name));
            entries.push(entry);
            // Also what keeps a hostile list from being sorted out in quadratic time.
            if entries.iter().map(Entry::size).sum::<usize>() > INODE_ROOM + BLOCK_ROOM {
                return Err(too_large(path));
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        entries.sort();
        let (mut in_inode, mut in_block) = (Vec::new(), Vec::new());
        let mut room = INODE_ROOM;
        for entry in entries {
            if entry.size() <= room {
                room -= entry.size();
                in_inode.push(entry);
            } else {
                in_block.push(entry);
            }
        }
        if in_block.iter().map(Entry::size).sum::<usize>() > BLOCK_ROOM {
            return Err(too_large(path));
        }
        Ok(Some(Box::new(Self { in_inode, in_block })))
    }

    /// Returns whether a block of its own is needed.
    pub(super) fn needs_block(&self) -> bool {
        !self.in_block.is_empty()
    }

    /// Writes what is in the inode to its end.
    pub(super) fn put_in_inode(&self, inode: &mut [u8]) {
        if self.in_inode.is_empty() {
            return;
        }
        put_u32(inode, INODE_ATTRIBUTES, MAGIC);
        // Offsets of values count from the first entry.
        let hash_is_unused = |_: &Entry| 0;
        put_entries(&mut inode[INODE_ATTRIBUTES + 4..], 0, &self.in_inode, hash_is_unused);
    }

    /// Returns the block.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        put_u32(&mut block, 0, MAGIC);
        put_u32(&mut block, 4, 1); // references
        put_u32(&mut block, 8, 1); // blocks
        let hash = self.in_block.iter().fold(0u32, |hash, entry| hash.rotate_left(16) ^ entry.hash());
        put_u32(&mut block, 12, hash);
        put_entries(&mut block, BLOCK_HEADER, &self.in_block, Entry::hash);
        block
    }
}

fn too_large(path: &TreePath) -> WriteError {
    WriteError::AttributesTooLarge { path: path.to_string(), limit: BLOCK_ROOM }
}

/// Entries grow from `start` up, values from the end of `area` down.
fn put_entries(area: &mut [u8], start: usize, entries: &[Entry], hash: impl Fn(&Entry) -> u32) {
    let (mut at, mut values) = (start, area.len());
    for entry in entries {
        let mut offset = 0;
        if !entry.value.is_empty() {
            values -= entry.value.len().next_multiple_of(4);
            area[values..values + entry.value.len()].copy_from_slice(&entry.value);
            offset = values;
        }
        put_u8(area, at, entry.name_length);
        put_u8(area, at + 1, entry.prefix);
        put_u16(area, at + 2, low_16(low_32(count(offset))));
        put_u32(area, at + 8, low_32(count(entry.value.len())));
        put_u32(area, at + 12, hash(entry));
        area[at + ENTRY..at + ENTRY + entry.name.len()].copy_from_slice(&entry.name);
        at += ENTRY + entry.name.len().next_multiple_of(4);
    }
}

fn entry(attribute: &ExtendedAttribute) -> Result<Entry, &'static str> {
    let ExtendedAttribute { name, value } = attribute;
    if name.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    let (rest, prefix) = PREFIXES
        .iter()
        .find_map(|(text, prefix)| Some((name.strip_prefix(*text)?, *prefix)))
        .ok_or("is in none of the namespaces user, trusted, security and system")?;
    let is_access_list = prefix == 2 || prefix == 3;
    if rest.is_empty() != is_access_list {
        return Err("has a name that is no attribute's");
    }
    let name_length = u8::try_from(rest.len()).map_err(|_| "has a name of more than 255 bytes")?;
    if value.len() > BLOCK {
        return Err("has a value of more than a block");
    }
    let value = if is_access_list { access_list(value)? } else { value.clone() };
    Ok(Entry { prefix, name_length, name: rest.to_vec(), value })
}

/// Turns an access control list from the form of `getxattr(2)` (version 2, 8 bytes an entry;
/// `linux/posix_acl_xattr.h`) into that on disk (version 1; ids only where the tag has one).
fn access_list(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MALFORMED: &str = "is not an access control list";
    let (version, entries) = value.split_first_chunk::<4>().ok_or(MALFORMED)?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return Err(MALFORMED);
    }
    let mut disk = 1u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        disk.extend_from_slice(&entry[..4]);
        match u16::from_le_bytes([entry[0], entry[1]]) {
            USER | GROUP => disk.extend_from_slice(&entry[4..]),
            0x01 | 0x04 | 0x10 | 0x20 => {}
            _ => return Err(MALFORMED),
        }
    }
    Ok(disk)
}
