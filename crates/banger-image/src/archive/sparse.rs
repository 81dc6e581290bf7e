//! Sparse files, in GNU's forms (GNU tar manual, "Storing Sparse Files" and "Extensions").

use std::io::{self, Read};

use banger_core::work::Work;

use super::ArchiveError;
use super::pax::decimal;
use crate::rootfs::{Content, Stretch};

/// Most pieces of a sparse file.
const MOST_PIECES: usize = 1 << 17;

/// A run of bytes that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A sparse file's pieces, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pieces: Vec<Piece>,
    /// Size of the file with its holes.
    pub(super) size: u64,
}

impl Map {
    /// Returns the map, if its pieces are in order, apart, within `size`, and hold `stored` bytes.
    pub(super) fn new(mut pieces: Vec<Piece>, size: u64, stored: u64) -> Result<Self, ArchiveError> {
        let malformed = || ArchiveError::Malformed("the map of a sparse file is malformed");
        if pieces.len() > MOST_PIECES {
            return Err(ArchiveError::Malformed("a sparse file has too many pieces"));
        }
        let (mut end, mut held) = (0u64, 0u64);
        for piece in &pieces {
            if piece.offset < end {
                return Err(malformed());
            }
            end = piece.offset.checked_add(piece.length).ok_or_else(malformed)?;
            held = held.checked_add(piece.length).ok_or_else(malformed)?;
        }
        if end > size || held != stored {
            return Err(malformed());
        }
        // GNU tar ends a map with an empty piece; anywhere else one would only split a hole.
        pieces.retain(|piece| piece.length > 0);
        Ok(Self { pieces, size })
    }

    /// Returns pieces given as alternating offsets and lengths.
    pub(super) fn pieces<'a>(
        mut numbers: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Piece>, ArchiveError> {
        let malformed = || ArchiveError::Malformed("the map of a sparse file is malformed");
        let mut pieces = Vec::new();
        while let Some(offset) = numbers.next() {
            let length = numbers.next().and_then(decimal).ok_or_else(malformed)?;
            pieces.push(Piece { offset: decimal(offset).ok_or_else(malformed)?, length });
        }
        Ok(pieces)
    }

    /// Reads a map of version 1.0, which stands before the data: the number of pieces, then offset
    /// and length of each, one number a line, padded to 512 bytes. Returns the pieces and how many
    /// bytes they took.
    pub(super) fn read_front(data: &mut dyn Read) -> Result<(Vec<Piece>, u64), ArchiveError> {
        let malformed = || ArchiveError::Malformed("the map of a sparse file is malformed");
        let (mut block, mut numbers, mut digits) = ([0; 512], Vec::new(), Vec::new());
        let (mut wanted, mut taken) = (1, 0);
        while numbers.len() < wanted {
            data.read_exact(&mut block).map_err(|_| malformed())?;
            taken += 512;
            for &byte in &block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number = decimal(&digits).ok_or_else(malformed)?;
                digits.clear();
                numbers.push(number);
                if numbers.len() == 1 {
                    let pieces = usize::try_from(number).ok().filter(|&n| n <= MOST_PIECES);
                    wanted = 1 + 2 * pieces.ok_or_else(malformed)?;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
            if digits.len() > 20 {
                return Err(malformed());
            }
        }
        let pieces = numbers[1..].chunks_exact(2);
        Ok((pieces.map(|pair| Piece { offset: pair[0], length: pair[1] }).collect(), taken))
    }

    /// Returns the file with its holes, made of the bytes that the archive holds.
    pub(super) fn expand<R: Read>(self, data: R, work: &dyn Work) -> Expanded<'_, R> {
        let mut pieces = self.pieces.into_iter();
        Expanded { data, piece: pieces.next(), pieces, at: 0, size: self.size, work }
    }
}

/// A sparse file: data where it has some, zeros elsewhere.
pub(super) struct Expanded<'a, R> {
    data: R,
    /// The piece that comes next, or that `at` is in.
    piece: Option<Piece>,
    /// Those after it.
    pieces: std::vec::IntoIter<Piece>,
    at: u64,
    size: u64,
    /// Holes can keep a reader busy for long without a byte of the archive, whose reader looks for a
    /// cancel.
    work: &'a dyn Work,
}

