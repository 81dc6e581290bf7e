//! Kernels: a bootable kernel with its modules and its initramfs, independent of any image.

use serde::{Deserialize, Serialize};

use crate::guest::KernelFeature;
use crate::image::RegisteredFile;
use crate::name::KernelId;

/// A kernel as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Kernel {
    /// Its id.
    pub id: KernelId,
    /// Its name, as users type it.
    pub name: String,
    /// Where it came from: `debian:bookworm`; the file itself of one that is used in place.
    pub source: String,
    /// Its release, as `uname -r` prints it in a guest.
    pub release: String,
    /// The package's version.
    pub version: String,
    /// Blocks that it takes on the host's disk, bytes.
    pub disk_usage: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// What it can do, with its modules; empty where that is not known, as for one that an older version has made.
    #[serde(default)]
    pub features: Vec<KernelFeature>,
    /// The files of one that is used in place; none if banger has got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegisteredKernel>,
    /// What is wrong with it now, as a clause: its file is gone, or another one. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A kernel in files of the user's own, which banger never writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisteredKernel {
    /// The kernel: a bzImage or an ELF file.
    pub kernel: RegisteredFile,
    /// The initramfs that its modules were taken from. It is needed again only when the bundle is made anew: when the kernel
    /// has changed, or another version of banger makes bundles otherwise.
    pub initrd: Option<RegisteredFile>,
}

impl Kernel {
    /// Returns whether it may have a feature: it has it, or nothing is known of it.
    pub fn may_have(&self, feature: KernelFeature) -> bool {
        self.features.is_empty() || self.features.contains(&feature)
    }

    /// Returns the name of a kernel after a new version of it has taken its own: `mine@0123456789ab`.
    pub fn version_name(&self) -> String {
        format!("{}@{}", self.name, self.id)
    }
}
