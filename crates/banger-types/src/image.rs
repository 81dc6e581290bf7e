//! Images: root file systems, immutable once made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::guest::KernelFeature;
use crate::name::{ImageId, KernelId};

/// What an image says about how its programs want to run: the fields of the OCI image
/// configuration's `config` object (OCI image-spec, config.md, "Properties") that banger honours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ImageConfig {
    /// `User`: `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    pub user: String,
    /// `Env`: entries of the form `NAME=VALUE`.
    pub environment: Vec<String>,
    /// `WorkingDir`; empty is the user's home.
    pub working_directory: String,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub command: Vec<String>,
    /// `ExposedPorts`, as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `StopSignal`, as `SIGTERM`.
    pub stop_signal: Option<String>,
}

/// A layer of an image (OCI image-spec, layer.md), as it was when the image was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageLayer {
    /// Digest of the archive that it unpacks to (config.md, "Properties", `rootfs.diff_ids`).
    pub diff_id: Digest,
    /// Length of that archive, bytes.
    pub size: u64,
    /// Digest of what is stored where it came from, as `docker pull` shows it; none where only layers unpacked are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Length of what is stored there, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_size: Option<u64>,
    /// The command that made it, as far as the image says it (config.md, "Properties", `history`), printable and cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// An image as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its name, as users type it.
    pub name: String,
    /// Where it came from: `debian:bookworm`, `tar:/home/me/rootfs.tar`; the file itself of one that is used in place.
    pub source: String,
    /// Digest of what it was made from, as `sha256:…`; none of one that is used in place.
    pub digest: Option<String>,
    /// Size of the root file system, bytes.
    pub size: u64,
    /// Blocks that it takes on the host's disk, bytes.
    pub disk_usage: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// Its configuration.
    pub config: ImageConfig,
    /// The layers that it was made of, the lowest first; empty of one that was not made of layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<ImageLayer>,
    /// The name of the kernel of its VMs, unless another one is asked for: that of its entry in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What there is to know of a file that is used in place; none if banger has made the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegisteredRootfs>,
    /// What is wrong with it now, as a clause: its file is gone, or another one. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A root file system in a file of the user's own, which banger never writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisteredRootfs {
    /// The file as it was when it was looked at.
    pub file: RegisteredFile,
    /// What a kernel found in it.
    pub found: FoundRoot,
    /// The kernel that was registered with it: what its VMs boot unless told otherwise.
    pub kernel: Option<KernelId>,
}

/// A file of the user's own that is used where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisteredFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its size, bytes.
    pub size: u64,
    /// When it was last modified.
    pub modified: jiff::Timestamp,
}

/// A root file system as a guest's kernel found it on a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FoundRoot {
    /// Its kind.
    pub file_system: FileSystem,
    /// Number of the partition that holds it, from 1; none if it is the whole drive.
    pub partition: Option<u32>,
    /// Whether it was not unmounted in order, so that what its journal holds is not seen.
    pub unclean: bool,
    /// The init or shell that was found first, as an absolute path; none if it has neither.
    pub init: Option<String>,
    /// Whether that init is systemd.
    pub systemd: bool,
}

/// Kinds of file system that a root may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// ext4; ext2 and ext3 are mounted by the same driver.
    Ext4,
    /// squashfs.
    Squashfs,
    /// erofs.
    Erofs,
}

impl FileSystem {
    /// All, likeliest first.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Squashfs, Self::Erofs];

    /// Returns its name, as mount(2) takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The label by which an image says what its programs need of a kernel: names of features
/// ([`crate::guest::KernelFeature::name`]), with commas between them.
pub const NEEDS_LABEL: &str = "banger.needs";

impl ImageLayer {
    /// Returns the first digits of its digest where it came from, or else of what it unpacks to: as many as tell layers apart.
    pub fn short_digest(&self) -> String {
        let mut digits = self.digest.unwrap_or(self.diff_id).digits();
        digits.truncate(12);
        digits
    }
}

impl Image {
    /// Returns what its VMs need of a kernel beyond what all need: for its file system, and for its programs, as it says itself.
    /// What it names and nobody knows is left out.
    pub fn needs(&self) -> Vec<KernelFeature> {
        let of_file_system =
            self.registered.as_ref().and_then(|registered| match registered.found.file_system {
                FileSystem::Ext4 => None,
                FileSystem::Squashfs => Some(KernelFeature::Squashfs),
                FileSystem::Erofs => Some(KernelFeature::Erofs),
            });
        let label = self.config.labels.get(NEEDS_LABEL).map_or("", String::as_str);
        let named = label.split(',').filter_map(|name| KernelFeature::from_name(name.trim()));
        of_file_system.into_iter().chain(named).collect()
    }

    /// Returns the name of an image after a new version of it has taken its own: `debian@0123456789ab`.
    pub fn version_name(&self) -> String {
        format!("{}@{}", self.name, self.id)
    }
}
