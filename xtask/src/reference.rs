//! The reference of what can be set: made of the code, and kept in git. A test of the crate's says when it is not the code's.

use anyhow::{Context as _, Result};

use crate::process::{cargo, output, root};

/// Where it is kept.
const FILE: &str = "docs/configuration.md";

/// Writes it anew.
pub(crate) fn write() -> Result<()> {
    let made = ["run", "--quiet", "--package", "banger-configuration", "--example", "reference"];
    let made = output(cargo().args(made))?;
    std::fs::write(root().join(FILE), made).with_context(|| format!("cannot write {FILE}"))
}
