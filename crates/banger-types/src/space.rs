//! What takes space in the data directory, and what of it may go.

use serde::{Deserialize, Serialize};

/// Kinds of things that take space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SpaceKind {
    /// Root file systems.
    Image,
    /// Kernels with their modules.
    Kernel,
    /// VMs: their disks above all.
    Vm,
    /// Layers of images as they came, kept for the next pull.
    Layer,
    /// Engines that banger has installed.
    Engine,
    /// What can be downloaded or made again: package lists, catalogs, what has come of a download, templates of disks.
    Cache,
    /// The database, logs, and what is being made.
    Own,
}

/// One thing that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpaceItem {
    /// What it is.
    pub kind: SpaceKind,
    /// Its name.
    pub name: String,
    /// Its id, of an image or a kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Blocks that it takes, bytes. What several share counts for the first of them.
    pub bytes: u64,
    /// The VMs that use it.
    pub used_by: Vec<String>,
    /// Whether `banger system prune --all` takes it away.
    pub may_go: bool,
}

/// Answer to `GET /v1/system/space`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SpaceUsage {
    /// Everything that takes space, by kind and name.
    pub items: Vec<SpaceItem>,
    /// All of them, bytes: what du(1) says of the data directory.
    pub total: u64,
    /// What is free on its file system, bytes.
    pub available: u64,
}

/// What may be taken away, and query of `GET /v1/system/prune`. Nothing that is in use goes, whatever is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PruneRules {
    /// Images and the layers of images alone.
    pub images_only: bool,
    /// Whatever nobody uses, and not only what has been superseded or has not been used for long.
    pub all: bool,
    /// Nothing that is younger, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u64>,
    /// How many of the newest versions of each image and kernel stay.
    pub keep: usize,
}

/// Body of `POST /v1/system/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PruneRequest {
    /// What may go.
    pub rules: PruneRules,
    /// Nothing but this: what somebody was shown, who has then agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<SpaceName>>,
}

/// What one thing is called that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SpaceName {
    /// Its kind.
    pub kind: SpaceKind,
    /// Its name, of which there is one of each kind.
    pub name: String,
    /// Its id, if it has one: another thing may have its name by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What of it is gone, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pruned {
    /// The things, in the order in which they go.
    pub items: Vec<SpaceItem>,
    /// The space that it took, bytes.
    pub bytes: u64,
    /// What was left alone and why, as sentences without a full stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
