//! What keeps a process from the rest of its host, as the kernel says (`proc_pid_status(5)`, `namespaces(7)`).

use std::path::Path;

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
    Some(Isolation { system_calls, files: false, user_namespace: its != ours })
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
