//! What banger takes of the host's memory and disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use banger_testkit::seed::DEBIAN;

use crate::banger::Banger;
use crate::idle;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

const VM: &str = "footprint";

/// A process's memory, KiB (`proc_pid_status(5)`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// `VmRSS`: everything resident, its program's pages included.
    resident: u64,
    /// `RssAnon`: of that, what is no file's.
    anonymous: u64,
}

/// Returns the memory of a daemon that has only been started.
pub(crate) fn fresh_daemon(banger: &Banger) -> Result<Memory> {
    banger.run(&["daemon", "start"])?;
    Memory::of(banger.daemon_pid()?)
}

/// Looks at a VM with systemd, before its first boot and when it has been left alone for a while.
pub(crate) fn measure(banger: &Banger, rounds: &Rounds, daemon_when_fresh: Memory) -> Result<Comparison> {
    banger.run(&["vm", "create", VM, "--image", DEBIAN, "--no-start"])?;
    let directory = banger.directory(VM)?;
    let before = disk_usage(&directory)?;
    banger.run(&["vm", "start", VM])?;
    // It also says "degraded" when a unit failed, with an exit code; systemd is up all the same.
    banger.run(&["exec", VM, "--", "sh", "-c", "systemctl is-system-running --wait || :"])?;
    std::thread::sleep(Duration::from_secs(rounds.rest_seconds));
    // What the host's file system has not yet given a place does not count there.
    rustix::fs::sync();
    let after = disk_usage(&directory)?;
    let daemon = Memory::of(banger.daemon_pid()?)?;
    let monitor = Memory::of(monitor_pid(&directory)?)?;
    let vmm = Memory::of(banger.vmm_pid(VM)?)?;
    let seconds = rounds.idle_seconds;
    // Asked for before: a daemon that has just answered is not idle yet. It is the second to be watched.
    let daemon_pid = banger.daemon_pid()?;
    let idle = [
        idle::row(banger, "banger-monitor, idle", monitor_pid(&directory)?, seconds)?,
        idle::row(banger, "bangerd, idle", daemon_pid, seconds)?,
    ];
    banger.remove(VM)?;
    let rest = rounds.rest_seconds;
    let mut rows = vec![
        Row::of("disk of a new VM before its first boot", Samples::kibibytes(before))
            .mark(Mark::AtMost(1024.0)),
        Row::of(format!("disk of that VM {rest} s after systemd was up"), Samples::kibibytes(after))
            .mark(Mark::AtMost(32.0 * 1024.0)),
    ];
    rows.extend(monitor.rows("banger-monitor of that VM, idle", Some(Mark::AtMost(2048.0))));
    rows.extend(daemon_when_fresh.rows("bangerd, just started", None));
    rows.extend(daemon.rows("bangerd, idle after everything above", Some(Mark::AtMost(25.0 * 1024.0))));
    rows.extend(vmm.rows("QEMU, guest of 2 GiB, idle", None));
    rows.extend(idle);
    Ok(Comparison {
        title: "Memory, disk and idleness".to_owned(),
        method:
            "The debian image. Disk is the blocks of everything in the VM's directory; memory is `VmRSS` of \
                 `/proc/PID/status`, in which a program's own pages count in full, and of it `RssAnon`."
                .to_owned(),
        rows,
    })
}

/// Returns the process id of the monitor of the VM in a directory.
pub(crate) fn monitor_pid(directory: &Path) -> Result<u64> {
    let status: serde_json::Value = serde_json::from_slice(&fs_err::read(directory.join("status.json"))?)?;
    status["monitor_pid"].as_u64().context("a monitor without a process id")
}

/// Returns what the files of a directory take, KiB (`st_blocks` are 512 bytes each, stat(2)).
fn disk_usage(directory: &Path) -> Result<u64> {
    let mut blocks = fs_err::metadata(directory)?.blocks();
    for entry in fs_err::read_dir(directory)? {
        blocks += entry?.metadata()?.blocks();
    }
    Ok(blocks / 2)
}

impl Memory {
    fn of(pid: u64) -> Result<Self> {
        let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
            Ok(value.with_context(|| format!("process {pid} has no {name}"))?.parse()?)
        };
        Ok(Self { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }

    fn rows(self, what: &str, mark: Option<Mark>) -> [Row; 2] {
        let resident = Row::of(format!("memory of {what}"), Samples::kibibytes(self.resident));
        let anonymous = Row::of("— of that, no file's", Samples::kibibytes(self.anonymous));
        [mark.into_iter().fold(resident, Row::mark), anonymous]
    }
}
