//! Datagrams on a stream: each behind its length.

use crate::Backlog;

/// Bytes of a length.
const LENGTH: usize = 2;

/// Most bytes of a datagram: what its length can say. UDP has a little less (RFC 768).
pub const LONGEST_DATAGRAM: usize = u16::MAX as usize;

/// A datagram that is being made ready to be sent: its length, big-endian, and then the datagram itself. The window of a stream is
/// longer than the longest.
#[derive(Debug)]
pub struct Framed(Vec<u8>);

impl Framed {
    /// Lets `fill` put a datagram of at most [`LONGEST_DATAGRAM`] bytes behind what there is in a buffer, which has room for it. Returns
    /// it, or what `fill` says instead.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn fill<E>(fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Vec::with_capacity(LENGTH + LONGEST_DATAGRAM);
        bytes.extend_from_slice(&[0; LENGTH]);
        fill(&mut bytes)?;
        let length = bytes.len().saturating_sub(LENGTH).min(LONGEST_DATAGRAM);
        bytes.truncate(LENGTH + length);
        if let Ok(length) = u16::try_from(length) {
            bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
        }
        Ok(Self(bytes))
    }

    /// Returns a datagram made ready. What is longer than the longest is cut.
    pub fn new(datagram: &[u8]) -> Self {
        let length = datagram.len().min(LONGEST_DATAGRAM);
        let mut bytes = Vec::with_capacity(LENGTH + length);
        bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(&datagram[..length]);
        Self(bytes)
    }

    /// Returns what is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Datagrams as they come out of a stream.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// What has come and was not taken.
    backlog: Backlog,
    /// The datagram in front, once it is whole.
    front: Option<Vec<u8>>,
}

impl Datagrams {
    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: Vec<u8>) {
        self.backlog.push(bytes);
    }

    /// Returns the datagram in front, if it has come as a whole.
    pub fn front(&mut self) -> Option<&[u8]> {
        if self.front.is_none() {
            self.front = self.take_whole();
        }
        self.front.as_deref()
    }

    /// Forgets the datagram in front. Returns how many bytes of the stream it had, for its sender's credit.
    pub fn pop(&mut self) -> usize {
        self.front.take().map_or(0, |datagram| LENGTH + datagram.len())
    }

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.backlog.iter();
        let length = usize::from(u16::from_be_bytes([bytes.next()?, bytes.next()?]));
        if self.backlog.len() < LENGTH + length {
            return None;
        }
        let datagram = bytes.take(length).collect();
        self.backlog.advance(LENGTH + length);
        Some(datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut() {
        let sent: Vec<Vec<u8>> =
            [0, 1, 2, 255, 256, 1472, LONGEST_DATAGRAM].iter().map(|length| vec![7; *length]).collect();
        let stream: Vec<u8> =
            sent.iter().flat_map(|datagram| Framed::new(datagram).bytes().to_vec()).collect();
        for cut in [1, 2, 3, 1000, stream.len()] {
            let (mut datagrams, mut got, mut taken) = (Datagrams::default(), Vec::new(), 0);
            for piece in stream.chunks(cut) {
                datagrams.push(piece.to_vec());
                while let Some(datagram) = datagrams.front() {
                    got.push(datagram.to_vec());
                    taken += datagrams.pop();
                }
            }
            assert!(got == sent, "cut into pieces of {cut}");
            assert_eq!(taken, stream.len());
        }
    }

    #[test]
    fn what_is_filled_in_is_what_is_sent() {
        let framed = Framed::fill(|buffer| {
            buffer.extend_from_slice(b"datagram");
            Ok::<_, ()>(())
        });
        assert_eq!(framed.unwrap().bytes(), Framed::new(b"datagram").bytes());
        assert!(Framed::fill(|_| Err(())).is_err());
        assert_eq!(Framed::new(&vec![0; 70_000]).bytes().len(), LENGTH + LONGEST_DATAGRAM);
    }

    #[test]
    fn the_longest_fits_into_a_window() {
        const { assert!(LENGTH + LONGEST_DATAGRAM <= crate::WINDOW) };
    }
}
