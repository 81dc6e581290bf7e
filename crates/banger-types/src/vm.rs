//! VMs: what is wanted of one, and what is shown of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guest::ShutdownAction;
use crate::monitor::Forward;
use crate::name::{ImageId, KernelId, VmId, VmName};
use crate::size::Mebibytes;

/// How a VM is connected to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Outward connections through a user-space network stack; needs no root.
    #[default]
    User,
    /// No network card. Sessions work all the same.
    None,
}

/// What runs a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// QEMU.
    Qemu,
}

/// What isolates a guest from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation in software.
    Tcg,
}

/// What a client asks for in `POST /v1/vms`. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct VmCreateRequest {
    /// Its name; one is made up when there is none.
    pub name: Option<VmName>,
    /// Name or source of the image; the default image when there is none.
    pub image: Option<String>,
    /// Name or source of the kernel; the default kernel when there is none.
    pub kernel: Option<String>,
    /// Number of virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory.
    pub memory: Option<Mebibytes>,
    /// Size of the private disk.
    pub disk: Option<Mebibytes>,
    /// Its network.
    pub network: NetworkMode,
    /// Environment of its sessions, on top of the image's, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Ports of the host that lead into it.
    pub forwards: Vec<Forward>,
    /// Whether it is left stopped.
    pub no_start: bool,
    /// Whether the daemon deletes it when the client that holds its lease goes, or it ends.
    pub remove: bool,
}

/// What is wanted of a VM: fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// The image it is made from.
    pub image: ImageId,
    /// The image's name when it was made.
    pub image_name: String,
    /// The kernel it boots.
    pub kernel: KernelId,
    /// The kernel's name when it was made.
    pub kernel_name: String,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// Size of the private disk.
    pub disk: Mebibytes,
    /// Its network.
    pub network: NetworkMode,
    /// Environment of its sessions, on top of the image's, as `NAME=VALUE`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Ports of the host that lead into it.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// What runs it.
    pub engine: EngineKind,
    /// Whether it is deleted when it ends.
    #[serde(default)]
    pub remove: bool,
}

/// The state that is shown of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// Being made.
    Creating,
    /// Not running.
    Stopped,
    /// Booting, not yet serving sessions.
    Starting,
    /// Running and serving sessions.
    Running,
    /// Going down.
    Stopping,
    /// Ended in a way that nobody asked for.
    Failed,
    /// Being deleted.
    Deleting,
}

impl std::fmt::Display for VmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        })
    }
}

/// A VM as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// Its state.
    pub state: VmState,
    /// Counts changes of state; a client that has seen a larger one ignores this.
    pub generation: u64,
    /// Why it is in this state, when that needs a word.
    pub reason: Option<String>,
    /// What was wanted of it.
    pub spec: VmSpec,
    /// What isolates it while it runs.
    pub accelerator: Option<Accelerator>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When its VMM was started, while it runs.
    pub started_at: Option<jiff::Timestamp>,
    /// Process id of its VMM, while it runs.
    pub vmm_pid: Option<u32>,
    /// Ports of the host that lead into it, while it runs.
    pub forwards: Vec<Forward>,
    /// Its directory on the host.
    pub directory: PathBuf,
    /// Blocks that its private disk takes on the host, bytes.
    pub disk_usage: u64,
}

/// What a client needs to open a session: answer to `GET /v1/vms/NAME/session`.
///
/// Sessions go from the client to the monitor without the daemon, so that they live on when the
/// daemon does not.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionTarget {
    /// The VM's id.
    pub id: VmId,
    /// The VM's name.
    pub name: VmName,
    /// The monitor's socket.
    pub monitor_socket: PathBuf,
    /// File with the client's private key, OpenSSH's PEM form, mode 0600.
    pub identity_file: PathBuf,
    /// The server's public key, as in `known_hosts` (type and base64).
    pub host_public_key: String,
    /// The user to log in as when the client names none.
    pub default_user: String,
}

impl std::fmt::Debug for SessionTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionTarget").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Body of `POST /v1/vms/NAME/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStopRequest {
    /// How long the guest may take before it is killed, milliseconds.
    pub timeout_ms: u64,
    /// What is asked of the guest.
    pub action: ShutdownAction,
}

impl Default for VmStopRequest {
    fn default() -> Self {
        Self { timeout_ms: 30_000, action: ShutdownAction::Poweroff }
    }
}
