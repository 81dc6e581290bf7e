//! Everything that must hold before a change lands.

use std::time::Instant;

use anyhow::Result;

use crate::build::{Profile, build};
use crate::process::{cargo, run};
use crate::{layers, packages};

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What fits into the daily budget.
    Daily,
    /// Properties with many more cases, and every matrix whole.
    Full,
}

/// How many cases each property is tried with in the full run; a property's own default is for every day.
const FULL_CASES: (&str, &str) = ("PROPTEST_CASES", "2000");

/// Tells tests that have a matrix to try all of it.
const FULL_MATRIX: &str = "BANGER_TEST_FULL";

/// Checks the form, the layers and the behaviour.
pub(crate) fn test(extent: Extent) -> Result<()> {
    packages::install_to_test()?;
    step("formatting", || run(cargo().args(["fmt", "--all", "--check"])))?;
    step("layers", layers::check)?;
    step("lints", || {
        let mut clippy = cargo();
        clippy.args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]);
        run(&mut clippy)
    })?;
    let programs = step("programs", || build(Profile::Development))?;
    step("tests", || {
        let mut tests = cargo();
        tests.args(["test", "--locked", "--workspace"]).env("BANGER_PROGRAM_DIR", &programs);
        if extent == Extent::Full {
            tests.env(FULL_CASES.0, FULL_CASES.1).env(FULL_MATRIX, "1");
        }
        run(&mut tests)
    })
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let begin = Instant::now();
    let value = work()?;
    println!("== {name}: {:.1} s", begin.elapsed().as_secs_f64());
    Ok(value)
}
