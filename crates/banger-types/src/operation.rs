//! Operations: long pieces of work with progress, a result and a cancel.

use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::name::OperationId;
use crate::vm::VmStopRequest;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Make a kernel.
    KernelPull,
    /// Make a kernel of files that stay where they are.
    KernelRegister,
    /// Download and install an engine.
    EngineInstall,
}

impl OperationKind {
    /// Returns whether a daemon that ends undoes an unfinished operation of this kind. The others
    /// concern VMs that go on without the daemon.
    pub const fn is_undone_at_shutdown(self) -> bool {
        matches!(
            self,
            Self::ImagePull
                | Self::ImageRegister
                | Self::KernelPull
                | Self::KernelRegister
                | Self::EngineInstall
        )
    }

    /// Returns whether an operation of this kind is a way out of a full disk.
    pub const fn makes_room(self) -> bool {
        matches!(self, Self::VmStop | Self::VmKill | Self::VmDelete | Self::VmTrim)
    }
}

/// Where an operation stands. Only the first is not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// Under way.
    Running,
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
        !matches!(self, Self::Running)
    }
}

/// What `done` and `total` of a [`Progress`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nothing that can be counted.
    None,
}

/// How far the present phase is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The phase, for people: "image: unpack packages".
    pub stage: String,
    /// How much is done, in `unit`s.
    pub done: u64,
    /// Of how much, when that is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// A phase that has ended, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedPhase {
    /// The phase, for people.
    pub stage: String,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

/// An operation as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// To what: the VM's, image's, kernel's or engine's name.
    pub subject: String,
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
    /// Why it failed.
    pub error: Option<ApiError>,
    /// When it began.
    pub created_at: jiff::Timestamp,
    /// When it last changed.
    pub updated_at: jiff::Timestamp,
}
