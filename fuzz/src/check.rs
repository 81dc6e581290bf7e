//! What must hold of every file system that was written: what e2fsck(8) would look at, and that it is the model's tree.

use std::collections::{BTreeMap, HashMap};

use banger_image::rootfs::Special;

use crate::content::{self, Blocks};
use crate::disk::{BLOCK, BLOCKS_PER_GROUP, Disk, Extent, FIRST_INODE, Inode, ROOT, u16_at, u32_at};
use crate::model::{Kind, Model, Node};

/// Blocks of files that are compared at most; of what has more only those with something in them.
const MOST_COMPARED: u64 = 16 << 10;
/// Blocks of the largest file system whose books are looked through.
const MOST_ACCOUNTED: u64 = 1 << 20;

const DIRECTORY: u16 = 0x4000;
const REGULAR: u16 = 0x8000;
const LINK: u16 = 0xa000;

/// A tree, as it was found: paths and inodes.
#[derive(Debug)]
pub struct Found {
    /// By path; the root's is empty.
    names: BTreeMap<Vec<u8>, u32>,
    inodes: BTreeMap<u32, Inode>,
    /// Names of each inode; of a directory one, and one for itself and one for each directory in it.
    links: HashMap<u32, u32>,
}

/// Reads all names of a file system.
pub fn find(disk: &Disk) -> Found {
    let (names, inodes) = (BTreeMap::from([(Vec::new(), ROOT)]), BTreeMap::from([(ROOT, disk.inode(ROOT))]));
    let mut found = Found { names, inodes, links: HashMap::new() };
    let mut ahead = vec![(Vec::new(), ROOT, ROOT)];
    while let Some((path, number, parent)) = ahead.pop() {
        let entries = disk.directory(&found.inodes[&number]);
        let itself: Vec<_> = entries.iter().take(2).map(|it| (it.name.as_slice(), it.inode)).collect();
        assert_eq!(itself, [(&b"."[..], number), (b"..", parent)], "what a directory begins with");
        for (at, entry) in entries.into_iter().enumerate() {
            *found.links.entry(entry.inode).or_default() += 1;
            let inode = found.inodes.entry(entry.inode).or_insert_with(|| disk.inode(entry.inode));
            assert_eq!(entry.file_type, entry_type(inode.mode()), "an entry has its inode's type");
            if at < 2 {
                continue;
            }
            assert!(!matches!(entry.name.as_slice(), b"." | b"..") && !entry.name.contains(&b'/'));
            let whole = if path.is_empty() { entry.name } else { [&path, &b"/"[..], &entry.name].concat() };
            if inode.mode() & 0xf000 == DIRECTORY {
                ahead.push((whole.clone(), entry.inode, number));
            }
            assert_eq!(found.names.insert(whole, entry.inode), None, "a name is there once");
        }
    }
    found
}

fn entry_type(mode: u16) -> u8 {
    match mode & 0xf000 {
        0x8000 => 1,
        0x4000 => 2,
        0x2000 => 3,
        0x6000 => 4,
        0x1000 => 5,
        0xc000 => 6,
        0xa000 => 7,
        other => panic!("an inode has the mode {other:o}"),
    }
}

