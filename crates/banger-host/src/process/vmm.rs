//! VMMs that are stopped and let go on.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_core::engine::RunningVmm;
use banger_core::process::Processes;
use banger_types::monitor::{LaunchSpec, control_group, file};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Stat;

/// How long a VMM's threads may take to stop, which they do as soon as they are in the kernel.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long it is waited where nothing is told of it: processors that a guest runs on are interrupted at once.
const UNTOLD: Duration = Duration::from_millis(100);
/// How often that is looked at. Only its parent is told of it.
const LOOK: Duration = Duration::from_millis(1);

/// The processes of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostProcesses;

impl Processes for HostProcesses {
    fn stop(&self, vmm: &RunningVmm) -> io::Result<()> {
        if let Some(group) = control_group_of(&vmm.directory) {
            return freeze(&group);
        }
        let process = find(vmm)?;
        pidfd_send_signal(&process, Signal::STOP)?;
        let end = Instant::now() + STOP_LIMIT;
        while !has_stopped(vmm)? {
            if Instant::now() >= end {
                pidfd_send_signal(&process, Signal::CONT)?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its threads do not stop"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn go_on(&self, vmm: &RunningVmm) -> io::Result<()> {
        if let Some(group) = control_group_of(&vmm.directory) {
            return fs_err::write(group.join(control_group::FREEZE), "0");
        }
        Ok(pidfd_send_signal(find(vmm)?, Signal::CONT)?)
    }

    fn stands_still(&self, vmm: &RunningVmm) -> io::Result<bool> {
        if let Some(group) = control_group_of(&vmm.directory) {
            return Ok(fs_err::read_to_string(group.join(control_group::FREEZE))?.trim() == "1");
        }
        let _process = find(vmm)?;
        has_stopped(vmm)
    }
}

/// Returns the control group that a VM's monitor was told of, if its VMM runs as another user.
pub fn control_group_of(directory: &Path) -> Option<PathBuf> {
    let launch = fs_err::read(directory.join(file::LAUNCH)).ok()?;
    serde_json::from_slice::<LaunchSpec>(&launch).ok()?.control_group
}

/// Makes all that is in a control group stand still. Blocks until it does, which the kernel tells of; but for a while only where there is a
/// thread of its own in the group, as KVM's up to Linux 6.13: that is not stopped, and so nothing is told.
fn freeze(group: &Path) -> io::Result<()> {
    fs_err::write(group.join(control_group::FREEZE), "1")?;
    let is_told = !has_kernel_thread(group);
    let end = Instant::now() + if is_told { STOP_LIMIT } else { UNTOLD };
    loop {
        let file = fs_err::File::open(group.join(control_group::EVENTS))?;
        let events = io::read_to_string(&file)?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if events.lines().any(|line| line == "populated 0") {
            return Err(ended());
        }
        let left = end.saturating_duration_since(Instant::now());
        let mut changed = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        let limit = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        if poll(&mut changed, Some(&limit))? == 0 {
            if !is_told {
                return Ok(());
            }
            fs_err::write(group.join(control_group::FREEZE), "0")?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its processes do not stop"));
        }
    }
}

/// Whether a thread of the kernel's is in a group: it has no command line (proc(5)).
fn has_kernel_thread(group: &Path) -> bool {
    let processes = fs_err::read_to_string(group.join(control_group::PROCESSES)).unwrap_or_default();
    let is_kernels =
        |pid: &str| fs_err::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty());
    processes.lines().any(is_kernels)
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the VMM has ended")
}

/// Finds the process of a VMM. Its number may be somebody else's by now: a VMM works in its VM's directory.
fn find(vmm: &RunningVmm) -> io::Result<OwnedFd> {
    let pid = i32::try_from(vmm.pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let works_in = fs_err::read_link(format!("/proc/{}/cwd", vmm.pid))?;
    if works_in != fs_err::canonicalize(&vmm.directory)? {
        return Err(ended());
    }
    Ok(process)
}

fn has_stopped(vmm: &RunningVmm) -> io::Result<bool> {
    for thread in fs_err::read_dir(format!("/proc/{}/task", vmm.pid))? {
        if !Stat::of(thread?.path())?.is_stopped() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    struct Ends(Child);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_process_stands_still_and_goes_on() {
        let directory = std::env::temp_dir();
        let child = Ends(Command::new("sleep").arg("1000").current_dir(&directory).spawn().unwrap());
        let vmm = RunningVmm { directory, pid: child.0.id() };
        assert!(!HostProcesses.stands_still(&vmm).unwrap());
        HostProcesses.stop(&vmm).unwrap();
        assert!(HostProcesses.stands_still(&vmm).unwrap());
        HostProcesses.go_on(&vmm).unwrap();
        assert!(!HostProcesses.stands_still(&vmm).unwrap());
        // A number that is another's by now is not touched.
        let other = RunningVmm { directory: "/proc".into(), pid: vmm.pid };
        assert!(HostProcesses.stop(&other).is_err());
        assert!(!HostProcesses.stands_still(&vmm).unwrap());
    }
}
