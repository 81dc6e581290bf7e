//! Root file systems of a wanted size, with content that no layer can make smaller.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::Result;

/// Sizes of the files, in turns: as many small ones as large ones, as trees have them.
const SIZES: [u64; 5] = [2 << 10, 16 << 10, 128 << 10, 1 << 20, 8 << 20];
/// How many files a directory has.
const PER_DIRECTORY: u64 = 100;

/// Writes a tar with files of `megabytes` MB in all.
pub(crate) fn write(path: &Path, megabytes: u64) -> Result<()> {
    let file = std::io::BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?);
    let mut archive = tar::Builder::new(file);
    let (mut left, mut number) = (megabytes * 1_000_000, 0);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for size in SIZES.into_iter().cycle() {
        if left == 0 {
            break;
        }
        let size = size.min(left);
        let name = format!("data/{:03}/{:02}", number / PER_DIRECTORY, number % PER_DIRECTORY);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        archive.append_data(&mut header, name, (&mut noise).take(size))?;
        (left, number) = (left - size, number + 1);
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Bytes that look random: Marsaglia's xorshift64 (Journal of Statistical Software 8/14, 2003).
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for part in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            part.copy_from_slice(&self.0.to_le_bytes()[..part.len()]);
        }
        Ok(buffer.len())
    }
}