/// Looks through the books: every block and inode is used once or free, and counted as such.
pub fn accounts(disk: &Disk, found: &Found) {
    if disk.blocks > MOST_ACCOUNTED {
        return;
    }
    let mut used = Used(vec![false; usize::try_from(disk.blocks).unwrap_or_default()]);
    let groups = disk.groups.len() as u64;
    used.claim(0, 1 + (groups * 32).div_ceil(BLOCK as u64));
    for group in &disk.groups {
        used.claim(u32_at(group, 0x00).into(), 1);
        used.claim(u32_at(group, 0x04).into(), 1);
        used.claim(u32_at(group, 0x08).into(), u64::from(disk.inodes_per_group() / 16));
    }
    for (number, inode) in &found.inodes {
        let blocks = claim_inode(disk, inode, &mut used);
        assert_eq!(inode.blocks(), blocks, "blocks of the inode {number}");
        assert_eq!(u32::from(inode.links()), found.links[number], "names of the inode {number}");
    }
    let per_group = (usize::try_from(BLOCKS_PER_GROUP).unwrap_or_default(), disk.inodes_per_group() as usize);
    let inodes = used_inodes(disk, found);
    let (mut free_blocks, mut free_inodes) = (0, 0);
    for (number, group) in disk.groups.iter().enumerate() {
        let blocks = used.0.chunks(per_group.0).nth(number).unwrap_or_default();
        let free = compare_bits(&disk.block(u32_at(group, 0x00).into()), blocks, "block");
        assert_eq!(u32::from(u16_at(group, 0x0c)), free, "free blocks of the group {number}");
        free_blocks += free;
        let inodes = inodes.chunks(per_group.1).nth(number).unwrap_or_default();
        let free = compare_bits(&disk.block(u32_at(group, 0x04).into()), inodes, "inode");
        assert_eq!(u32::from(u16_at(group, 0x0e)), free, "free inodes of the group {number}");
        free_inodes += free;
        let first = u32::try_from(number).unwrap_or_default() * disk.inodes_per_group();
        let of_group = found.inodes.range(first + 1..=first + disk.inodes_per_group());
        let directories = of_group.filter(|(_, inode)| inode.mode() & 0xf000 == DIRECTORY).count();
        assert_eq!(usize::from(u16_at(group, 0x10)), directories, "directories of the group {number}");
    }
    assert_eq!(u32_at(&disk.superblock, 0x0c), free_blocks, "free blocks in all");
    assert_eq!(u32_at(&disk.superblock, 0x10), free_inodes, "free inodes in all");
}

fn used_inodes(disk: &Disk, found: &Found) -> Vec<bool> {
    assert_eq!(u32_at(&disk.superblock, 0x54), FIRST_INODE);
    let mut used = vec![false; disk.inodes_per_group() as usize * disk.groups.len()];
    assert_eq!(u32_at(&disk.superblock, 0x00) as usize, used.len(), "inodes in all");
    for number in (1..FIRST_INODE).chain(found.inodes.keys().copied()) {
        used[number as usize - 1] = true;
    }
    used
}

/// Compares a bitmap with what it should say, and is to be all ones after that; returns how many are free.
fn compare_bits(bits: &[u8], used: &[bool], what: &str) -> u32 {
    let mut wanted = vec![0xff; bits.len()];
    let mut free = 0;
    for (at, _) in used.iter().enumerate().filter(|(_, is_used)| !**is_used) {
        wanted[at / 8] &= !(1 << (at % 8));
        free += 1;
    }
    let wrong = bits.iter().zip(&wanted).position(|(bits, wanted)| bits != wanted);
    assert_eq!(wrong.map(|at| (at * 8, bits[at], wanted[at])), None, "which {what}s of a group are used");
    free
}

/// Blocks that something has.
struct Used(Vec<bool>);

impl Used {
    fn claim(&mut self, first: u64, blocks: u64) {
        for block in first..first + blocks {
            let slot = usize::try_from(block).ok().and_then(|block| self.0.get_mut(block));
            let slot = slot.unwrap_or_else(|| panic!("the block {block} is beyond the end"));
            assert!(!std::mem::replace(slot, true), "two have the block {block}");
        }
    }
}

/// Claims all blocks of an inode and returns how many they are.
fn claim_inode(disk: &Disk, inode: &Inode, used: &mut Used) -> u64 {
    let mut blocks = 0;
    if inode.has_extents() {
        let (extents, tree) = disk.extents(inode);
        let mut end = 0;
        for extent in &extents {
            assert!(extent.logical >= end, "extents are in order");
            end = extent.logical + extent.length;
            used.claim(extent.physical, extent.length);
            blocks += extent.length;
        }
        assert!(end <= inode.size().div_ceil(BLOCK as u64), "an extent is beyond the file's end");
        for block in tree {
            used.claim(block, 1);
            blocks += 1;
        }
    }
    if let Some(block) = inode.attribute_block() {
        used.claim(block, 1);
        blocks += 1;
    }
    blocks
}

