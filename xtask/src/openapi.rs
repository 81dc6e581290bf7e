//! The API's description: made of the code, and kept in git.

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, root, run};

/// Where it is kept.
const FILE: &str = "crates/banger-api/openapi.json";

/// What selects the crate with all that it takes to make it.
const WITH_SCHEMAS: [&str; 4] = ["--package", "banger-api", "--features", "schema"];

/// Writes it anew.
pub(crate) fn write() -> Result<()> {
    let made = output(cargo().args(["run", "--quiet"]).args(WITH_SCHEMAS).args(["--example", "openapi"]))?;
    std::fs::write(root().join(FILE), made).with_context(|| format!("cannot write {FILE}"))
}

/// Fails when it is not the code's.
pub(crate) fn check() -> Result<()> {
    run(cargo().args(["test", "--quiet", "--locked"]).args(WITH_SCHEMAS).args(["--test", "description"]))
}

/// Fails for what clippy would have otherwise in what makes it.
pub(crate) fn lint() -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--locked"]).args(WITH_SCHEMAS);
    run(clippy.args(["--all-targets", "--", "-D", "warnings"]))
}
