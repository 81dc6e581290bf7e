//! VMMs that are stopped and let go on.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use banger_core::engine::RunningVmm;
use banger_core::process::Processes;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Stat;

/// How long a VMM's threads may take to stop, which they do as soon as they are in the kernel.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at. Only its parent is told of it.
const LOOK: Duration = Duration::from_millis(1);

/// The processes of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostProcesses;

impl Processes for HostProcesses {
    fn stop(&self, vmm: &RunningVmm) -> io::Result<()> {
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
        Ok(pidfd_send_signal(find(vmm)?, Signal::CONT)?)
    }

    fn stands_still(&self, vmm: &RunningVmm) -> io::Result<bool> {
        let _process = find(vmm)?;
        has_stopped(vmm)
    }
}

/// Finds the process of a VMM. Its number may be somebody else's by now: a VMM works in its VM's directory.
fn find(vmm: &RunningVmm) -> io::Result<OwnedFd> {
    let pid = i32::try_from(vmm.pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let works_in = fs_err::read_link(format!("/proc/{}/cwd", vmm.pid))?;
    if works_in != fs_err::canonicalize(&vmm.directory)? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the VMM has ended"));
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
