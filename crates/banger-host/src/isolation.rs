//! What keeps a process from the rest of its host, as the kernel says (`proc_pid_status(5)`, `namespaces(7)`).

use std::path::Path;

use banger_types::monitor::control_group;
use banger_types::vm::Isolation;

/// How a process's status says that a filter judges its system calls: `SECCOMP_MODE_FILTER` (`seccomp(2)`).
const FILTERED: &str = "Seccomp:\t2";

/// Returns that of a process; nothing when there is no such process, or it is somebody else's. Whether it sees its own files alone is
/// not shown by the kernel: who has started it knows.
pub fn isolation_of(pid: u32) -> Option<Isolation> {
    let process = Path::new("/proc").join(pid.to_string());
    let status = fs_err::read_to_string(process.join("status")).ok()?;
    let namespace = |process: &Path| fs_err::read_link(process.join("ns/user")).ok();
    let (its, ours) = (namespace(&process)?, namespace(Path::new("/proc/self"))?);
    let system_calls = status.lines().any(|line| line == FILTERED);
    Some(Isolation { system_calls, user_namespace: its != ours, ..Isolation::default() })
}

/// Returns that of a VMM in a jail of the root helper's, by its control group; nothing when there is nothing in it. Whose it is tells the
/// kernel; that it has a root directory of its own goes with that.
pub fn isolation_in_jail(control_group: &Path) -> Option<Isolation> {
    let processes = fs_err::read_to_string(control_group.join(control_group::PROCESSES)).ok()?;
    let statuses =
        processes.lines().filter_map(|pid| fs_err::read_to_string(format!("/proc/{pid}/status")).ok());
    let statuses: Vec<String> = statuses.collect();
    let own = format!("Uid:\t{}\t", rustix::process::geteuid().as_raw());
    let is_another = |status: &String| !status.lines().any(|line| line.starts_with(&own));
    // Who watches over it is there as well.
    let system_calls = statuses.iter().any(|status| status.lines().any(|line| line == FILTERED));
    let own_user = !statuses.is_empty() && statuses.iter().all(is_another);
    (!statuses.is_empty()).then_some(Isolation {
        system_calls,
        files: own_user,
        user_namespace: false,
        own_user,
        limits: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_like_this_one_has_its_own_namespace_no_more_than_this_one() {
        let own = isolation_of(std::process::id()).unwrap();
        assert!(!own.user_namespace);
        assert_eq!(isolation_of(u32::MAX), None);
    }
}
