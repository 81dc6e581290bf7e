//! `/proc/PID/stat`, and the same of a thread (`proc_pid_stat(5)`).

use std::io;
use std::path::Path;
use std::time::Duration;

/// What a process, or a thread, is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Everything behind its name: field 3 is the first.
    fields: String,
}

impl Stat {
    /// Reads the file in the directory of a process or a thread.
    pub(crate) fn of(directory: impl AsRef<Path>) -> io::Result<Self> {
        let path = directory.as_ref().join("stat");
        Self::parse(&fs_err::read_to_string(&path)?).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not as it should be", path.display()))
        })
    }

    /// The second field, the program's name in parentheses, may hold anything: fields are counted from its last
    /// parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        Some(Self { fields: fields.to_owned() })
    }

    /// Whether a signal has stopped it (field 3).
    pub(crate) fn is_stopped(&self) -> bool {
        self.fields.starts_with('T')
    }

    /// When it was started, in clock ticks since the host was (field 22).
    pub(crate) fn start_ticks(&self) -> Option<u64> {
        self.number(22)
    }

    /// How long it has used processors (fields 14 and 15).
    pub(crate) fn processor_time(&self) -> Duration {
        let ticks: u64 = [14, 15].into_iter().filter_map(|field| self.number(field)).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
    }

    fn number(&self, field: usize) -> Option<u64> {
        self.fields.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = Stat::parse("7 (a) b (c)) T 1 7 7 0 -1 0 0 0 0 0 100 50 0 0 20 0 1 0 4242 0 0").unwrap();
        assert_eq!(stat.start_ticks(), Some(4242));
        assert!(stat.is_stopped());
        let second = rustix::param::clock_ticks_per_second();
        assert_eq!(stat.processor_time(), Duration::from_millis(150_000 / second));
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[test]
    fn this_process_is_not_stopped() {
        assert!(!Stat::of("/proc/self").unwrap().is_stopped());
        assert!(Stat::of("/proc/0").is_err());
    }
}
