//! Events: what has changed, as the daemon tells whoever listens.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::Image;
use crate::kernel::Kernel;
use crate::operation::Operation;
use crate::vm::Vm;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Where it stands in the order of events: what a client names to be told of those after it.
    pub id: String,
    /// When it happened.
    pub at: jiff::Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub change: Change,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// An operation was begun, or has changed.
    Operation {
        /// It, as it is now.
        operation: Box<Operation>,
    },
    /// A VM was made, or has changed.
    Vm {
        /// It, as it is now.
        vm: Box<Vm>,
    },
    /// A VM is gone.
    VmDeleted {
        /// What it was.
        gone: Gone,
    },
    /// An image was made, or has another name.
    Image {
        /// It, as it is now.
        image: Box<Image>,
    },
    /// An image is gone.
    ImageDeleted {
        /// What it was.
        gone: Gone,
    },
    /// A kernel was made, or made anew.
    Kernel {
        /// It, as it is now.
        kernel: Box<Kernel>,
    },
    /// A kernel is gone.
    KernelDeleted {
        /// What it was.
        gone: Gone,
    },
    /// Everything that was asked for has been told as it was when the stream began; what follows are changes.
    Current,
    /// Events were lost: the client was too slow, or asks for some that are no longer kept. Whatever it knows may be old.
    Missed,
}

/// Something that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gone {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Operations.
    Operation,
    /// VMs.
    Vm,
    /// Images.
    Image,
    /// Kernels.
    Kernel,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Operation, Self::Vm, Self::Image, Self::Kernel];

    /// Returns its name, as in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Vm => "vm",
            Self::Image => "image",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Change {
    /// Returns what it is about; nothing for what every client is told.
    pub const fn kind(&self) -> Option<EventKind> {
        match self {
            Self::Operation { .. } => Some(EventKind::Operation),
            Self::Vm { .. } | Self::VmDeleted { .. } => Some(EventKind::Vm),
            Self::Image { .. } | Self::ImageDeleted { .. } => Some(EventKind::Image),
            Self::Kernel { .. } | Self::KernelDeleted { .. } => Some(EventKind::Kernel),
            Self::Current | Self::Missed => None,
        }
    }

    /// Returns the name of the kind of change, as it is written.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Operation { .. } => "operation",
            Self::Vm { .. } => "vm",
            Self::VmDeleted { .. } => "vm_deleted",
            Self::Image { .. } => "image",
            Self::ImageDeleted { .. } => "image_deleted",
            Self::Kernel { .. } => "kernel",
            Self::KernelDeleted { .. } => "kernel_deleted",
            Self::Current => "current",
            Self::Missed => "missed",
        }
    }
}
