//! The port through which engines reach the processes of their VMMs.
//!
//! Only `banger-host` reads `/proc` and sends signals.

use std::io;

use crate::engine::RunningVmm;

/// VMMs as processes. Each call fails when the VMM has ended, whatever else has its number by now.
pub trait Processes: Send + Sync {
    /// Stops all threads of a VMM, and with them its virtual CPUs. Blocks until they stand still.
    fn stop(&self, vmm: &RunningVmm) -> io::Result<()>;

    /// Lets them go on.
    fn go_on(&self, vmm: &RunningVmm) -> io::Result<()>;

    /// Returns whether all of them are stopped, by whomever.
    fn stands_still(&self, vmm: &RunningVmm) -> io::Result<bool>;
}
