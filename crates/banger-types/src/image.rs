//! Images: root file systems, immutable once made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::ImageId;

/// What an image says about how its programs want to run: the fields of the OCI image
/// configuration's `config` object (OCI image-spec, config.md, "Properties") that banger honours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// An image as the daemon shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its name, as users type it.
    pub name: String,
    /// Where it came from: `debian:bookworm`, `tar:/home/me/rootfs.tar`.
    pub source: String,
    /// Digest of what it was made from, as `sha256:…`.
    pub digest: String,
    /// Size of the root file system, bytes.
    pub size: u64,
    /// Blocks that it takes on the host's disk, bytes.
    pub disk_usage: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// Its configuration.
    pub config: ImageConfig,
}

impl Image {
    /// Returns the name of an image after a new version of it has taken its own: `debian@0123456789ab`.
    pub fn version_name(&self) -> String {
        format!("{}@{}", self.name, self.id)
    }
}
