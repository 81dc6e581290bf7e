//! What the daemon says about itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::helper::HelperReadiness;

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
}
