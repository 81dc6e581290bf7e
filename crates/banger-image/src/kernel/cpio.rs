//! Writing cpio archives of the form `newc`, as the kernel unpacks them
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::Write as _;

use cpio::newc;

use crate::encoding::{count, low_32};

/// `c_mode`: a directory.
const DIRECTORY: u32 = 0o040_000;
/// `c_mode`: a regular file.
const REGULAR: u32 = 0o100_000;
/// `c_mode`: a character device.
const CHARACTER: u32 = 0o020_000;
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
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = written(newc::trailer(self.bytes));
        bytes.resize(bytes.len().next_multiple_of(PADDING), 0);
        bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let header = newc::Builder::new(name).ino(self.entries).mode(mode).nlink(links);
        let header = header.rdev_major(device.0).rdev_minor(device.1);
        let mut writer = header.write(std::mem::take(&mut self.bytes), low_32(count(content.len())));
        self.bytes = written(writer.write_all(content).and_then(|()| writer.finish()));
    }
}

#[expect(clippy::expect_used, reason = "memory takes everything")]
fn written(result: std::io::Result<Vec<u8>>) -> Vec<u8> {
    result.expect("write to memory")
}
