//! An ext4 writer that needs one pass, a buffer, and no more memory than the tree's names.
//!
//! File data goes into consecutive blocks as it arrives, right after a small fixed area for the
//! superblock and the group descriptors. Everything else is written at the end (see [`finish`]),
//! when all sizes are known: an image is as large as what is in it. Its features:
//!
//! | feature | why |
//! |---|---|
//! | `extent`, `filetype`, `extra_isize`, `large_file`, `huge_file`, `dir_nlink`, `ext_attr` | what the tree may need |
//! | `flex_bg` | groups' bitmaps and inode tables all at the end, as only then their size is known |
//! | `sparse_super2` without backups | no superblock copies in the way of the data |
//! | no journal, no checksums | written once, then only read; a digest is kept outside |
//!
//! The same entries in the same order give the same bytes: nothing is taken from a clock or a
//! random source, and the UUID is a digest of the inodes.
//!
//! The format is documented in the kernel's Documentation/filesystems/ext4/.

mod attribute;
mod blocks;
mod directory;
mod extent;
mod finish;
mod inode;
mod layout;
mod superblock;
mod tree;

use std::io;
use std::path::Path;

use crate::encoding::low_32;
use crate::rootfs::{Content, HardLink, Metadata, RootfsWriter, Special, Stretch, TreePath, WriteError};
use attribute::Attributes;
use blocks::BlockStream;
use extent::Extent;
use layout::{BLOCK_BYTES, FIRST_DATA_BLOCK, LIMIT_GIB, LONGEST_TARGET, MOST_BLOCKS, MOST_EXTENTS};
use tree::{Kind, Node, Tree};

/// Zeros in a row that become a hole of the file, bytes. Shorter runs are allocated but not written.
const SHORTEST_HOLE: u64 = 64 << 10;
/// A file gets no more holes once it has this many extents, so that the tree of extents suffices.
const EXTENTS_WITH_HOLES: usize = MOST_EXTENTS / 2;

/// Entries that a file system takes at most, over all layers, unless something else is asked for.
pub const MOST_ENTRIES: usize = 1_000_000;

/// Writes an ext4 file system to a file.
#[derive(Debug)]
pub struct Ext4Writer {
    stream: BlockStream,
    tree: Tree,
    label: String,
}

impl Ext4Writer {
    /// Returns a writer to a new file at `path`. `label` is cut to 16 bytes. It takes [`MOST_ENTRIES`].
    pub fn create(path: &Path, label: &str) -> io::Result<Self> {
        // Read, too: what has more names than a file can have is copied.
        let file = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let stream = BlockStream::new(file, FIRST_DATA_BLOCK);
        Ok(Self { stream, tree: Tree::new(MOST_ENTRIES), label: label.to_owned() })
    }

    /// Takes at most this many entries instead, over all layers. Each costs some 200 bytes of memory until the end.
    #[must_use]
    pub fn with_most_entries(mut self, entries: usize) -> Self {
        self.tree.limit(entries);
        self
    }

    fn add(&mut self, path: &TreePath, metadata: Metadata, kind: Kind) -> Result<(), WriteError> {
        let node = node(path, metadata, kind)?;
        let place = self.tree.place(path)?;
        self.tree.put(path, place, node)?;
        Ok(())
    }

    /// Streams a file's content into blocks.
    fn content(
        &mut self,
        path: &TreePath,
        size: u64,
        content: &mut dyn Content,
        extents: &mut Vec<Extent>,
    ) -> Result<(), WriteError> {
        let (mut remaining, mut logical) = (size, 0u32);
        while remaining > 0 {
            let written = match content.stretch() {
                Stretch::Hole(zeros) if zeros.min(remaining) >= SHORTEST_HOLE => {
                    // What a block has of data after a hole is read together with its zeros.
                    let zeros = if zeros < remaining { zeros - zeros % BLOCK_BYTES } else { remaining };
                    content.skip(zeros);
                    // One at the end of a file costs no extent.
                    if zeros < remaining && extents.len() >= EXTENTS_WITH_HOLES {
                        self.zeros(zeros / BLOCK_BYTES, logical, extents)?;
                    }
                    zeros
                }
                Stretch::Data(bytes) | Stretch::Hole(bytes) => {
                    let whole = bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
                    self.data(path, whole, remaining, content, (logical, extents))?
                }
            };
            remaining -= written;
            logical += low_32(written.div_ceil(BLOCK_BYTES));
            if extents.len() > MOST_EXTENTS {
                let limit = "the file is in too many pieces";
                return Err(WriteError::Limit { path: path.to_string(), limit });
            }
            if self.stream.next() > MOST_BLOCKS {
                return Err(WriteError::TooLarge { limit_gib: LIMIT_GIB });
            }
        }
        Ok(())
    }

