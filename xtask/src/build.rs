//! Building banger's programs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, run};
use crate::terminal;

/// The target of every program: see `.cargo/config.toml`.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build; what the tests run.
    Development,
    /// Optimised; what users run.
    Release,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Development => "debug",
            Self::Release => "release",
        }
    }
}

/// The packages whose programs users get.
const PRODUCT: [&str; 7] =
    ["banger", "bangerd", "banger-engine", "banger-guest", "banger-helper", "banger-monitor", "banger-net"];

/// Builds every program (for development, the tests' own too) and returns the directory that holds
/// them.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--bins"]);
    match profile {
        Profile::Development => build.args(["--workspace", "--exclude", "xtask"]),
        Profile::Release => build.arg("--release").args(PRODUCT.iter().flat_map(|name| ["--package", *name])),
    };
    run(&mut build)?;
    let programs = target_directory()?.join(TARGET).join(profile.directory());
    terminal::fetch(&programs);
    Ok(programs)
}

/// Returns the directory of everything that is built.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let directory = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(PathBuf::from(directory))
}
