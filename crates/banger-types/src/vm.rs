//! VMs: what is wanted of one, and what is shown of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guest::ListeningSocket;
use crate::guest::ShutdownAction;
use crate::monitor::Forward;
use crate::name::{ImageId, KernelId, VmId, VmName};
use crate::size::Mebibytes;

/// How a VM is connected to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Outward connections through a user-space network stack; needs no root.
    #[default]
    User,
    /// Addresses of its own in a network of the host's, with a name that the host resolves; needs the root helper.
    Nat,
    /// No network card. Sessions work all the same.
    None,
}

impl std::fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::User => "user",
            Self::Nat => "nat",
            Self::None => "none",
        })
    }
}

/// What runs a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Firecracker, with KVM.
    Firecracker,
    /// QEMU, with KVM or by emulation.
    Qemu,
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
        })
    }
}

/// What isolates a guest from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation in software.
    Tcg,
}

/// When a VM that has ended is started again without anybody asking. Nothing restarts a VM that a user has
/// stopped, until a user starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it has failed, or the host went down while it ran.
    OnFailure,
    /// Then, and when its guest has powered itself off.
    Always,
}

impl std::fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::No => "no",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        })
    }
}

/// What a client asks for in `POST /v1/vms`. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Its network; the best that the host is ready for when there is none.
    pub network: Option<NetworkMode>,
    /// Whether it reaches the host's own addresses by its network, but for the loopback.
    pub allow_host: bool,
    /// Whether its owner's other VMs are out of its reach, and it of theirs, where they have a network in common.
    pub no_peers: bool,
    /// Environment of its sessions, on top of the image's, as `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Ports of the host that lead into it.
    pub forwards: Vec<Forward>,
    /// Whether what listens in it gets a port of the host's 127.0.0.1 by itself; it does when nobody says.
    pub automatic_forwards: Option<bool>,
    /// Labels: what its owner wants to find it by. See [`check_label`].
    pub labels: BTreeMap<String, String>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Whether the image's entrypoint and command run in it from every boot on, supervised.
    pub service: bool,
    /// What runs it; the daemon chooses when there is none.
    pub engine: Option<EngineKind>,
    /// Whether it is left stopped.
    pub no_start: bool,
    /// Whether the daemon deletes it when the client that asked for it goes, or it ends.
    pub remove: bool,
}

/// Body of `PATCH /v1/vms/NAME`: what is named changes, the rest stays.
///
/// vCPUs, memory, disk, network and engine change only while the VM is stopped; the others at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VmSetRequest {
    /// Number of virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory.
    pub memory: Option<Mebibytes>,
    /// Size of the private disk; it can only grow. Its file system follows at the next start.
    pub disk: Option<Mebibytes>,
    /// What runs it. Its disk is the same under each.
    pub engine: Option<EngineKind>,
    /// When it is started again.
    pub restart: Option<RestartPolicy>,
    /// Whether what listens in it gets a port of the host's 127.0.0.1 by itself.
    pub automatic_forwards: Option<bool>,
    /// Its network.
    pub network: Option<NetworkMode>,
    /// Whether it reaches the host's own addresses by its network, but for the loopback, from the next start on.
    pub allow_host: Option<bool>,
    /// Whether its owner's other VMs are out of its reach, from the next start on.
    pub no_peers: Option<bool>,
    /// Labels to set, and with `null` to take away.
    pub labels: BTreeMap<String, Option<String>>,
}

/// Body of `POST /v1/vms/NAME/rename`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VmRenameRequest {
    /// The new name. The guest's host name follows at the next start.
    pub name: VmName,
}

/// Longest name of a label, bytes.
pub const LABEL_NAME_LIMIT: usize = 128;
/// Longest value of a label, bytes.
pub const LABEL_VALUE_LIMIT: usize = 4096;

/// Why something is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a label: {rule}")]
pub struct LabelError {
    /// The offending name, cut to 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Checks a label: a name of 1 to [`LABEL_NAME_LIMIT`] letters, digits, `.`, `_`, `-` and `/`, and a value of at
/// most [`LABEL_VALUE_LIMIT`] bytes without control characters.
pub fn check_label(name: &str, value: &str) -> Result<(), LabelError> {
    let error = |rule| LabelError { text: name.chars().take(80).collect(), rule };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if name.is_empty() || name.len() > LABEL_NAME_LIMIT || !name.bytes().all(good) {
        return Err(error("its name is 1 to 128 letters, digits, '.', '_', '-' and '/'"));
    }
    if value.len() > LABEL_VALUE_LIMIT || value.chars().any(char::is_control) {
        return Err(error("its value is at most 4096 bytes, without control characters"));
    }
    Ok(())
}

/// What is wanted of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Whether it reaches the host's own addresses by its network, but for the loopback.
    #[serde(default)]
    pub allow_host: bool,
    /// Whether its owner's other VMs are out of its reach, and it of theirs, where they have a network in common.
    #[serde(default)]
    pub no_peers: bool,
    /// Environment of its sessions, on top of the image's, as `NAME=VALUE`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Ports of the host that lead into it.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// Whether what listens in it gets a port of the host's 127.0.0.1 by itself.
    #[serde(default = "yes")]
    pub automatic_forwards: bool,
    /// Labels: what its owner wants to find it by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it is started again.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Whether the image's entrypoint and command run in it from every boot on, supervised.
    #[serde(default)]
    pub service: bool,
    /// What runs it.
    pub engine: EngineKind,
    /// Whether it is deleted when it ends.
    #[serde(default)]
    pub remove: bool,
}

