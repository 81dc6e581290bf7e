//! How long a program that has ended is left alone.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_mins(1);
/// A program that has lived for this long counts as one that works: its next pause is the first again.
const GROWN_UP: Duration = Duration::from_secs(10);

/// A pause that doubles for as long as the program dies young.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pause {
    /// Returns the pause after a program that has lived for `lived`.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= GROWN_UP {
            self.0 = FIRST;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_the_program_dies_young() {
        let mut pause = Pause::default();
        let seconds: Vec<_> = (0..8).map(|_| pause.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause.after(GROWN_UP), FIRST);
        assert_eq!(pause.after(Duration::ZERO), FIRST * 2);
    }
}
