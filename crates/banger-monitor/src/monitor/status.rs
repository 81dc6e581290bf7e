//! The published state, and its file.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use banger_types::monitor::{MonitorPhase, MonitorStatus, file};
use fs_err::File;

/// The state: as it is, as watchers were told, and what of it is on disk.
///
/// A guest chooses when its phase changes, and each change costs the host's disk a sync here and more in the daemon.
/// So changes are published at a [`Pace`]; what changes in between is published as one. What listens costs no sync, and comes
/// and goes whenever somebody works there: that has a [`Rate`].
#[derive(Debug)]
pub(crate) struct Board {
    status: MonitorStatus,
    published: MonitorStatus,
    generation: u64,
    pace: Pace,
    rate: Rate,
    /// Phase and VMM of the file.
    written: Option<(MonitorPhase, u32)>,
}

impl Board {
    /// Returns a board that is not on disk yet.
    pub(crate) fn new(status: MonitorStatus) -> Self {
        let published = status.clone();
        Self { status, published, generation: 0, pace: Pace::default(), rate: Rate::default(), written: None }
    }

    /// Returns the state as it is.
    pub(crate) fn status(&self) -> &MonitorStatus {
        &self.status
    }

    /// Returns the state as watchers are told it.
    pub(crate) fn published(&self) -> &MonitorStatus {
        &self.published
    }

    /// Returns a number that is another one at each publication.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes the state.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut MonitorStatus)) {
        change(&mut self.status);
    }

    /// Returns when a change has to be published, if there is one: `now`, if there was none before.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if self.published == self.status {
            return None;
        }
        let next = if self.differs_in_what_listens_alone() { self.rate.next() } else { self.pace.next() };
        Some(next.unwrap_or(now))
    }

    fn differs_in_what_listens_alone(&self) -> bool {
        let MonitorStatus { sockets, automatic, .. } = self.status.clone();
        MonitorStatus { sockets, automatic, ..self.published.clone() } == self.status
    }

    /// Publishes, whether that is due or not, and replaces the file if phase or VMM is another one there.
    pub(crate) fn publish(&mut self, now: Instant) -> io::Result<()> {
        if self.differs_in_what_listens_alone() {
            self.rate.step(now);
        } else {
            self.pace.step(now);
        }
        self.generation += 1;
        self.published = self.status.clone();
        let current = Some((self.status.phase.clone(), self.status.vmm_pid));
        if self.written == current {
            return Ok(());
        }
        // An attempt that fails is not repeated before the next change.
        self.written = current;
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let temporary = format!("{}.new", file::STATUS);
        let mut new = File::create(&temporary)?;
        new.write_all(&serde_json::to_vec(&self.status)?)?;
        new.sync_all()?;
        fs_err::rename(temporary, file::STATUS)
    }
}

/// How fast something may happen: some times at once, and ever more slowly while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    /// How often it has happened without a rest.
    times: u32,
}

impl Pace {
    /// So often it may happen at once: a guest that boots, or whose agent is replaced, changes its state a few times
    /// in as many milliseconds.
    const FREE: u32 = 8;
    /// The first of the waits, each of which is twice as long as the one before.
    const FIRST_WAIT: Duration = Duration::from_millis(50);
    const LONGEST_WAIT: Duration = Duration::from_secs(1);
    /// When it has not happened for so long, all is forgotten.
    const REST: Duration = Duration::from_secs(10);

    /// Returns when it may happen next, if it ever happened.
    pub(crate) fn next(&self) -> Option<Instant> {
        let wait = match self.times.checked_sub(Self::FREE) {
            None => Duration::ZERO,
            Some(waits) => (Self::FIRST_WAIT * (1 << waits.min(8))).min(Self::LONGEST_WAIT),
        };
        Some(self.last? + wait)
    }

    /// Notes that it happens now.
    pub(crate) fn step(&mut self, now: Instant) {
        let rested = self.last.is_none_or(|last| now.saturating_duration_since(last) >= Self::REST);
        self.times = if rested { 1 } else { self.times.saturating_add(1) };
        self.last = Some(now);
    }
}

/// How fast something may happen in the long run, where it may happen more often for a moment.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// If it did not happen before then, it would have happened once in each [`Rate::PERIOD`].
    paid_until: Option<Instant>,
}

impl Rate {
    const PERIOD: Duration = Duration::from_millis(100);
    /// So often it may happen at once.
    const SAVED: u32 = 8;

    /// Returns when it may happen next, if it ever happened.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.paid_until?.checked_sub(Self::PERIOD * (Self::SAVED - 1))
    }

    /// Notes that it happens now.
    pub(crate) fn step(&mut self, now: Instant) {
        self.paid_until = Some(self.paid_until.unwrap_or(now).max(now) + Self::PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_now_and_then_happens_at_once_and_what_goes_on_has_its_rate() {
        let (mut rate, begin) = (Rate::default(), Instant::now());
        let mut now = begin;
        let mut step = || {
            now = rate.next().unwrap_or(now).max(now);
            rate.step(now);
            now - begin
        };
        let first: Vec<_> = (0..10).map(|_| step().as_millis()).collect();
        assert_eq!(first, [0, 0, 0, 0, 0, 0, 0, 0, 100, 200]);
        assert_eq!((0..1000).map(|_| step()).last(), Some(Rate::PERIOD * 1002));
    }

    /// Lets it happen as often as it may, and returns the waits.
    fn waits(pace: &mut Pace, now: &mut Instant, times: usize) -> Vec<u128> {
        (0..times)
            .map(|_| {
                let next = pace.next().unwrap_or(*now).max(*now);
                let wait = next.duration_since(*now).as_millis();
                *now = next;
                pace.step(next);
                wait
            })
            .collect()
    }

    #[test]
    fn what_goes_on_becomes_slow_and_what_rests_becomes_quick_again() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let slower = [0, 0, 0, 0, 0, 0, 0, 0, 50, 100, 200, 400, 800, 1000, 1000, 1000];
        assert_eq!(waits(&mut pace, &mut now, 16), slower);
        // A day of it.
        let last = waits(&mut pace, &mut now, 100_000);
        assert!(last.iter().all(|wait| *wait == 1000));
        now += Duration::from_secs(9);
        assert_eq!(waits(&mut pace, &mut now, 2), [0, 1000]);
        now += Duration::from_secs(10);
        assert_eq!(waits(&mut pace, &mut now, 16), slower);
    }
}
