//! Fuzzing: `fuzz/` holds the targets, cargo-fuzz builds them, libFuzzer runs them.
//!
//! Without a sanitizer, as those need a nightly compiler: what the targets look for are wrong answers and panics, and
//! the product's own code is safe Rust.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::build::{TARGET, target_directory};
use crate::packages;
use crate::process::{cargo, root, run};

/// Seconds for each target, if nothing else is said.
pub(crate) const SECONDS: u32 = 60;

/// What is installed where there is no cargo-fuzz.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";

/// What libFuzzer is told: inputs of any size from the start, a bound on memory, in MiB, and on one input's time, in seconds.
const OPTIONS: [&str; 5] =
    ["-len_control=0", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=60", "-print_final_stats=1"];

/// Reads the words after `fuzz`: a target and how long it is run. `None` if they mean nothing.
pub(crate) fn arguments<'a>(words: &[&'a str]) -> Option<(Option<&'a str>, u32)> {
    match words {
        [] => Some((None, SECONDS)),
        [rest @ .., "--seconds", seconds] => Some((arguments(rest)?.0, seconds.parse().ok()?)),
        [target] if !target.starts_with('-') => Some((Some(target), SECONDS)),
        _ => None,
    }
}

/// Runs one target, or all of them, each for so long.
pub(crate) fn fuzz(only: Option<&str>, seconds: u32) -> Result<()> {
    let mut targets = targets()?;
    if let Some(only) = only {
        if !targets.iter().any(|target| target == only) {
            bail!("there is no target '{only}'; there is {}", targets.join(", "));
        }
        targets.retain(|target| target == only);
    }
    packages::install_to_fuzz()?;
    let tools = Tools::install()?;
    println!("Building {} ...", targets.join(", "));
    tools.build(only)?;
    let mut found = Vec::new();
    for target in &targets {
        match tools.run(target, seconds)? {
            Outcome::Nothing(statistics) => println!("  {target}: {statistics}, nothing found"),
            Outcome::Found(what) => {
                println!("  {target}: FOUND SOMETHING");
                found.push(format!("{target}: {what}"));
            }
        }
    }
    if found.is_empty() { Ok(()) } else { bail!("fuzzing found something:\n{}", found.join("\n")) }
}

/// Fails for what rustfmt or clippy would have otherwise in the targets.
pub(crate) fn lint() -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--all-targets"]);
    clippy.arg("--target-dir").arg(directory()?.join("lints"));
    run(clippy.args(["--", "-D", "warnings"]))
}

/// Returns the names of all targets.
fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// Returns where everything goes that is built.
fn directory() -> Result<PathBuf> {
    Ok(target_directory()?.join("fuzz"))
}

/// What came of a run.
enum Outcome {
    /// Nothing, after so much.
    Nothing(String),
    /// Something: what, and where the input is.
    Found(String),
}

/// cargo-fuzz, and where it is.
struct Tools {
    directory: PathBuf,
    path: OsString,
}

impl Tools {
    /// Finds cargo-fuzz or installs it beside what is built.
    fn install() -> Result<Self> {
        let directory = directory()?;
        let tools = directory.join("tools");
        let mut path = tools.join("bin").into_os_string();
        if let Some(others) = std::env::var_os("PATH") {
            path.push(":");
            path.push(others);
        }
        let is_there = cargo().args(["fuzz", "--version"]).env("PATH", &path).stderr(Stdio::null()).output();
        if !is_there.is_ok_and(|output| output.status.success()) {
            println!("Installing {CARGO_FUZZ} into {} ...", tools.display());
            run(cargo().args(["install", "--quiet", "--locked", CARGO_FUZZ, "--root"]).arg(&tools))?;
        }
        Ok(Self { directory, path })
    }

    fn build(&self, only: Option<&str>) -> Result<()> {
        let mut build = cargo();
        build.args(["fuzz", "build", "--sanitizer", "none", "--target-dir"]).arg(&self.directory).args(only);
        run(build.env("PATH", &self.path))
    }

    fn run(&self, target: &str, seconds: u32) -> Result<Outcome> {
        let log = self.directory.join(format!("{target}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut fuzz = cargo();
        fuzz.args(["fuzz", "run", "--sanitizer", "none", "--target-dir"]).arg(&self.directory);
        fuzz.args([target, "--", &format!("-max_total_time={seconds}")]).args(OPTIONS);
        fuzz.env("PATH", &self.path).stdout(file.try_clone()?).stderr(file);
        let status = fuzz.status().with_context(|| format!("cannot run {fuzz:?}"))?;
        let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let text = String::from_utf8_lossy(&text);
        if status.success() {
            return Ok(Outcome::Nothing(statistics(&text)));
        }
        let program = self.directory.join(TARGET).join("release").join(target);
        Ok(Outcome::Found(found(&text, &program, &log)))
    }
}

/// Returns how much was done, from what libFuzzer says last.
fn statistics(log: &str) -> String {
    let after = |line: &'_ str, word: &str| {
        let rest = line.split_once(word).map(|(_, rest)| rest.trim_start().to_owned());
        rest.and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
    };
    let last =
        |word: &str| log.lines().rev().find_map(|line| after(line, word)).unwrap_or_else(|| "?".to_owned());
    format!(
        "{} executions, {} a second, coverage {}",
        last("stat::number_of_executed_units:"),
        last("stat::average_exec_per_sec:"),
        last(" cov:")
    )
}

/// Returns what was found, where its input is kept, and how to run it again.
fn found(log: &str, program: &Path, whole: &Path) -> String {
    let begin =
        log.lines().position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let what: Vec<&str> = log.lines().skip(begin.unwrap_or_default()).take(6).collect();
    let input = log.lines().find_map(|line| line.split_once("Test unit written to "));
    let again = match input {
        Some((_, input)) => format!("again: {} {}", program.display(), input.trim()),
        None => "there is no input of it".to_owned(),
    };
    format!("{}\n  log: {}\n  {again}", what.join("\n"), whole.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_and_a_time_can_be_said() {
        assert_eq!(arguments(&[]), Some((None, SECONDS)));
        assert_eq!(arguments(&["ext4"]), Some((Some("ext4"), SECONDS)));
        assert_eq!(arguments(&["--seconds", "5"]), Some((None, 5)));
        assert_eq!(arguments(&["ext4", "--seconds", "5"]), Some((Some("ext4"), 5)));
        for bad in [&["--seconds"][..], &["--seconds", "x"], &["a", "b"], &["--x"]] {
            assert_eq!(arguments(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_target_is_one_that_cargo_fuzz_builds() {
        let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for target in &targets {
            assert!(
                manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")),
                "{target}"
            );
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
    }

    #[test]
    fn what_was_done_and_what_was_found_is_read_from_the_log() {
        let log = "#2 NEW    cov: 7 ft: 9\n#9 DONE   cov: 12 ft: 30 corp: 1\nstat::number_of_executed_units: 9\n\
                   stat::average_exec_per_sec:     3\n";
        assert_eq!(statistics(log), "9 executions, 3 a second, coverage 12");
        assert_eq!(statistics(""), "? executions, ? a second, coverage ?");
        let log = "INFO: x\nthread 'a' panicked at b.rs:1:2:\nit is wrong\nartifact_prefix='f/'; Test unit written to f/crash-1\n";
        let found = found(log, Path::new("program"), Path::new("log"));
        assert!(found.starts_with("thread 'a' panicked at b.rs:1:2:\nit is wrong"), "{found}");
        assert!(found.ends_with("again: program f/crash-1"), "{found}");
    }
}
