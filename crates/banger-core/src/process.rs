//! Processes: which one is meant, and the port through which engines reach those of their VMMs.
//!
//! Only `banger-host` reads `/proc` and sends signals.

use std::io;

use serde::{Deserialize, Serialize};

use crate::engine::RunningVmm;

/// A process, told apart from a later one with the same number by when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

/// VMMs as processes. Each call fails when the VMM has ended, whatever else has its number by now.
pub trait Processes: Send + Sync {
    /// Stops all threads of a VMM, and with them its virtual CPUs. Blocks until they stand still.
    fn stop(&self, vmm: &RunningVmm) -> io::Result<()>;

    /// Lets them go on.
    fn go_on(&self, vmm: &RunningVmm) -> io::Result<()>;

    /// Returns whether all of them are stopped, by whomever.
    fn stands_still(&self, vmm: &RunningVmm) -> io::Result<bool>;
}
