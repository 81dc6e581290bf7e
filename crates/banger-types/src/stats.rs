//! What a VM takes, from inside and from outside.

use serde::{Deserialize, Serialize};

use crate::guest::GuestStats;
use crate::name::{VmId, VmName};

/// What a VM takes at one moment. What grows, grows from the VM's or the process's start on: two of these tell a rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VmStats {
    /// The VM's id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// When that was.
    pub at: jiff::Timestamp,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// What the guest says of itself; nothing while it does not run or does not answer.
    pub guest: Option<GuestStats>,
    /// What the host says of its processes; nothing while there are none.
    pub host: Option<HostUsage>,
    /// Blocks that its private disk takes on the host, bytes.
    pub disk_allocated: u64,
}

/// What a VM's processes take of the host: its monitor, its VMM and their helpers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostUsage {
    /// How many they are.
    pub processes: u32,
    /// Processor time that they have had, milliseconds.
    pub cpu_ms: u64,
    /// Memory, with what is shared divided among those who share it (`Pss` of `/proc/PID/smaps_rollup`), bytes.
    pub pss: u64,
    /// Of how many of them the memory cannot be told: those that run as somebody else.
    pub untold: u32,
}
