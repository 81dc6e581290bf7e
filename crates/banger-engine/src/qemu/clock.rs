//! How fast the host's time stamp counter runs.
//!
//! QEMU's emulation hands the host's counter to the guest, and microvm has no clock to measure it
//! against but the PIT. On a busy host the guest's measurement fails ("could not calculate TSC
//! khz"), and with no other clock source its boot hangs: 3 of 3 guests on a host with a load of 4.
//! So the host measures, at leisure, and tells (`tsc_early_khz`, Linux,
//! Documentation/admin-guide/kernel-parameters.rst).
//!
//! `CLOCK_MONOTONIC` stands still while the host sleeps (`clock_gettime(2)`), and the counter runs on
//! or begins anew, so that two readings say nothing when the host slept between them. How long it has
//! slept since its boot is the difference of `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Least time between the two readings; an error of a microsecond in it is 0.01 %.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// Readings are repeated until one took no longer than this.
const SHARP: Duration = Duration::from_micros(2);
/// How often a reading is repeated; then the sharpest of them counts.
const TRIES: usize = 8;
/// How often a measurement is repeated that did not succeed.
const MEASUREMENTS: usize = 5;
/// A longer sleep than this is one. Anything shorter is the time that reading two clocks takes.
const SLEEP: Duration = Duration::from_millis(1);
/// What counters of x86-64 processors run at, kHz.
const PLAUSIBLE_KHZ: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;

/// The counter and the clocks that it is measured against.
pub(super) trait Clocks: Send + Sync {
    /// Returns the time stamp counter.
    fn ticks(&self) -> u64;
    /// Returns `CLOCK_MONOTONIC`.
    fn monotonic(&self) -> Duration;
    /// Returns `CLOCK_BOOTTIME`.
    fn boottime(&self) -> Duration;
    /// Waits.
    fn wait(&self, duration: Duration);
}

/// This host's.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostClocks;

impl Clocks for HostClocks {
    fn ticks(&self) -> u64 {
        // SAFETY: RDTSC is on every x86-64 processor, and has no effect but its result.
        #[expect(unsafe_code, reason = "an instruction that has no other name")]
        unsafe {
            core::arch::x86_64::_rdtsc()
        }
    }

    fn monotonic(&self) -> Duration {
        since_boot(clock_gettime(ClockId::Monotonic))
    }

    fn boottime(&self) -> Duration {
        since_boot(clock_gettime(ClockId::Boottime))
    }

    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Both clocks begin at the boot, and are never negative.
fn since_boot(time: Timespec) -> Duration {
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// A reading of the counter together with the time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    ticks: u64,
    time: Duration,
    /// How long the host has slept.
    slept: Duration,
    /// How far apart the counter and the time may be.
    uncertainty: Duration,
}

impl Reading {
    /// Takes the sharpest of some readings: this thread may lose its processor in the midst of one, and
    /// the host may go to sleep.
    fn take(clocks: &dyn Clocks) -> Self {
        let mut best = Self::attempt(clocks);
        for _ in 1..TRIES {
            if best.uncertainty <= SHARP {
                break;
            }
            let next = Self::attempt(clocks);
            if next.uncertainty < best.uncertainty {
                best = next;
            }
        }
        best
    }

    fn attempt(clocks: &dyn Clocks) -> Self {
        let slept = || clocks.boottime().saturating_sub(clocks.monotonic());
        let slept_before = slept();
        let time = clocks.monotonic();
        let ticks = clocks.ticks();
        let took = clocks.monotonic().saturating_sub(time);
        let slept = slept();
        Self { ticks, time, slept, uncertainty: took + slept.abs_diff(slept_before) }
    }

    /// Returns the counter's frequency since `earlier`, in kHz; `None` when the two readings cannot be
    /// compared.
    fn frequency_khz(&self, earlier: &Self) -> Option<u64> {
        if self.uncertainty.max(earlier.uncertainty) > SLEEP || self.slept.abs_diff(earlier.slept) > SLEEP {
            return None;
        }
        let ticks = u128::from(self.ticks.checked_sub(earlier.ticks)?);
        let nanoseconds = self.time.checked_sub(earlier.time)?.as_nanos();
        let frequency = u64::try_from((ticks * 1_000_000).checked_div(nanoseconds)?).ok()?;
        PLAUSIBLE_KHZ.contains(&frequency).then_some(frequency)
    }
}

/// The counter, and when it was first looked at: the longer ago, the more exact a measurement is.
pub(super) struct Counter {
    clocks: Box<dyn Clocks>,
    first: Mutex<Reading>,
}

impl Counter {
    /// Takes the first reading.
    pub(super) fn new(clocks: impl Clocks + 'static) -> Self {
        let first = Mutex::new(Reading::take(&clocks));
        Self { clocks: Box::new(clocks), first }
    }