/// Compares what was found with what should be there.
pub fn compare(disk: &Disk, found: &Found, model: &Model) {
    let wanted: Vec<&[u8]> = model.iter().map(|(path, ..)| path).collect();
    let there: Vec<&[u8]> = found.names.keys().map(Vec::as_slice).collect();
    assert_eq!(there.len(), wanted.len(), "names: there is {}, wanted {}", listed(&there), listed(&wanted));
    let mut nodes = HashMap::new();
    for ((path, number), (wanted, index, node)) in found.names.iter().zip(model.iter()) {
        assert!(path == wanted, "there is {}, wanted is {}", path.escape_ascii(), wanted.escape_ascii());
        let before = nodes.insert(index, number);
        match before {
            Some(before) => assert_eq!(before, number, "{} is a hard link", path.escape_ascii()),
            None => compare_node(disk, &found.inodes[number], node, &path.escape_ascii().to_string()),
        }
    }
    assert_eq!(nodes.len(), found.inodes.len(), "what is no hard link has inodes of its own");
}

fn listed(names: &[&[u8]]) -> String {
    names.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fn compare_node(disk: &Disk, inode: &Inode, node: &Node, path: &str) {
    let kind = match &node.kind {
        Kind::Directory => DIRECTORY,
        Kind::File { .. } => REGULAR,
        Kind::Link(_) => LINK,
        Kind::Special(Special::CharacterDevice { .. }) => 0x2000,
        Kind::Special(Special::BlockDevice { .. }) => 0x6000,
        Kind::Special(Special::Fifo) => 0x1000,
        Kind::Special(Special::Socket) => 0xc000,
    };
    assert_eq!(inode.mode(), kind | node.mode, "the mode of {path}");
    assert_eq!(inode.owner(), node.owner, "the owner of {path}");
    assert_eq!(inode.modified(), node.modified, "the time of {path}");
    assert_eq!(disk.attributes(inode), node.attributes, "the attributes of {path}");
    match &node.kind {
        Kind::Directory | Kind::Special(Special::Fifo | Special::Socket) => {}
        Kind::File { size, blocks } => {
            assert_eq!(inode.size(), *size, "the size of {path}");
            compare_content(disk, &disk.extents(inode).0, blocks, path);
        }
        Kind::Link(target) => assert_eq!(&disk.target(inode), target, "the target of {path}"),
        Kind::Special(Special::CharacterDevice { major, minor } | Special::BlockDevice { major, minor }) => {
            assert_eq!(inode.device(), (*major, *minor), "the number of {path}");
        }
    }
}

fn compare_content(disk: &Disk, extents: &[Extent], wanted: &Blocks, path: &str) {
    let place = |block: u64| {
        let at = extents.partition_point(|it| it.logical + it.length <= block);
        extents.get(at).filter(|it| it.logical <= block).map(|it| it.physical + block - it.logical)
    };
    for (block, bytes) in &wanted.0 {
        let there = place(*block).unwrap_or_else(|| panic!("{path} has a hole at block {block}"));
        assert!(disk.block(there) == *bytes, "the content of {path} at block {block}");
    }
    if extents.iter().map(|it| it.length).sum::<u64>() > MOST_COMPARED {
        return;
    }
    for extent in extents {
        for block in (0..extent.length).filter(|at| !wanted.0.contains_key(&(extent.logical + at))) {
            let is_empty = disk.block(extent.physical + block).iter().all(|&byte| byte == 0);
            assert!(
                is_empty,
                "{path} has something where zeros should be, at block {}",
                extent.logical + block
            );
        }
    }
}

/// Bytes of a block, both here and where contents are compared.
const _: () = assert!(BLOCK == content::BLOCK);