    /// Reads at most `wanted` of the `remaining` bytes, which become blocks or, if they are zeros, a hole.
    /// Returns how many were read.
    fn data(
        &mut self,
        path: &TreePath,
        wanted: u64,
        remaining: u64,
        content: &mut dyn Content,
        (logical, extents): (u32, &mut Vec<Extent>),
    ) -> Result<u64, WriteError> {
        let read = self.stream.read(content, wanted.min(remaining)).map_err(WriteError::Image)?;
        let chunk = read.map_err(|source| WriteError::Content { path: path.to_string(), source })?;
        let got = crate::encoding::count(chunk.got);
        if chunk.got < chunk.asked {
            return Err(WriteError::ContentEnds { path: path.to_string(), missing: remaining - got });
        }
        let hole = chunk.zeros && got >= SHORTEST_HOLE && extents.len() < EXTENTS_WITH_HOLES;
        if !hole {
            extent::push(extents, logical, low_32(self.stream.next()), chunk.blocks());
            self.stream.commit(chunk.got);
        }
        Ok(got)
    }

    /// Copies what stands in blocks into further ones.
    fn copy(&mut self, extents: &[Extent]) -> Result<Box<[Extent]>, WriteError> {
        let mut copies = Vec::with_capacity(extents.len());
        for extent in extents {
            if self.stream.next() + u64::from(extent.length) > MOST_BLOCKS {
                return Err(WriteError::TooLarge { limit_gib: LIMIT_GIB });
            }
            extent::push(&mut copies, extent.logical, low_32(self.stream.next()), extent.length);
            self.stream
                .append_copy(extent.physical.into(), extent.length.into())
                .map_err(WriteError::Image)?;
        }
        Ok(copies.into())
    }

    /// Gives blocks to a hole of a file that may not have more of them.
    fn zeros(&mut self, blocks: u64, logical: u32, extents: &mut Vec<Extent>) -> Result<(), WriteError> {
        let first = self.stream.next();
        // Before there are as many extents as a hole of any size would need.
        if first + blocks > MOST_BLOCKS {
            return Err(WriteError::TooLarge { limit_gib: LIMIT_GIB });
        }
        extent::push(extents, logical, low_32(first), low_32(blocks));
        self.stream.append_zeros(blocks).map_err(WriteError::Image)
    }
}

fn node(path: &TreePath, metadata: Metadata, kind: Kind) -> Result<Node, WriteError> {
    let Metadata { mode, uid, gid, modified, attributes } = metadata;
    let attributes = Attributes::place(path, attributes)?;
    Ok(Node { mode, uid, gid, modified, attributes, kind, names: 1 })
}

impl RootfsWriter for Ext4Writer {
    fn next_layer(&mut self) -> Result<(), WriteError> {
        self.tree.next_layer()
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), WriteError> {
        self.tree.whiteout(path)
    }

    fn opaque(&mut self, path: &TreePath) -> Result<(), WriteError> {
        self.tree.opaque(path)
    }

    fn directory(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), WriteError> {
        let attributes = Attributes::place(path, metadata.attributes)?;
        self.tree.directory(path, |node| {
            node.mode = metadata.mode;
            node.uid = metadata.uid;
            node.gid = metadata.gid;
            node.modified = metadata.modified;
            node.attributes = attributes;
        })
    }

    fn sparse_file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<(), WriteError> {
        /// Block numbers within a file have 32 bits (ifork.rst).
        const LARGEST: u64 = (1 << 32) * BLOCK_BYTES - BLOCK_BYTES;
        if size > LARGEST {
            return Err(WriteError::Limit { path: path.to_string(), limit: "a file has at most 16 TiB" });
        }
        let empty = Kind::File { size, extents: Box::default() };
        let mut node = node(path, metadata, empty)?;
        let place = self.tree.place(path)?;
        let mut extents = Vec::new();
        if let Err(error) = self.content(path, size, content, &mut extents) {
            self.tree.free(&extents);
            return Err(error);
        }
        node.kind = Kind::File { size, extents: extents.into() };
        self.tree.put(path, place, node)?;
        Ok(())
    }

    fn symbolic_link(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        target: &[u8],
    ) -> Result<(), WriteError> {
        let refuse = |rule| Err(WriteError::LinkTarget { path: path.to_string(), rule });
        match target.len() {
            0 => return refuse("is empty"),
            1..=LONGEST_TARGET => {}
            _ => return refuse("has more than 4095 bytes"),
        }
        if target.contains(&0) {
            return refuse("contains a NUL byte");
        }
        // The mode of every link that Linux makes, and one that it does not look at (symlink(7)).
        self.add(path, Metadata { mode: 0o777, ..metadata }, Kind::Link(target.into()))
    }

    fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<HardLink, WriteError> {
        let Some(full) = self.tree.hard_link(path, target)? else { return Ok(HardLink::Linked) };
        let kind = match self.tree.kind(full).cloned() {
            Some(Kind::File { size, extents }) => Kind::File { size, extents: self.copy(&extents)? },
            Some(other) => other,
            None => return Ok(HardLink::Linked),
        };
        self.tree.carry_on(path, full, kind)?;
        Ok(HardLink::Copied)
    }

    fn special(&mut self, path: &TreePath, metadata: Metadata, special: Special) -> Result<(), WriteError> {
        if let Special::CharacterDevice { major, minor } | Special::BlockDevice { major, minor } = special
            && (major >= 1 << 12 || minor >= 1 << 20)
        {
            return Err(WriteError::DeviceNumber { path: path.to_string(), major, minor });
        }
        self.add(path, metadata, Kind::Special(special))
    }

    fn finish(self: Box<Self>) -> Result<u64, WriteError> {
        let Self { stream, mut tree, label } = *self;
        finish::finish(&mut tree, stream, &label)
    }
}
