//! Engines as the daemon shows them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vm::EngineKind;

/// An engine, as it is on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EngineStatus {
    /// Which one.
    pub kind: EngineKind,
    /// Its program, when that can be run.
    pub program: Option<PathBuf>,
    /// Its version, as it prints it.
    pub version: Option<String>,
    /// Why it cannot be run.
    pub problem: Option<String>,
    /// What can be done about that.
    pub fix: Option<String>,
}
