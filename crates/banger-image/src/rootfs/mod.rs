//! What a root file system is made of, and the trait behind which it is written.

mod error;
pub mod ext4;
mod path;

use std::io::{self, Read};

pub use error::WriteError;
pub use path::{PathError, TreePath};

/// A point in time, as file systems keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since the epoch; negative before it.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// An extended attribute: its whole name, prefix included, and its value, as `getxattr(2)` has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// As `security.capability`.
    pub name: Vec<u8>,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// What every entry has apart from its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content changed last.
    pub modified: Timestamp,
    /// Extended attributes, in any order; a later one of the same name counts.
    pub attributes: Vec<ExtendedAttribute>,
}

/// An entry without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Character device.
    CharacterDevice {
        /// Major number, at most 12 bits.
        major: u32,
        /// Minor number, at most 20 bits.
        minor: u32,
    },
    /// Block device.
    BlockDevice {
        /// Major number, at most 12 bits.
        major: u32,
        /// Minor number, at most 20 bits.
        minor: u32,
    },
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

/// What comes next of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch {
    /// At least this many bytes that have to be read to be known.
    Data(u64),
    /// At least this many zeros, which [`Content::skip`] passes over.
    Hole(u64),
}

/// A file's content, which knows where it has holes: passing over one takes no time, whatever its size.
pub trait Content: Read {
    /// Returns what comes next; after the end, anything.
    fn stretch(&mut self) -> Stretch;

    /// Passes over `bytes` of the hole that comes next, which has at least as many.
    fn skip(&mut self, bytes: u64);
}

/// Content without known holes.
struct Dense<'a>(&'a mut dyn Read);

impl Read for Dense<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Content for Dense<'_> {
    fn stretch(&mut self) -> Stretch {
        Stretch::Data(u64::MAX)
    }

    fn skip(&mut self, _bytes: u64) {}
}

/// What became of a hard link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardLink {
    /// It is a further name of its target.
    Linked,
    /// Its target has as many names as a file may have: it is the first name of a copy, which takes those that come.
    Copied,
}

/// Writes a root file system, entry by entry and layer by layer, in one pass.
///
/// An entry replaces an earlier one of the same path, whatever that was, with everything beneath it;
/// only a directory over a directory keeps what is in it and takes the new metadata. Directories on
/// the way that nobody mentioned are made with mode 0755, owned by root, of time 0. A symbolic link on
/// the way is followed as a process would whose root this is: it leads within it, wherever it points.
/// The last name of a path is never followed.
pub trait RootfsWriter {
    /// Begins the next layer; the first one has begun.
    fn next_layer(&mut self) -> Result<(), WriteError>;

    /// Takes away what earlier layers have at `path`, with everything beneath it; nothing there is no error. What this
    /// layer has there stays, whether it came before or comes after (OCI image-spec, layer.md, "Whiteouts").
    fn whiteout(&mut self, path: &TreePath) -> Result<(), WriteError>;

    /// Takes away in the same way what earlier layers have in a directory (layer.md, "Opaque Whiteout").
    fn opaque(&mut self, path: &TreePath) -> Result<(), WriteError>;

    /// Adds a directory; the root itself has the empty path.
    fn directory(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), WriteError>;

    /// Adds a regular file of exactly `size` bytes, read from `content` before this returns. Its holes
    /// take neither time nor space.
    fn sparse_file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<(), WriteError>;

    /// Adds a regular file of exactly `size` bytes, read from `content` before this returns.
    fn file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), WriteError> {
        self.sparse_file(path, metadata, size, &mut Dense(content))
    }

    /// Adds a symbolic link. Its target is any bytes but NUL, 1 to 4095 of them; its mode is 0777, whatever is given.
    fn symbolic_link(&mut self, path: &TreePath, metadata: Metadata, target: &[u8])
    -> Result<(), WriteError>;

    /// Adds a further name to an earlier entry that is not a directory.
    fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<HardLink, WriteError>;

    /// Adds a device, a pipe or a socket.
    fn special(&mut self, path: &TreePath, metadata: Metadata, special: Special) -> Result<(), WriteError>;

    /// Writes what is left and returns the file system's size in bytes. Syncs nothing.
    fn finish(self: Box<Self>) -> Result<u64, WriteError>;
}
