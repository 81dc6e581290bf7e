//! Kernels: a bootable kernel with its modules and its initramfs, independent of any image.

use serde::{Deserialize, Serialize};

use crate::name::KernelId;

/// A kernel as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its id.
    pub id: KernelId,
    /// Its name, as users type it.
    pub name: String,
    /// Where it came from: `debian:bookworm`.
    pub source: String,
    /// Its release, as `uname -r` prints it in a guest.
    pub release: String,
    /// The package's version.
    pub version: String,
    /// Blocks that it takes on the host's disk, bytes.
    pub disk_usage: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
}
