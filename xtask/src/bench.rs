//! Comparisons, measured in one run.

use anyhow::Result;

use crate::build::{Profile, build};
use crate::packages;
use crate::process::{command, root, run};

/// Runs the comparisons and writes `bench/RESULTS.md`.
pub(crate) fn bench() -> Result<()> {
    packages::install_to_test()?;
    let programs = build(Profile::Release)?;
    run(command(root().join("bench/run")).env("BANGER_PROGRAM_DIR", programs))
}
