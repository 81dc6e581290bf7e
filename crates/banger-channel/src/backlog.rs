//! Bytes that wait for their reader.

use std::collections::VecDeque;

/// Bytes that have come and cannot be passed on yet, in order.
///
/// They cost what they are, however small the pieces were in which they came: credit counts bytes alone, so a peer
/// that sends its window in frames of one byte must not cost more than one that fills its frames.
#[derive(Debug, Default)]
pub struct Backlog(VecDeque<u8>);

impl Backlog {
    /// Takes bytes, behind what waits already.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if self.0.is_empty() {
            // As they are; what held the bytes before goes.
            self.0 = bytes.into();
        } else {
            self.0.extend(bytes);
        }
    }

    /// Returns the first bytes that wait: some of them if there are any.
    pub fn front(&self) -> &[u8] {
        self.0.as_slices().0
    }

    /// Returns the bytes that wait, one by one.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.iter().copied()
    }

    /// Forgets the first `length` bytes, or all if there are fewer.
    pub fn advance(&mut self, length: usize) {
        self.0.drain(..length.min(self.0.len()));
    }

    /// Returns how many bytes wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut backlog = Backlog::default();
        let (mut wanted, mut got) = (Vec::new(), Vec::new());
        for number in 0..1000_u32 {
            let piece = number.to_le_bytes()[..number as usize % 4].to_vec();
            wanted.extend_from_slice(&piece);
            backlog.push(piece);
            let length = backlog.front().len().min(number as usize % 3);
            got.extend_from_slice(&backlog.front()[..length]);
            backlog.advance(length);
        }
        while !backlog.is_empty() {
            let length = backlog.front().len();
            assert!(length > 0);
            got.extend_from_slice(backlog.front());
            backlog.advance(length);
        }
        assert!(got == wanted);
    }

    #[test]
    fn a_window_of_single_bytes_costs_no_more_than_two_windows() {
        let mut backlog = Backlog::default();
        for _ in 0..crate::WINDOW {
            backlog.push(vec![7]);
        }
        assert_eq!(backlog.0.len(), crate::WINDOW);
        assert!(backlog.0.capacity() <= 2 * crate::WINDOW);
    }

    #[test]
    fn what_is_read_holds_no_memory_for_long() {
        let mut backlog = Backlog::default();
        for _ in 0..crate::WINDOW {
            backlog.push(vec![7]);
        }
        backlog.advance(usize::MAX);
        backlog.push(vec![8]);
        assert!(backlog.0.capacity() < 64);
    }
}
