//! Writing cpio archives of the form `newc`, as the kernel unpacks them
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::encoding::{count, low_32};

/// `c_mode`: a directory.
const DIRECTORY: u32 = 0o040_000;
/// `c_mode`: a regular file.
const REGULAR: u32 = 0o100_000;
/// `c_mode`: a character device.
const CHARACTER: u32 = 0o020_000;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Archives are padded to this, so that another can follow.
const PADDING: usize = 512;

/// An archive in the making. Everything belongs to root and is of time 0.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Returns an empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with these permission bits. Names have no slash in front.
    #[must_use]
    pub fn directory(mut self, name: &str, permissions: u32) -> Self {
        self.entry(name, DIRECTORY | permissions, (0, 0), &[]);
        self
    }

    /// Adds a regular file of at most 4 GiB.
    #[must_use]
    pub fn file(mut self, name: &str, permissions: u32, content: &[u8]) -> Self {
        self.entry(name, REGULAR | permissions, (0, 0), content);
        self
    }

    /// Adds a character device.
    #[must_use]
    pub fn character_device(mut self, name: &str, permissions: u32, major: u32, minor: u32) -> Self {
        self.entry(name, CHARACTER | permissions, (major, minor), &[]);
        self
    }

    /// Returns the archive's bytes, a multiple of 512.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry(TRAILER, 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(PADDING), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let is_trailer = mode == 0;
        let inode = if is_trailer { 0 } else { self.entries + 1 };
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let size = low_32(count(content.len()));
        let name_size = low_32(count(name.len() + 1));
        // ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin, namesize, chksum
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        self.entries += 1;
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