    /// Returns the counter's frequency in kHz, or `None` when it cannot be told. Waits for
    /// [`LEAST_INTERVAL`] only when the first reading is new, or the host has slept since.
    pub(super) fn frequency_khz(&self) -> Option<u64> {
        let clocks = self.clocks.as_ref();
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MEASUREMENTS {
            let missing = LEAST_INTERVAL.saturating_sub(clocks.monotonic().saturating_sub(first.time));
            if !missing.is_zero() {
                clocks.wait(missing);
            }
            let now = Reading::take(clocks);
            let frequency = now.frequency_khz(&first);
            if frequency.is_some() {
                return frequency;
            }
            *first = now;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const KHZ: u64 = 2_500_000;

    /// A host on which reading a clock takes a moment.
    #[derive(Clone)]
    struct Host(Arc<Mutex<State>>);

    struct State {
        awake: Duration,
        slept: Duration,
        ticks: u64,
        waits: usize,
        /// For how long the host goes to sleep when the counter is read next.
        sleeps_at_ticks: Option<Duration>,
    }

    impl Host {
        fn new() -> Self {
            let state = State {
                awake: Duration::from_secs(100),
                slept: Duration::from_secs(7),
                ticks: 1 << 40,
                waits: 0,
                sleeps_at_ticks: None,
            };
            Self(Arc::new(Mutex::new(state)))
        }

        fn pass(&self, time: Duration) {
            let mut state = self.0.lock().unwrap();
            state.awake += time;
            state.ticks += ticks(time);
        }

        /// Sleeps; the counter runs on.
        fn sleep(&self, time: Duration) {
            let mut state = self.0.lock().unwrap();
            state.slept += time;
            state.ticks += ticks(time);
        }

        fn waits(&self) -> usize {
            self.0.lock().unwrap().waits
        }
    }

    fn ticks(time: Duration) -> u64 {
        u64::try_from(time.as_nanos() * u128::from(KHZ) / 1_000_000).unwrap()
    }

    impl Clocks for Host {
        fn ticks(&self) -> u64 {
            let sleep = self.0.lock().unwrap().sleeps_at_ticks.take();
            if let Some(sleep) = sleep {
                self.sleep(sleep);
            }
            self.0.lock().unwrap().ticks
        }
        fn monotonic(&self) -> Duration {
            self.pass(Duration::from_nanos(100));
            self.0.lock().unwrap().awake
        }
        fn boottime(&self) -> Duration {
            let state = self.0.lock().unwrap();
            state.awake + state.slept
        }
        fn wait(&self, duration: Duration) {
            self.pass(duration);
            self.0.lock().unwrap().waits += 1;
        }
    }

    fn assert_right(frequency: Option<u64>) {
        let frequency = frequency.expect("a frequency");
        assert!(frequency.abs_diff(KHZ) * 1000 < KHZ, "{frequency} kHz");
    }

    #[test]
    fn a_first_reading_of_long_ago_needs_no_wait() {
        let host = Host::new();
        let counter = Counter::new(host.clone());
        host.pass(Duration::from_hours(1));
        assert_right(counter.frequency_khz());
        assert_eq!(host.waits(), 0);
    }

    #[test]
    fn a_host_that_slept_is_measured_anew() {
        let host = Host::new();
        let counter = Counter::new(host.clone());
        host.pass(Duration::from_mins(1));
        host.sleep(Duration::from_hours(8));
        host.pass(Duration::from_mins(1));
        assert_right(counter.frequency_khz());
        assert_eq!(host.waits(), 1);
        // What was measured after the sleep serves from then on.
        host.pass(Duration::from_mins(1));
        assert_right(counter.frequency_khz());
        assert_eq!(host.waits(), 1);
    }

    #[test]
    fn a_counter_that_began_anew_is_measured_anew() {
        let host = Host::new();
        let counter = Counter::new(host.clone());
        host.pass(Duration::from_mins(1));
        host.0.lock().unwrap().ticks = 5;
        assert_right(counter.frequency_khz());
        // Nor need it be a sleep that the clocks know of.
        host.pass(Duration::from_mins(1));
        host.0.lock().unwrap().ticks <<= 20;
        assert_right(counter.frequency_khz());
    }

    #[test]
    fn a_sleep_within_a_reading_does_not_count() {
        let host = Host::new();
        let counter = Counter::new(host.clone());
        host.pass(Duration::from_mins(1));
        host.0.lock().unwrap().sleeps_at_ticks = Some(Duration::from_secs(30));
        assert_right(counter.frequency_khz());
    }

    #[test]
    fn clocks_that_make_no_sense_give_no_frequency() {
        struct Stopped;
        impl Clocks for Stopped {
            fn ticks(&self) -> u64 {
                7
            }
            fn monotonic(&self) -> Duration {
                Duration::from_secs(1)
            }
            fn boottime(&self) -> Duration {
                Duration::from_secs(1)
            }
            fn wait(&self, _: Duration) {}
        }
        assert_eq!(Counter::new(Stopped).frequency_khz(), None);
    }

    #[test]
    fn two_measurements_of_this_host_agree() {
        let measure = || Counter::new(HostClocks).frequency_khz().expect("a frequency");
        let (first, second) = (measure(), measure());
        assert!(first.abs_diff(second) * 100 < first, "{first} kHz, {second} kHz");
    }
}
