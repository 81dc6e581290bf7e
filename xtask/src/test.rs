//! Everything that must hold before a change lands.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::build::{Profile, build, target_directory};
use crate::process::{cargo, run};
use crate::{fuzz, layers, openapi, packages};

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What fits into the daily budget.
    Daily,
    /// Properties with many more cases, every matrix whole, and fuzzing.
    Full,
}

/// How many cases each property is tried with in the full run; a property's own default is for every day.
const FULL_CASES: (&str, &str) = ("PROPTEST_CASES", "2000");

/// Tells tests that have a matrix to try all of it.
const FULL_MATRIX: &str = "BANGER_TEST_FULL";
/// Names the file that collects which tests were not run, or run again (banger-testkit, `not_run`).
const NOT_RUN: &str = "BANGER_NOT_RUN";

/// Names the program that tests the API against its description.
const SCHEMATHESIS: &str = "BANGER_SCHEMATHESIS";
/// Names the folder of npm's packages that the browser's tests judge pages with.
const NPM_PACKAGES: &str = "BANGER_BROWSER_NPM";

/// Checks the form, the layers and the behaviour.
pub(crate) fn test(extent: Extent) -> Result<()> {
    packages::install_to_test()?;
    step("formatting", || {
        run(cargo().args(["fmt", "--all", "--check"]))?;
        run(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
    })?;
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
        run(&mut clippy)?;
        openapi::lint()
    })?;
    // By itself: with its feature everything would have to be built once more.
    step("the API's description", openapi::check)?;
    let programs = step("programs", || build(Profile::Development))?;
    // Without it a test says that it was not run.
    let schemathesis = step("schemathesis", || Ok(packages::install_schemathesis(&target_directory()?)))?;
    if let Err(error) = &schemathesis {
        println!("it cannot be installed: {error:#}");
    }
    let npm = step("npm's packages", || Ok(packages::JUDGES.install(&target_directory()?)))?;
    if let Err(error) = &npm {
        println!("they cannot be installed: {error:#}");
    }
    let list = target_directory()?.join("tests-not-run");
    std::fs::write(&list, "").with_context(|| format!("cannot write {}", list.display()))?;
    let result = step("tests", || {
        let mut tests = cargo();
        tests.args(["test", "--locked", "--workspace"]).env("BANGER_PROGRAM_DIR", &programs);
        tests.env(NOT_RUN, &list);
        if let Ok(schemathesis) = &schemathesis {
            tests.env(SCHEMATHESIS, schemathesis);
        }
        if let Ok(npm) = &npm {
            tests.env(NPM_PACKAGES, npm);
        }
        if extent == Extent::Full {
            tests.env(FULL_CASES.0, FULL_CASES.1).env(FULL_MATRIX, "1");
        }
        run(&mut tests)
    });
    println!("{}", not_run(&read(&list)?));
    result?;
    if extent == Extent::Full {
        step("fuzz targets, lints", fuzz::lint)?;
        step("fuzz targets", || fuzz::fuzz(None, fuzz::SECONDS))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Returns what there is to say about a list of tests that were not run, or run again: `NOT RUN: NAME: REASON`, a line for
/// each time that one said so.
fn not_run(list: &str) -> String {
    let of = |kind: &str| list.lines().filter_map(|line| line.strip_prefix(kind)).collect::<BTreeSet<&str>>();
    let listed = |heading: &str, tests: &BTreeSet<&str>| {
        let lines: String = tests.iter().map(|test| ["\n  ", *test].concat()).collect();
        format!("{heading}:{lines}")
    };
    let (again, without) = (of("RUN AGAIN: "), of("NOT RUN: "));
    let again = (!again.is_empty()).then(|| listed("RUN AGAIN, and passed or failed then", &again));
    let without = if without.is_empty() {
        "All tests were run.".to_owned()
    } else {
        listed("NOT RUN, although they count as passed", &without)
    };
    again.into_iter().chain([without]).collect::<Vec<_>>().join("\n")
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let begin = Instant::now();
    let value = work()?;
    println!("== {name}: {:.1} s", begin.elapsed().as_secs_f64());
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_that_was_not_run_is_named_once() {
        assert_eq!(not_run(""), "All tests were run.");
        assert_eq!(
            not_run("NOT RUN: b: needs root\nNOT RUN: a: no kvm\nNOT RUN: b: needs root\n"),
            "NOT RUN, although they count as passed:\n  a: no kvm\n  b: needs root"
        );
        assert_eq!(
            not_run("RUN AGAIN: c: it hung\n"),
            "RUN AGAIN, and passed or failed then:\n  c: it hung\nAll tests were run."
        );
    }
}
