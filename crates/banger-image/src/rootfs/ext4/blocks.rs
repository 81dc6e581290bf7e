//! The image file as a stream of blocks.

use std::io::{self, Read};

use fs_err::os::unix::fs::FileExt;

use super::layout::{BLOCK, BLOCK_BYTES};
use crate::encoding::{count, low_32};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Appends blocks to a file, in order. Blocks of nothing but zeros are not written: the file has
/// holes there.
#[derive(Debug)]
pub(super) struct BlockStream {
    file: fs_err::File,
    buffer: Vec<u8>,
    /// Bytes of the buffer in use; always whole blocks between two calls.
    filled: usize,
    /// The block that the buffer's first byte belongs to.
    first: u64,
}

impl BlockStream {
    /// Returns a stream whose next block is `first`. The file must be empty.
    pub(super) fn new(file: fs_err::File, first: u64) -> Self {
        Self { file, buffer: vec![0; BUFFER], filled: 0, first }
    }

    /// Returns the number of the next block.
    pub(super) fn next(&self) -> u64 {
        self.first + count(self.filled) / BLOCK_BYTES
    }

    /// Appends `bytes`, padded with zeros to whole blocks.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let part = space.len().min(bytes.len());
            space[..part].copy_from_slice(&bytes[..part]);
            self.commit(part);
            bytes = &bytes[part..];
        }
        Ok(())
    }

    /// Appends blocks of zeros, in no time.
    pub(super) fn append_zeros(&mut self, blocks: u64) -> io::Result<()> {
        self.flush()?;
        self.first += blocks;
        Ok(())
    }

    /// Appends a copy of `blocks` blocks that were appended before, from `first` on.
    pub(super) fn append_copy(&mut self, first: u64, blocks: u64) -> io::Result<()> {
        self.flush()?;
        let mut block = [0; BLOCK];
        for at in first..first + blocks {
            // What ends the file may be a hole that nothing was written after.
            block.fill(0);
            let mut got = 0;
            while got < BLOCK {
                match self.file.read_at(&mut block[got..], at * BLOCK_BYTES + count(got))? {
                    0 => break,
                    read => got += read,
                }
            }
            self.append(&block)?;
        }
        Ok(())
    }

    /// Reads up to `wanted` bytes into the buffer, as many as it has room for, without counting
    /// them as appended: [`BlockStream::commit`] does. Returns how many were asked of the reader
    /// and how many it had.
    pub(super) fn read(
        &mut self,
        reader: &mut (impl Read + ?Sized),
        wanted: u64,
    ) -> io::Result<Result<Chunk, io::Error>> {
        let space = self.space()?;
        let asked = usize::try_from(wanted).unwrap_or(usize::MAX).min(space.len());
        let space = &mut space[..asked];
        Ok(read_full(reader, space).map(|got| Chunk { asked, got, zeros: is_zero(&space[..got]) }))
    }

    /// Counts `bytes` of the buffer's space as appended, padded to whole blocks.
    pub(super) fn commit(&mut self, bytes: usize) {
        let end = bytes.next_multiple_of(BLOCK);
        self.buffer[self.filled + bytes..self.filled + end].fill(0);
        self.filled += end;
    }

    /// Writes what is gathered, sets the file's length to that of all blocks, and returns the file.
    pub(super) fn finish(mut self) -> io::Result<fs_err::File> {
        self.flush()?;
        self.file.set_len(self.first * BLOCK_BYTES)?;
        Ok(self.file)
    }

    /// Returns the free part of the buffer: at least one block.
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == BUFFER {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn flush(&mut self) -> io::Result<()> {
        let base = self.first * BLOCK_BYTES;
        let mut start = 0;
        while start < self.filled {
            let zeros = |at: usize| is_zero(&self.buffer[at..at + BLOCK]);
            if zeros(start) {
                start += BLOCK;
                continue;
            }
            let mut end = start + BLOCK;
            while end < self.filled && !zeros(end) {
                end += BLOCK;
            }
            self.file.write_all_at(&self.buffer[start..end], base + count(start))?;
            start = end;
        }
        self.first = self.next();
        self.filled = 0;
        Ok(())
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    /// Bytes that were asked for.
    pub(super) asked: usize,
    /// Bytes that came; fewer only at the reader's end.
    pub(super) got: usize,
    /// Whether all of them are zero.
    pub(super) zeros: bool,
}

impl Chunk {
    /// Returns how many blocks the bytes take.
    pub(super) fn blocks(self) -> u32 {
        low_32(count(self.got.div_ceil(BLOCK)))
    }
}

fn read_full(reader: &mut (impl Read + ?Sized), mut space: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    while !space.is_empty() {
        match reader.read(space) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                space = &mut space[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
