//! How quickly a phase goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how long a rate is taken: long enough to be steady, short enough to follow.
const WINDOW: Duration = Duration::from_secs(5);
/// A rate of less than this is a guess.
const SHORTEST: Duration = Duration::from_millis(500);

/// What was seen of a phase's progress.
pub(super) struct Pace {
    began: Instant,
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, seen: VecDeque::new() }
    }

    /// A phase begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
        self.seen.clear();
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }

    pub(super) fn is_too_soon(&self, now: Instant, interval: Duration) -> bool {
        self.seen.back().is_some_and(|(last, _)| now.duration_since(*last) < interval)
    }

    /// Takes in how far it is.
    pub(super) fn note(&mut self, now: Instant, done: u64) {
        // It has begun anew, as a download does that was of no use.
        if self.seen.back().is_some_and(|(_, before)| *before > done) {
            self.seen.clear();
        }
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && now.duration_since(self.seen[0].0) > WINDOW {
            self.seen.pop_front();
        }
    }

    /// Returns how much is done in a second; nothing before that can be said.
    pub(super) fn rate(&self) -> Option<u64> {
        let ((from, before), (to, done)) = (self.seen.front()?, self.seen.back()?);
        let elapsed = to.duration_since(*from);
        if elapsed < SHORTEST {
            return None;
        }
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        done.saturating_sub(*before).saturating_mul(1000).checked_div(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        assert_eq!(pace.rate(), None);
        for second in 0..10 {
            pace.note(began + Duration::from_secs(second), second * 1000);
        }
        assert_eq!(pace.rate(), Some(1000));
        for second in 10..20 {
            pace.note(began + Duration::from_secs(second), 9000 + (second - 9) * 50);
        }
        assert_eq!(pace.rate(), Some(50));
        pace.note(began + Duration::from_secs(20), 0);
        assert_eq!(pace.rate(), None, "it has begun anew");
        assert!(pace.is_too_soon(began + Duration::from_millis(20_050), Duration::from_millis(100)));
        assert_eq!(pace.elapsed(began + Duration::from_secs(20)), Duration::from_secs(20));
    }
}
