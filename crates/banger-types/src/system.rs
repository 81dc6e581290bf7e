//! What the daemon says about itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::helper::HelperReadiness;
use crate::web::WebConsole;

/// Answer to `GET /v1/system`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SystemStatus {
    /// Version of `bangerd`.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its socket.
    pub socket: PathBuf,
    /// Its data directory.
    pub data_directory: PathBuf,
    /// Its log file.
    pub log: PathBuf,
    /// The engine that new VMs get, and why.
    pub engine: String,
    /// Whether the root helper can be asked, which gives VMs addresses of their own.
    pub helper: HelperReadiness,
    /// How many VMs there are.
    pub vms: u64,
    /// How many of them run.
    pub vms_running: u64,
    /// Directories of VMs that the database does not know, each with a disk: left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_vms: Vec<PathBuf>,
    /// How many images there are.
    pub images: u64,
    /// How many kernels there are.
    pub kernels: u64,
    /// When it was started.
    pub started_at: jiff::Timestamp,
    /// Its web console, unless that is off.
    #[serde(default)]
    pub web: Option<WebConsole>,
}

/// Answer to `GET /v1/system/resources`: what the host has, what of it is used, and what VMs may come to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostResources {
    /// Number of processors that the daemon may use.
    pub processors: u32,
    /// Processes that have run or wanted to, on the average of the last minute, in hundredths (`proc_loadavg(5)`).
    pub load_hundredths: Option<u32>,
    /// Virtual CPUs of VMs that are alive.
    pub vcpus_promised: u64,
    /// The host's memory, bytes.
    pub memory_total: Option<u64>,
    /// Memory that programs could still get, bytes (`MemAvailable` of `proc_meminfo(5)`).
    pub memory_available: Option<u64>,
    /// Memory of VMs that are alive, bytes. They take it as they need it.
    pub memory_promised: u64,
    /// The file system of the data directory, bytes.
    pub disk_total: Option<u64>,
    /// What the user may still write to it, bytes.
    pub disk_available: Option<u64>,
    /// What the disks of all VMs may come to take, bytes.
    pub disk_promised: u64,
    /// What they take now, bytes.
    pub disk_taken: u64,
}
