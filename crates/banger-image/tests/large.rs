//! A layer that is large: in one file, and in many. Every day it is a hundredth of what it is in the full run, where it takes a
//! minute and 6 GB of disk.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::{self, Read};

use banger_core::work::Unwatched;
use banger_image::archive::{self, Meaning, Reading};
use banger_testkit::layers::header;
use support::{Image, noise};
use tar::EntryType;

/// How large it is.
#[derive(Clone, Copy)]
struct Sizes {
    /// Bytes of the large file: no whole number of blocks.
    large: u64,
    /// How many small files there are.
    files: u64,
}

impl Sizes {
    /// More than 32 bits can say.
    const FULL: Self = Self { large: 5_000_000_001, files: 200_000 };
    const DAILY: Self = Self { large: 50_000_001, files: 2_000 };
}

/// In how many directories the small files are.
const DIRECTORIES: u64 = 100;
/// What is repeated in the large file, each time with its number before it.
const PIECE: usize = 1 << 20;

/// Returns the content of the large file, piece by piece.
fn pieces(large: u64) -> impl Iterator<Item = Vec<u8>> {
    let whole = noise(PIECE, 5);
    (0..large.div_ceil(PIECE as u64)).map(move |number| {
        let mut piece = whole.clone();
        piece[..8].copy_from_slice(&number.to_le_bytes());
        let left = large - number * PIECE as u64;
        piece.truncate(usize::try_from(left).unwrap());
        piece
    })
}

fn entry(kind: EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = header(kind, size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn name(number: u64) -> String {
    format!("many/{}/{number}", number % DIRECTORIES)
}

/// Returns the layer, in pieces of which a reader is made.
fn layer(sizes: Sizes) -> impl Iterator<Item = Vec<u8>> {
    let Sizes { large, files } = sizes;
    let padding = vec![0; usize::try_from(large.next_multiple_of(512) - large).unwrap()];
    let first = entry(EntryType::Regular, "large", large);
    let large = [first].into_iter().chain(pieces(large)).chain([padding]);
    let many = (0..files).map(|number| {
        let content = name(number).into_bytes();
        let mut file = entry(EntryType::Regular, &name(number), content.len() as u64);
        file.extend(content);
        file.resize(file.len().next_multiple_of(512), 0);
        file
    });
    large.chain(many).chain([vec![0; 1024]])
}

/// Reads what an iterator gives.
struct Pieces<I> {
    rest: I,
    piece: io::Cursor<Vec<u8>>,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Pieces<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.piece.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            let Some(piece) = self.rest.next() else { return Ok(0) };
            self.piece = io::Cursor::new(piece);
        }
    }
}

#[test]
fn a_large_file_and_many_small_ones_are_what_they_were() {
    let sizes = if banger_testkit::is_full_run() { Sizes::FULL } else { Sizes::DAILY };
    let image = Image::write(|writer| {
        let reader = Pieces { rest: layer(sizes), piece: io::Cursor::default() };
        let reading = Reading { meaning: Meaning::Layer, ..Reading::default() };
        archive::read(reader, &reading, writer, &Unwatched).unwrap();
    });
    image.check();
    let Some(mounted) = image.mount("a_large_file_and_many_small_ones_are_what_they_were") else { return };
    let mut large = std::fs::File::open(mounted.at.join("large")).unwrap();
    assert_eq!(large.metadata().unwrap().len(), sizes.large);
    let mut found = vec![0; PIECE];
    for (number, piece) in pieces(sizes.large).enumerate() {
        let found = &mut found[..piece.len()];
        large.read_exact(found).unwrap();
        assert!(found == piece.as_slice(), "piece {number}");
    }
    for number in 0..sizes.files {
        let content = std::fs::read_to_string(mounted.at.join(name(number))).unwrap();
        assert_eq!(content, name(number));
    }
    let entries = std::fs::read_dir(mounted.at.join("many/7")).unwrap();
    assert_eq!(entries.count() as u64, sizes.files / DIRECTORIES);
}