const fn yes() -> bool {
    true
}

/// The state that is shown of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Running as far as its guest knows; its virtual CPUs stand still.
    Paused,
    /// Going down.
    Stopping,
    /// Ended in a way that nobody asked for.
    Failed,
    /// Being deleted.
    Deleting,
}

impl VmState {
    /// Returns whether there is a VMM in this state, or about to be.
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Stopping)
    }
}

impl std::fmt::Display for VmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        })
    }
}

/// What keeps a VMM from the rest of its host, so that whoever gets out of the guest has little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Isolation {
    /// A filter judges its system calls (`seccomp(2)`).
    pub system_calls: bool,
    /// It sees its own files alone (`landlock(7)`).
    pub files: bool,
    /// It is in a user namespace of its own (`user_namespaces(7)`).
    pub user_namespace: bool,
    /// It runs as a user that nobody else is, with a root directory of its own.
    #[serde(default)]
    pub own_user: bool,
    /// What it may take of the host is limited by a control group of its own (the kernel's `cgroup-v2`).
    #[serde(default)]
    pub limits: bool,
}

impl Isolation {
    /// Returns what there is of it, in words.
    pub fn describe(self) -> String {
        let Self { system_calls, files, user_namespace, own_user, limits } = self;
        let all = [
            (system_calls, "filtered system calls"),
            (files, "its own files alone"),
            (user_namespace, "a user namespace of its own"),
            (own_user, "a user of its own"),
            (limits, "limits of its own"),
        ];
        let has: Vec<&str> = all.iter().filter(|(has, _)| *has).map(|(_, what)| *what).collect();
        if has.is_empty() { "none beside the machine".to_owned() } else { has.join(", ") }
    }
}

/// A VM's addresses in a network of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VmAddresses {
    /// The name that the host resolves, and VMs of the same network.
    pub name: String,
    /// That of IPv4.
    pub v4: Ipv4Addr,
    /// That of IPv6, if there is one.
    pub v6: Option<Ipv6Addr>,
}

/// A VM as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// When its restart policy will start it again, while it waits for that.
    #[serde(default)]
    pub restart_at: Option<jiff::Timestamp>,
    /// What isolates it while it runs.
    pub accelerator: Option<Accelerator>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When its VMM was started, while it runs.
    pub started_at: Option<jiff::Timestamp>,
    /// Process id of its VMM, while it runs.
    pub vmm_pid: Option<u32>,
    /// What keeps its VMM from the rest of the host, while it runs; told by those who show it, and not by events.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// Its addresses in a network of the host's, while it runs in one.
    #[serde(default)]
    pub addresses: Option<VmAddresses>,
    /// Ports of the host that lead into it, while it runs.
    pub forwards: Vec<Forward>,
    /// Ports of the host's 127.0.0.1 that lead to what listens in it, and come and go with that.
    #[serde(default)]
    pub automatic_forwards: Vec<Forward>,
    /// Its TCP sockets that listen, as far as its kernel tells of them or somebody has asked.
    #[serde(default)]
    pub sockets: Vec<ListeningSocket>,
    /// Its directory on the host.
    pub directory: PathBuf,
    /// Blocks that its private disk takes on the host, bytes.
    pub disk_usage: u64,
    /// What its owner should know, in whole sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Vm {
    /// Returns what its network is, in words.
    pub fn describe_network(&self) -> String {
        let VmSpec { network, allow_host, no_peers, .. } = &self.spec;
        let mut shown = network.to_string();
        if *allow_host && *network != NetworkMode::None {
            shown.push_str(", and it reaches this host's own addresses");
        }
        if *no_peers && *network == NetworkMode::Nat {
            shown.push_str(", apart from your other VMs");
        }
        shown
    }

    /// Returns what runs it, and how, in words.
    pub fn describe_engine(&self) -> String {
        let engine = self.spec.engine;
        match self.accelerator {
            Some(Accelerator::Kvm) => format!("{engine} (hardware virtualisation)"),
            Some(Accelerator::Tcg) => format!("{engine} (emulation)"),
            None => engine.to_string(),
        }
    }

    /// Returns the forwards that are of interest: those in force, or those that it will have when it is started.
    pub fn shown_forwards(&self) -> &[Forward] {
        if self.forwards.is_empty() { &self.spec.forwards } else { &self.forwards }
    }
}

/// What a client needs to open a session: answer to `GET /v1/vms/NAME/session`.
///
/// Sessions go from the client to the monitor without the daemon, so that they live on when the
/// daemon does not.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// Answer to `GET /v1/ssh-config`: how OpenSSH's programs reach the VMs, as `NAME.banger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SshConfiguration {
    /// The file, which the daemon keeps up to date; for an `Include` line of `ssh_config(5)`.
    pub file: PathBuf,
    /// What is in it now.
    pub text: String,
}

/// Body of `POST /v1/vms/NAME/stop` and of `…/restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_plain_name_and_a_printable_value() {
        for (name, value) in [("a", ""), ("team/web.1_x-y", "ä b=c"), ("A", &"x".repeat(LABEL_VALUE_LIMIT))]
        {
            assert_eq!(check_label(name, value), Ok(()), "{name}");
        }
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a=b", ""), ("ä", ""), ("a", "x\n"), (&"a".repeat(129), "")]
        {
            assert!(check_label(name, value).is_err(), "{name}");
        }
    }
}
