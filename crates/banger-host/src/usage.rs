//! What processes take: proc(5).

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use banger_types::monitor::control_group;
use banger_types::stats::HostUsage;

/// Most processes that are looked at: a VM has a handful.
const MOST: usize = 64;

/// Returns what a process and all beneath it take; nothing if it is gone. The memory of those that are another user's, and in a control
/// group of their own, is what that group has.
pub fn usage_of_tree(root: u32, control_group: Option<&Path>) -> Option<HostUsage> {
    let group = control_group.and_then(GroupMemory::read);
    let mut is_grouped = false;
    let mut usage = HostUsage::default();
    let mut waiting = VecDeque::from([root]);
    let mut seen = 0;
    while let Some(pid) = waiting.pop_front().filter(|_| seen < MOST) {
        seen += 1;
        let directory = format!("/proc/{pid}");
        let directory = Path::new(&directory);
        // It may end at any moment; what it had is gone then.
        let Some(cpu_ms) = processor_time(directory) else { continue };
        usage.processes += 1;
        usage.cpu_ms += cpu_ms;
        match proportional_memory(directory) {
            Some(pss) => usage.pss += pss,
            None if group.as_ref().is_some_and(|group| group.processes.contains(&pid)) => is_grouped = true,
            None => usage.untold += 1,
        }
        waiting.extend(children(directory));
    }
    usage.pss += group.filter(|_| is_grouped).map_or(0, |group| group.bytes);
    (usage.processes > 0).then_some(usage)
}

/// What a control group has of memory (the kernel's `cgroup-v2`, `memory.stat`).
#[derive(Debug)]
struct GroupMemory {
    processes: HashSet<u32>,
    /// What its processes have mapped, theirs alone or the first time anybody had it.
    bytes: u64,
}

impl GroupMemory {
    fn read(group: &Path) -> Option<Self> {
        let processes = std::fs::read_to_string(group.join(control_group::PROCESSES)).ok()?;
        let statistics = std::fs::read_to_string(group.join(control_group::MEMORY)).ok()?;
        Some(Self {
            processes: processes.lines().filter_map(|line| line.parse().ok()).collect(),
            bytes: mapped(&statistics),
        })
    }
}

fn mapped(statistics: &str) -> u64 {
    let fields = statistics.lines().filter_map(|line| line.split_once(' '));
    let counted = fields.filter(|(name, _)| ["anon", "file_mapped"].contains(name));
    counted.filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum()
}

/// `stat`: fields 14 and 15 are processor time in user and kernel mode, in ticks. The second is a name that may have anything
/// in it, so that they are counted from the last parenthesis.
fn processor_time(process: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    ticks.checked_mul(1000)?.checked_div(rustix::param::clock_ticks_per_second())
}

fn proportional_memory(process: &Path) -> Option<u64> {
    let rollup = std::fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    pss.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `task/TID/children`: the children of each thread.
fn children(process: &Path) -> Vec<u32> {
    let threads = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children"));
    let lists = threads.filter_map(|thread| of_thread(thread).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_counted_with_what_it_started() {
        let alone = usage_of_tree(std::process::id(), None).unwrap();
        assert!(alone.pss > 0 && alone.untold == 0, "{alone:?}");
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let both = usage_of_tree(std::process::id(), None).unwrap();
        // Other tests of this program may start processes, too.
        assert!(both.processes > 1, "{both:?}");
        let of_child = usage_of_tree(child.id(), None).unwrap();
        assert_eq!(of_child.processes, 1);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(usage_of_tree(child.id(), None), None);
    }

    #[test]
    fn a_group_has_what_is_mapped() {
        let statistics = "anon 4096\nfile 999999\nkernel 77\nfile_mapped 8192\nanon_thp 2048\n";
        assert_eq!(mapped(statistics), 12_288);
    }
}
