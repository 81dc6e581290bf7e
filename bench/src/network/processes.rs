//! Processes and whose children they are.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// A process, as `/proc` shows it (`proc_pid_stat(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u64,
    parent: u64,
    /// Its program's name, at most 15 bytes of it.
    pub(super) name: String,
}

/// Returns all processes of the host.
pub(super) fn all() -> Result<Vec<Process>> {
    let entries = fs_err::read_dir("/proc")?.flatten();
    let numbers =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    // One that has ended meanwhile is none.
    let stats = numbers.filter_map(|number| fs_err::read_to_string(format!("/proc/{number}/stat")).ok());
    stats.map(|stat| Process::parse(&stat).with_context(|| format!("not understood: {stat}"))).collect()
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name is in parentheses and may hold anything.
        let ((pid, rest), (before, after)) = (stat.split_once(" (")?, stat.rsplit_once(") ")?);
        let name = rest.get(..before.len().checked_sub(pid.len() + 2)?)?.to_owned();
        let parent = after.split(' ').nth(1)?.parse().ok()?;
        Some(Self { pid: pid.parse().ok()?, parent, name })
    }
}

/// Returns a process and all that it, or what it has started, has started.
pub(super) fn descendants(processes: &[Process], ancestor: u64) -> Vec<Process> {
    let mut known = BTreeSet::from([ancestor]);
    loop {
        let before = known.len();
        let children = processes.iter().filter(|process| known.contains(&process.parent));
        let children: Vec<u64> = children.map(|process| process.pid).collect();
        known.extend(children);
        if known.len() == before {
            return processes.iter().filter(|process| known.contains(&process.pid)).cloned().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let process = Process::parse("12 (a) (b) S 7 12 12 0 -1\n").unwrap();
        assert_eq!(process, Process { pid: 12, parent: 7, name: "a) (b".to_owned() });
        assert_eq!(Process::parse("12 (a"), None);
        assert_eq!(Process::parse(""), None);
    }

    #[test]
    fn grandchildren_belong_to_it_and_neighbours_do_not() {
        let process = |pid, parent| Process { pid, parent, name: String::new() };
        // The number says nothing of the age.
        let all = [process(5, 9), process(1, 0), process(9, 2), process(2, 1), process(3, 1)];
        let pids: Vec<u64> = descendants(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [5, 9, 2]);
    }
}
