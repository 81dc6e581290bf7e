//! Frames on a stream, as passt(1) and QEMU have them: each after its length as 32 bits in network byte order.

use std::io::{self, Read, Write};

/// Bytes of an Ethernet II header: two addresses and a type (IEEE 802.3 section 3.2).
pub(super) const ETHERNET: usize = 14;
/// Bytes of the length before each frame.
const LENGTH: usize = 4;
/// Longest frame: the longest IP packet and its Ethernet header, with room for a tag.
const LONGEST: usize = ETHERNET + 65_535 + 4;

/// Passes frames on from a stream to another until it ends: those that `leaves` says.
///
/// # Errors
/// When either end breaks, or the first sends what is no frame.
pub fn pass_frames(
    from: impl Read,
    mut to: impl Write,
    mut leaves: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    read_pieces(from, |bytes| pass_whole(bytes, &mut to, &mut leaves))
}

/// Gives `take` what comes, as much as there is of it, until the end; it returns how much of that it has done with.
fn read_pieces(mut from: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut buffer = vec![0; 2 * (LENGTH + LONGEST)];
    let mut filled = 0;
    loop {
        let read = from.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let taken = take(&buffer[..filled])?;
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

/// Passes frames on that `receive` gives one by one, as [`pass_frames`] does.
///
/// # Errors
/// When either end breaks.
pub fn pass_packets(
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut to: impl Write,
    mut leaves: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; LENGTH + LONGEST];
    loop {
        let length = receive(&mut buffer[LENGTH..])?.min(LONGEST);
        buffer[..LENGTH].copy_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes());
        if leaves(&buffer[LENGTH..LENGTH + length]) {
            to.write_all(&buffer[..LENGTH + length])?;
        }
    }
}

/// Takes frames from a stream and gives them to `send` one by one, until it ends.
///
/// # Errors
/// When the stream breaks, or sends what is no frame.
pub fn deliver(from: impl Read, mut send: impl FnMut(&[u8])) -> io::Result<()> {
    read_pieces(from, |bytes| {
        let mut at = 0;
        while let Some(end) = end_of_frame(bytes, at)? {
            send(&bytes[at + LENGTH..end]);
            at = end;
        }
        Ok(at)
    })
}

/// Passes the whole frames at the beginning of `bytes` on, neighbours together. Returns how many
/// bytes they were.
fn pass_whole(
    bytes: &[u8],
    to: &mut impl Write,
    leaves: &mut impl FnMut(&[u8]) -> bool,
) -> io::Result<usize> {
    let (mut begin, mut at) = (0, 0);
    while let Some(end) = end_of_frame(bytes, at)? {
        if !leaves(&bytes[at + LENGTH..end]) {
            to.write_all(&bytes[begin..at])?;
            begin = end;
        }
        at = end;
    }
    to.write_all(&bytes[begin..at])?;
    Ok(at)
}

/// Writes one frame.
///
/// # Errors
/// When the stream breaks.
pub fn write_frame(mut to: impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&[&length.to_be_bytes(), frame].concat())
}

/// Returns where the frame that begins at `at` ends, or `None` when it is not all there.
fn end_of_frame(bytes: &[u8], at: usize) -> io::Result<Option<usize>> {
    let Some(length) = bytes[at..].first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let end = at + LENGTH + length;
    Ok((end <= bytes.len()).then_some(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a frame that leaves, or one that does not.
    fn frame(leaves: bool, number: u8) -> Vec<u8> {
        vec![u8::from(leaves), number, number, number]
    }

    fn leaves(frame: &[u8]) -> bool {
        frame[0] == 1
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend(frame);
        }
        bytes
    }

    #[test]
    fn packets_are_passed_and_delivered_as_frames() {
        let frames = [frame(true, 1), frame(false, 2), frame(true, 3)];
        let mut waiting = frames.iter();
        let receive = |buffer: &mut [u8]| {
            let frame = waiting.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer[..frame.len()].copy_from_slice(frame);
            Ok(frame.len())
        };
        let mut out = Vec::new();
        assert!(pass_packets(receive, &mut out, leaves).is_err());
        assert_eq!(out, framed(&[frames[0].clone(), frames[2].clone()]));

        let mut delivered = Vec::new();
        deliver(Pieces(&out, vec![1, 40, 3, 7]), |frame| delivered.push(frame.to_vec())).unwrap();
        assert_eq!(delivered, [frames[0].clone(), frames[2].clone()]);
    }

    #[test]
    fn a_length_that_is_none_ends_it() {
        let result = pass_frames(&[0xff; 64][..], io::sink(), leaves);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// Gives its bytes in pieces of these sizes.
    struct Pieces<'a>(&'a [u8], Vec<usize>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.1.pop().unwrap_or(usize::MAX).clamp(1, buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(piece);
            buffer[..piece].copy_from_slice(now);
            self.0 = later;
            Ok(piece)
        }
    }

    proptest! {
        /// However the bytes are cut, what may leave leaves unchanged and in order, and nothing else.
        #[test]
        fn pieces_make_no_difference(
            allowed in prop::collection::vec((any::<bool>(), 0usize..3000), 0..20),
            pieces in prop::collection::vec(1usize..2000, 0..60),
        ) {
            let frames: Vec<(bool, Vec<u8>)> = allowed.into_iter().map(|(allowed, padding)| {
                let mut frame = frame(allowed, 4);
                frame.resize(frame.len() + padding, 7);
                (allowed, frame)
            }).collect();
            let all: Vec<_> = frames.iter().map(|(_, frame)| frame.clone()).collect();
            let wanted: Vec<_> =
                frames.iter().filter(|(allowed, _)| *allowed).map(|(_, frame)| frame.clone()).collect();
            let mut out = Vec::new();
            pass_frames(Pieces(&framed(&all), pieces), &mut out, leaves).unwrap();
            prop_assert_eq!(out, framed(&wanted));
        }
    }
}
