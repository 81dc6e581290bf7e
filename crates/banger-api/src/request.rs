//! Bodies and queries of requests that belong to the API alone.

use std::path::PathBuf;

use banger_types::address::HostPort;
use banger_types::digest::Digest;
use banger_types::vm::EngineKind;
use serde::{Deserialize, Serialize};

/// The path of a file: absolute, and with a name at its end that can be printed.
#[cfg(feature = "schema")]
const FILE: &str = "^/([ -~]*/)?[ -~]*[!-.0-~]$";

/// Body of `POST /v1/images` and `POST /v1/kernels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// A name of the catalog, or a source: `debian:bookworm`, `tar:/home/me/rootfs.tar`.
    pub source: String,
    /// The name to give it; the source when there is none.
    pub name: Option<String>,
}

/// Body of `POST /v1/registered-images`: files that are used where they are. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// The root file system: ext4, squashfs or erofs, or a raw disk with a partition that is one of them.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = FILE)))]
    pub rootfs: PathBuf,
    /// The kernel that its VMs boot: a bzImage or an ELF file. The default kernel when there is none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = FILE)))]
    pub kernel: Option<PathBuf>,
    /// An initramfs with the kernel's modules, for one that has not all that is needed built in.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = FILE)))]
    pub initrd: Option<PathBuf>,
    /// The name to give it; the file's own without its extension when there is none.
    #[serde(default)]
    pub name: Option<String>,
}

/// Body of `POST /v1/registered-kernels`. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KernelRegisterRequest {
    /// The kernel: a bzImage or an ELF file.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = FILE)))]
    pub kernel: PathBuf,
    /// An initramfs with its modules, for one that has not all that is needed built in.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = FILE)))]
    pub initrd: Option<PathBuf>,
    /// The name to give it; the file's own when there is none.
    #[serde(default)]
    pub name: Option<String>,
}

/// Body of `POST /v1/engines`: an address and a digest, or neither for the release that the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EngineInstallRequest {
    /// Which one.
    pub engine: EngineKind,
    /// Address of an archive of a release of it.
    pub url: Option<String>,
    /// The digest of that archive.
    pub digest: Option<Digest>,
}

/// Query of lists that come in parts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct PageQuery {
    /// Most items that are wanted, 1 to 1000; 100 when there is none.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub limit: Option<u32>,
    /// The id of the item that they come after.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{12}$")))]
    pub after: Option<String>,
}

/// Query of `GET /v1/events`. Each condition that is given has to be met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct EventQuery {
    /// What they are about: `operation`, `vm`, `image` or `kernel`, or several of them with commas in between.
    pub kind: Option<String>,
    /// Name or id of a VM: events of it, and of operations on it.
    pub vm: Option<String>,
    /// Id of an operation.
    pub operation: Option<String>,
    /// Whether to begin with what there is: an event for each, then `current`. What is named has to be there then.
    pub current: bool,
    /// Id of an event: those after it are told first. The header `Last-Event-ID` goes before it.
    pub after: Option<String>,
}

/// Query of changes of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ChangeQuery {
    /// The VM's generation when whoever asks last looked at it; if it has another by now, nothing is changed.
    pub generation: Option<u64>,
}

/// Query of `DELETE /v1/vms/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DeleteQuery {
    /// Whether a running VM is killed first; otherwise it is a conflict.
    pub force: bool,
}

/// Query of `DELETE /v1/vms/NAME/forwards`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForwardQuery {
    /// Where the forward listens that is to end, as `127.0.0.1:8080` or `127.0.0.1:53/udp`.
    pub listen: HostPort,
}

/// Which of a VM's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// What the guest printed on its serial console.
    #[default]
    Serial,
    /// The beginning of what the guest printed since it was last booted.
    Boot,
    /// What the VMM and its helpers printed.
    Engine,
    /// The monitor's own words.
    Monitor,
}

/// Query of `GET /v1/vms/NAME/logs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LogQuery {
    /// Which log.
    pub kind: LogKind,
    /// Whether the answer goes on with what is written later, until the VM is deleted.
    pub follow: bool,
    /// How many of the last lines to begin with; all when there is none.
    pub lines: Option<u64>,
}
