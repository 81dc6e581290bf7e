//! What an operation is about to do, written down before it is done.
//!
//! Each [`Step`] can be undone whether it was done, half done or not begun, so that an operation
//! that ends early, by an error, a cancel or the daemon's death, is unwound by undoing its steps in
//! reverse.

use banger_types::{ImageId, KernelId, VmId};
use serde::{Deserialize, Serialize};

/// A step that leaves something behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The VM's name is taken. Undo: the row goes.
    ReserveVm(VmId),
    /// The VM's directory with its disk and keys. Undo: the directory goes.
    MakeVmDirectory(VmId),
    /// The image's directory. Undo: the directory goes.
    MakeImageDirectory(ImageId),
    /// What this image is made of, in the store of who builds its Dockerfile. Undo: it is forgotten there.
    BuildDockerfile(ImageId),
    /// The kernel's directory. Undo: the directory goes.
    MakeKernelDirectory(KernelId),
}
