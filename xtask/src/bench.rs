//! Comparisons, measured in one run.

use anyhow::Result;

use crate::build::{Profile, build};
use crate::packages;
use crate::process::{cargo, command, root, run};

/// Runs the comparisons and writes `bench/RESULTS.md`.
pub(crate) fn bench() -> Result<()> {
    packages::install_to_test()?;
    let programs = build(Profile::Release)?;
    let mut own = cargo();
    own.args(["build", "--quiet", "--locked", "--release", "--bins"]);
    run(own.args(["--package", "banger-bench", "--package", "banger-testkit"]))?;
    // What is compared with `mke2fs -d`.
    let mut example = cargo();
    example.args(["build", "--quiet", "--locked", "--release"]);
    run(example.args(["--package", "banger-image", "--example", "tar_to_ext4"]))?;
    run(command(programs.join("banger-bench")).arg(root()).env("BANGER_PROGRAM_DIR", &programs))
}
