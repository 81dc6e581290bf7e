//! Operations: long pieces of work with progress, a result and a cancel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ApiError;
use crate::name::OperationId;
use crate::space::Pruned;
use crate::vm::VmStopRequest;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Make (and boot) a VM.
    VmCreate,
    /// Boot a VM.
    VmStart,
    /// Stop a VM.
    VmStop,
    /// End a VM at once.
    VmKill,
    /// Stop a VM and boot it again.
    VmRestart,
    /// Make a VM's virtual CPUs stand still.
    VmPause,
    /// Let them go on.
    VmResume,
    /// Give the blocks of a VM's disk back that its guest does not use.
    VmTrim,
    /// Delete a VM.
    VmDelete,
    /// Make an image.
    ImagePull,
    /// Make an image of files that stay where they are.
    ImageRegister,
    /// Delete an image.
    ImageDelete,
    /// Make a kernel.
    KernelPull,
    /// Make a kernel of files that stay where they are.
    KernelRegister,
    /// Delete a kernel.
    KernelDelete,
    /// Download and install an engine.
    EngineInstall,
    /// Take away what nobody uses.
    Prune,
}

impl OperationKind {
    /// Returns what they do, in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::VmCreate => "create VM",
            Self::VmStart => "start VM",
            Self::VmStop => "stop VM",
            Self::VmKill => "kill VM",
            Self::VmRestart => "restart VM",
            Self::VmPause => "pause VM",
            Self::VmResume => "resume VM",
            Self::VmTrim => "trim VM",
            Self::VmDelete => "delete VM",
            Self::ImagePull => "pull image",
            Self::ImageRegister => "register image",
            Self::ImageDelete => "delete image",
            Self::KernelPull => "pull kernel",
            Self::KernelRegister => "register kernel",
            Self::KernelDelete => "delete kernel",
            Self::EngineInstall => "install engine",
            Self::Prune => "prune",
        }
    }

    /// Returns whether operations of this kind wait for others to end when many run: those that load the host with more
    /// than one VM. A request to a VM that exists has its order from that VM, and never waits for a download.
    pub const fn takes_turns(self) -> bool {
        matches!(
            self,
            Self::VmCreate
                | Self::ImagePull
                | Self::ImageRegister
                | Self::KernelPull
                | Self::KernelRegister
                | Self::EngineInstall
        )
    }

    /// Returns whether the subject of an operation of this kind is a VM.
    pub const fn is_of_vm(self) -> bool {
        match self {
            Self::VmCreate
            | Self::VmStart
            | Self::VmStop
            | Self::VmKill
            | Self::VmRestart
            | Self::VmPause
            | Self::VmResume
            | Self::VmTrim
            | Self::VmDelete => true,
            Self::ImagePull
            | Self::ImageRegister
            | Self::ImageDelete
            | Self::KernelPull
            | Self::KernelRegister
            | Self::KernelDelete
            | Self::EngineInstall
            | Self::Prune => false,
        }
    }

    /// Returns whether an operation of this kind is a way out of a full disk.
    pub const fn makes_room(self) -> bool {
        matches!(
            self,
            Self::VmStop
                | Self::VmKill
                | Self::VmDelete
                | Self::VmTrim
                | Self::ImageDelete
                | Self::KernelDelete
                | Self::Prune
        )
    }
}

/// Where an operation stands. The first three are not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Remembered, and waiting for others to end.
    Pending,
    /// Under way.
    Running,
    /// Somebody cancelled it; what it had begun is being undone.
    Cancelling,
    /// Done.
    Succeeded,
    /// Not done; what it had begun is undone.
    Failed,
    /// Stopped by a user; what it had begun is undone.
    Cancelled,
}

impl OperationStatus {
    /// Returns whether the operation has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for OperationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What `done` and `total` of a [`Progress`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nothing that can be counted.
    None,
}

/// How far the present phase is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// The phase, for people: "image: unpack packages".
    pub stage: String,
    /// How much is done, in `unit`s.
    pub done: u64,
    /// Of how much, when that is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// How quickly, in `unit`s a second, over the last few seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// How long the phase goes on if it goes on like that, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// What of it goes on side by side, as layers that are downloaded do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<ProgressPart>,
}

impl Progress {
    /// Returns the beginning of a phase.
    pub fn of(stage: impl Into<String>) -> Self {
        Self {
            stage: stage.into(),
            done: 0,
            total: None,
            unit: Unit::None,
            rate: None,
            remaining_ms: None,
            parts: Vec::new(),
        }
    }
}

/// How far one of several things is that go on side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressPart {
    /// What it is, for people: the beginning of a layer's digest.
    pub name: String,
    /// How much is done, bytes.
    pub done: u64,
    /// Of how much, bytes, when that is known.
    pub total: Option<u64>,
}

/// A phase that has ended, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FinishedPhase {
    /// The phase, for people.
    pub stage: String,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

/// Who asked for an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Asker {
    /// The program, as it names itself (RFC 9110 section 10.1.5), or `bangerd`, which keeps to a VM's restart policy and the like.
    pub program: String,
    /// Its process, if the daemon can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// What makes a request the same as an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RequestKey {
    /// The header `Idempotency-Key`.
    pub key: String,
    /// Digest of the method, the address and the body.
    pub digest: Digest,
}

/// What an operation has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Product {
    /// Id of the VM, image or kernel; nothing for an engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
}

/// An operation as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// To what: the VM's, image's, kernel's or engine's name; `images` or `everything` of one that prunes.
    pub subject: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Asker>,
    /// What it was asked with, if whoever asked gave a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestKey>,
    /// How the guest is to be stopped, by an operation that stops it. Another daemon may have to go on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<VmStopRequest>,
    /// Where it stands.
    pub status: OperationStatus,
    /// The present phase; the last one of an operation that has ended.
    pub progress: Option<Progress>,
    /// Phases that have ended, oldest first.
    pub finished_phases: Vec<FinishedPhase>,
    /// Whether a cancel would be taken now.
    pub may_cancel: bool,
    /// What whoever asked should know, in whole sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What it has made, if it makes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Product>,
    /// What it has taken away so far, if it prunes. Nothing of that comes back with a cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// Why it failed.
    pub error: Option<ApiError>,
    /// When it began.
    pub created_at: jiff::Timestamp,
    /// When it last changed.
    pub updated_at: jiff::Timestamp,
}
