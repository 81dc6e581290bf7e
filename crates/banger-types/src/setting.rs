//! Settings as they are in force, and where each comes from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Setting {
    /// Its name, as `vm.memory`: the table and the key of the configuration file. A variable's own name of what only the
    /// environment says.
    pub name: String,
    /// Its value, as it is written in the configuration file.
    pub value: String,
    /// What it is for, on one line.
    pub meaning: String,
    /// Who says so.
    pub origin: SettingOrigin,
    /// What it becomes when the daemon is started anew, if the file has changed since its start; empty is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_restart: Option<String>,
}

/// Who says what a setting is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "from", content = "where")]
pub enum SettingOrigin {
    /// Nobody: it is what it is when nobody says.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable of the daemon's, by its name.
    Environment(String),
}

impl std::fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "{name} of the environment"),
        }
    }
}
