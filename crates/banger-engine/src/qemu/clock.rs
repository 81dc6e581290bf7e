//! How fast the host's time stamp counter runs.
//!
//! QEMU's emulation hands the host's counter to the guest, and microvm has no clock to measure it
//! against but the PIT. On a busy host the guest's measurement fails ("could not calculate TSC
//! khz"), and with no other clock source its boot hangs: 3 of 3 guests on a host with a load of 4.
//! So the host measures, at leisure, and tells (`tsc_early_khz`, Linux,
//! Documentation/admin-guide/kernel-parameters.rst).

use std::time::{Duration, Instant};

/// Least time between the two readings; an error of a microsecond in it is 0.01 %.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// A reading of the counter together with the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct CounterReading {
    time: Instant,
    ticks: u64,
}

impl CounterReading {
    pub(super) fn now() -> Self {
        // SAFETY: RDTSC is on every x86-64 processor, and has no effect but its result.
        #[expect(unsafe_code, reason = "an instruction that has no other name")]
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        Self { time: Instant::now(), ticks }
    }

    /// Returns the counter's frequency since this reading, in kHz.
    pub(super) fn frequency_khz(&self) -> u64 {
        // The daemon takes its first reading when it starts: this waits only in the first instant.
        let missing = LEAST_INTERVAL.saturating_sub(self.time.elapsed());
        if !missing.is_zero() {
            std::thread::sleep(missing);
        }
        let now = Self::now();
        let nanoseconds = now.time.duration_since(self.time).as_nanos().max(1);
        let ticks = u128::from(now.ticks.wrapping_sub(self.ticks));
        u64::try_from(ticks * 1_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let reading = CounterReading::now();
        let (first, second) = (reading.frequency_khz(), CounterReading::now().frequency_khz());
        assert!(first > 100_000, "{first} kHz");
        assert!(first.abs_diff(second) * 100 < first, "{first} kHz, {second} kHz");
    }
}