impl<R> Expanded<'_, R> {
    fn advance(&mut self, bytes: u64) {
        self.at += bytes;
        if self.piece.is_some_and(|piece| piece.offset + piece.length <= self.at) {
            self.piece = self.pieces.next();
        }
    }
}

impl<R: Read> Read for Expanded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.check().map_err(io::Error::other)?;
        let part = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
        let got = match self.stretch() {
            Stretch::Data(bytes) => {
                let part = part(bytes);
                self.data.read(&mut buffer[..part])?
            }
            Stretch::Hole(bytes) => {
                let part = part(bytes);
                buffer[..part].fill(0);
                part
            }
        };
        self.advance(got as u64);
        Ok(got)
    }
}

impl<R: Read> Content for Expanded<'_, R> {
    fn stretch(&mut self) -> Stretch {
        match self.piece {
            Some(piece) if piece.offset <= self.at => Stretch::Data(piece.offset + piece.length - self.at),
            Some(piece) => Stretch::Hole(piece.offset - self.at),
            None => Stretch::Hole(self.size - self.at),
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use banger_core::work::{CancelGuard, Cancelled, Unwatched};
    use banger_types::operation::Unit;

    use super::*;

    /// Work that is cancelled from the start.
    struct Stopped;

    impl Work for Stopped {
        fn stage(&self, _: &str) {}
        fn progress(&self, _: u64, _: Option<u64>, _: Unit) {}
        fn log(&self, _: &str) {}
        fn check(&self) -> Result<(), Cancelled> {
            Err(Cancelled)
        }
        fn on_cancel(&self, _: Box<dyn FnOnce() + Send>) -> CancelGuard {
            CancelGuard::new(|| ())
        }
    }

    fn piece(offset: u64, length: u64) -> Piece {
        Piece { offset, length }
    }

    #[test]
    fn holes_read_as_zeros() {
        let map = Map::new(vec![piece(2, 3), piece(5, 0), piece(6, 1), piece(9, 0)], 9, 4).unwrap();
        let mut whole = Vec::new();
        map.expand(&b"abcd"[..], &Unwatched).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, b"\0\0abc\0d\0\0");
    }

    #[test]
    fn holes_can_be_passed_over() {
        let size = 1 << 44;
        let map = Map::new(vec![piece(7, 0), piece(10, 2), piece(12, 1), piece(1 << 40, 1)], size, 4);
        let mut content = map.unwrap().expand(&b"abcd"[..], &Unwatched);
        assert_eq!(content.stretch(), Stretch::Hole(10));
        content.skip(9);
        let mut bytes = [1; 4];
        content.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"\0abc");
        assert_eq!(content.stretch(), Stretch::Hole((1 << 40) - 13));
        content.skip((1 << 40) - 13);
        assert_eq!(content.stretch(), Stretch::Data(1));
        content.read_exact(&mut bytes[..1]).unwrap();
        assert_eq!(content.stretch(), Stretch::Hole(size - (1 << 40) - 1));
        content.skip(size - (1 << 40) - 1);
        assert_eq!(content.read(&mut bytes).unwrap(), 0);
    }

    #[test]
    fn a_cancel_is_heeded_within_a_hole() {
        let map = Map::new(Vec::new(), 1 << 40, 0).unwrap();
        assert!(map.expand(std::io::empty(), &Stopped).read(&mut [0]).is_err());
    }

    #[test]
    fn a_map_must_make_sense() {
        for (pieces, size, stored) in [
            (vec![piece(0, 2), piece(1, 2)], 9, 4),
            (vec![piece(8, 2)], 9, 2),
            (vec![piece(0, 2)], 9, 3),
            (vec![piece(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(Map::new(pieces, size, stored).is_err());
        }
    }

    #[test]
    fn a_map_before_the_data_is_read() {
        let mut front = b"2\n0\n10\n4096\n5\n".to_vec();
        front.resize(512, 0);
        front.extend_from_slice(b"data");
        let mut data = &front[..];
        let (pieces, taken) = Map::read_front(&mut data).unwrap();
        assert_eq!((pieces, taken, data), (vec![piece(0, 10), piece(4096, 5)], 512, &b"data"[..]));
        assert!(Map::read_front(&mut &b"99999999999\n"[..]).is_err());
        assert!(Map::read_front(&mut &[b'1'; 1024][..]).is_err());
    }
}
