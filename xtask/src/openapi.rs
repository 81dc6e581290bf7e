//! The API's description: made of the code, and kept in git.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Where it is kept.
const FILE: &str = "crates/banger-api/openapi.json";

/// Writes it anew.
pub(crate) fn write() -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--package", "banger-api", "--features", "schema", "--example", "openapi"]);
    let made = cargo.output().context("cannot run cargo")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(FILE, made.stdout).with_context(|| format!("cannot write {FILE}"))
}
