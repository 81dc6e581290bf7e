//! Sparse files, in GNU's forms (GNU tar manual, "Storing Sparse Files" and "Extensions").

use std::io::{self, Read};

use super::TarError;
use super::pax::decimal;

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
    pub(super) fn new(pieces: Vec<Piece>, size: u64, stored: u64) -> Result<Self, TarError> {
        let malformed = || TarError::Malformed("the map of a sparse file is malformed");
        if pieces.len() > MOST_PIECES {
            return Err(TarError::Malformed("a sparse file has too many pieces"));
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
        Ok(Self { pieces, size })
    }

    /// Returns pieces given as alternating offsets and lengths.
    pub(super) fn pieces<'a>(mut numbers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Piece>, TarError> {
        let malformed = || TarError::Malformed("the map of a sparse file is malformed");
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
    pub(super) fn read_front(data: &mut dyn Read) -> Result<(Vec<Piece>, u64), TarError> {
        let malformed = || TarError::Malformed("the map of a sparse file is malformed");
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

    /// Returns a reader of the file with its holes, from one of the bytes that the archive holds.
    pub(super) fn expand<R: Read>(self, data: R) -> Expanded<R> {
        Expanded { data, pieces: self.pieces.into_iter(), piece: None, at: 0, size: self.size }
    }
}

/// Reads a sparse file: data where it has some, zeros elsewhere.
#[derive(Debug)]
pub(super) struct Expanded<R> {
    data: R,
    pieces: std::vec::IntoIter<Piece>,
    piece: Option<Piece>,
    at: u64,
    size: u64,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ended = |piece: &Piece, at| piece.offset + piece.length <= at;
        while self.piece.is_none_or(|piece| ended(&piece, self.at)) {
            self.piece = self.pieces.next();
            if self.piece.is_none() {
                break;
            }
        }
        let zeros_until = self.piece.map_or(self.size, |piece| piece.offset);
        let limit = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
        let got = if self.at < zeros_until {
            let zeros = limit(zeros_until - self.at);
            buffer[..zeros].fill(0);
            zeros
        } else if let Some(piece) = self.piece {
            let part = limit(piece.offset + piece.length - self.at);
            self.data.read(&mut buffer[..part])?
        } else {
            0
        };
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: u64) -> Piece {
        Piece { offset, length }
    }

    #[test]
    fn holes_read_as_zeros() {
        let map = Map::new(vec![piece(2, 3), piece(5, 0), piece(6, 1), piece(9, 0)], 9, 4).unwrap();
        let mut whole = Vec::new();
        map.expand(&b"abcd"[..]).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, b"\0\0abc\0d\0\0");
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
