//! Contents of files: made of pieces, and watched while something reads them.

use std::collections::BTreeMap;
use std::io::{self, Read};

use arbitrary::Arbitrary;
use banger_image::rootfs::{Content, Stretch};

/// Bytes of what contents are compared by.
pub const BLOCK: usize = 4096;

/// A part of a file.
#[derive(Debug, Clone, Arbitrary)]
pub enum Piece {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Bytes of no pattern.
    Noise {
        /// How many.
        length: u16,
        /// What they are made of.
        seed: u8,
    },
    /// Zeros that have to be read to be known.
    Zeros(u32),
    /// Zeros that are known; the power of two that there are at most.
    Hole {
        /// How many.
        length: u64,
        /// Most of them, as a power of two.
        power: u8,
    },
    /// A few bytes after each of many holes, for a file in many pieces.
    Scattered {
        /// How many times.
        count: u16,
        /// How large a hole.
        gap: u32,
    },
}

/// How much of an input takes time to be read, over all its files.
#[derive(Debug)]
pub struct Budget {
    /// Bytes.
    bytes: u64,
    /// Bytes that are scattered: each takes a block.
    scattered: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: 5 << 18, scattered: 1000 }
    }
}

impl Budget {
    /// Returns as much of `wanted` as there is left.
    pub fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.bytes);
        self.bytes -= taken;
        taken
    }

    fn scatter(&mut self, wanted: usize) -> usize {
        let taken = wanted.min(self.scattered);
        self.scattered -= taken;
        taken
    }
}

/// A run of bytes with one origin.
#[derive(Debug, Clone)]
pub enum Run {
    /// Bytes.
    Data(Vec<u8>),
    /// Zeros.
    Hole(u64),
}

/// Largest hole of a file, as the power of two, bytes: what is beyond 16 TiB is too large with it.
const LARGEST_HOLE: u8 = 44;

/// Largest hole between scattered bytes, as the power of two, bytes.
const LARGEST_GAP: u8 = 24;

/// Returns the runs that pieces describe, as far as the budget goes.
pub fn runs(pieces: &[Piece], budget: &mut Budget) -> Vec<Run> {
    let mut runs = Vec::new();
    for piece in pieces {
        let mut length = |wanted: u64| usize::try_from(budget.take(wanted)).unwrap_or_default();
        runs.push(match piece {
            Piece::Bytes(bytes) => Run::Data(bytes[..length(bytes.len() as u64)].to_vec()),
            Piece::Noise { length: wanted, seed } => Run::Data(noise(length(u64::from(*wanted)), *seed)),
            Piece::Zeros(wanted) => Run::Data(vec![0; length(u64::from(*wanted))]),
            Piece::Hole { length, power } => Run::Hole(length & ((1 << (power % (LARGEST_HOLE + 1))) - 1)),
            Piece::Scattered { count, gap } => {
                let count = budget.scatter((*count).into());
                let gap = u64::from(gap & ((1 << LARGEST_GAP) - 1));
                runs.extend((0..count).flat_map(|_| [Run::Hole(gap), Run::Data(vec![b's'; 9])]));
                continue;
            }
        });
    }
    runs
}

/// Returns the bytes of runs.
pub fn size(runs: &[Run]) -> u64 {
    let length = |run: &Run| match run {
        Run::Data(bytes) => bytes.len() as u64,
        Run::Hole(length) => *length,
    };
    runs.iter().map(length).sum()
}

/// Returns bytes without a pattern.
pub fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) | 0x100;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}

/// Content made of runs. It knows of the holes that are some.
#[derive(Debug)]
pub struct Runs {
    rest: std::vec::IntoIter<Run>,
    now: Run,
    at: u64,
}

impl Runs {
    /// Returns the content of these runs.
    pub fn new(runs: Vec<Run>) -> Self {
        let mut content = Self { rest: runs.into_iter(), now: Run::Hole(0), at: 0 };
        content.pass(0);
        content
    }

    fn left(&self) -> u64 {
        let length = match &self.now {
            Run::Data(bytes) => bytes.len() as u64,
            Run::Hole(length) => *length,
        };
        length - self.at
    }

    fn pass(&mut self, bytes: u64) {
        self.at += bytes;
        while self.left() == 0 {
            let Some(next) = self.rest.next() else { return };
            (self.now, self.at) = (next, 0);
        }
    }
}

impl Read for Runs {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buffer.len());
        let start = usize::try_from(self.at).unwrap_or_default();
        match &self.now {
            Run::Data(bytes) => buffer[..part].copy_from_slice(&bytes[start..start + part]),
            Run::Hole(_) => buffer[..part].fill(0),
        }
        self.pass(part as u64);
        Ok(part)
    }
}

impl Content for Runs {
    fn stretch(&mut self) -> Stretch {
        match &self.now {
            Run::Data(_) => Stretch::Data(self.left()),
            Run::Hole(_) => Stretch::Hole(self.left()),
        }
    }

    fn skip(&mut self, bytes: u64) {
        assert!(bytes <= self.left(), "more of a hole is passed over than there is");
        self.pass(bytes);
    }
}

/// Returns whether at most a block of bytes has nothing but zeros: by one comparison, as a loop would be counted by the
/// fuzzer.
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes == &ZEROS[..bytes.len()]
}

/// What a file holds, by block; blocks of zeros are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks(pub BTreeMap<u64, Vec<u8>>);

impl Blocks {
    /// Notes bytes that are at `at`.
    pub fn note(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let start = usize::try_from(at % BLOCK as u64).unwrap_or_default();
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - start));
            if !is_zero(part) {
                let block = self.0.entry(at / BLOCK as u64).or_insert_with(|| vec![0; BLOCK]);
                block[start..start + part.len()].copy_from_slice(part);
            }
            at += part.len() as u64;
            bytes = rest;
        }
    }

    /// Returns the blocks of runs.
    pub fn of(runs: &[Run]) -> Self {
        let (mut blocks, mut at) = (Self::default(), 0u64);
        for run in runs {
            match run {
                Run::Data(bytes) => {
                    blocks.note(at, bytes);
                    at += bytes.len() as u64;
                }
                Run::Hole(length) => at += length,
            }
        }
        blocks
    }
}

/// Content that notes what is read of another.
pub struct Watched<'a> {
    content: &'a mut dyn Content,
    /// Bytes that were read or passed over.
    pub at: u64,
    /// What was read.
    pub blocks: Blocks,
}

impl<'a> Watched<'a> {
    /// Returns `content`, watched.
    pub fn new(content: &'a mut dyn Content) -> Self {
        Self { content, at: 0, blocks: Blocks::default() }
    }
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        self.blocks.note(self.at, &buffer[..got]);
        self.at += got as u64;
        Ok(got)
    }
}

impl Content for Watched<'_> {
    fn stretch(&mut self) -> Stretch {
        self.content.stretch()
    }

    fn skip(&mut self, bytes: u64) {
        self.content.skip(bytes);
        self.at += bytes;
    }
}
