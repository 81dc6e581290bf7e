//! A Firecracker that runs, as a process.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use banger_core::engine::{EngineError, RunningVmm};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long its threads may take to stop, which they do as soon as they are in the kernel.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at. Only its parent is told of it.
const LOOK: Duration = Duration::from_millis(1);

/// The process of a VMM.
pub(super) struct Process<'a> {
    vmm: &'a RunningVmm,
    descriptor: OwnedFd,
}

impl<'a> Process<'a> {
    /// Finds it. Its number may be somebody else's by now: a VMM works in its VM's directory.
    pub(super) fn of(vmm: &'a RunningVmm) -> Result<Self, EngineError> {
        let find = || {
            let pid = i32::try_from(vmm.pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or(io::ErrorKind::NotFound)?;
            let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
            let works_in = fs_err::read_link(format!("/proc/{}/cwd", vmm.pid))?;
            if works_in != fs_err::canonicalize(&vmm.directory)? {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the VMM has ended"));
            }
            Ok(descriptor)
        };
        let descriptor = find().map_err(|error| control(vmm, error))?;
        Ok(Self { vmm, descriptor })
    }

    /// Stops all of its threads, and with them the virtual CPUs. Returns when they stand still.
    pub(super) fn stop(&self) -> Result<(), EngineError> {
        self.signal(Signal::STOP)?;
        let end = Instant::now() + STOP_LIMIT;
        while !self.stands_still()? {
            if Instant::now() >= end {
                self.go_on()?;
                return Err(control(self.vmm, io::Error::from(io::ErrorKind::TimedOut)));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn go_on(&self) -> Result<(), EngineError> {
        self.signal(Signal::CONT)
    }

    /// Whether all of its threads are stopped (proc(5), `/proc/PID/task/TID/stat`, field 3).
    pub(super) fn stands_still(&self) -> Result<bool, EngineError> {
        let look = || {
            for thread in fs_err::read_dir(format!("/proc/{}/task", self.vmm.pid))? {
                let stat = fs_err::read_to_string(thread?.path().join("stat"))?;
                // The name may have blanks and brackets of its own.
                let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
                if state != Some('T') {
                    return Ok(false);
                }
            }
            Ok::<_, io::Error>(true)
        };
        look().map_err(|error| control(self.vmm, error))
    }

    fn signal(&self, signal: Signal) -> Result<(), EngineError> {
        pidfd_send_signal(&self.descriptor, signal).map_err(|error| control(self.vmm, error.into()))
    }
}

fn control(vmm: &RunningVmm, error: io::Error) -> EngineError {
    EngineError::Control { directory: vmm.directory.clone(), source: error.into() }
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
        let process = Process::of(&vmm).unwrap();
        assert!(!process.stands_still().unwrap());
        process.stop().unwrap();
        assert!(process.stands_still().unwrap());
        process.go_on().unwrap();
        assert!(!process.stands_still().unwrap());
        // A number that is another's by now is not touched.
        let other = RunningVmm { directory: "/proc".into(), ..vmm };
        assert!(Process::of(&other).is_err());
    }
}
