//! Compares banger with other ways to do the same, in one run, and writes `bench/RESULTS.md`.
//!
//! The machines that this runs on are noisy. What is compared is therefore measured in turns (A B A B
//! ...), and given as medians with their spread and as ratios. Nothing fails for being slow: a mark
//! that is missed is printed as missed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a terminal")]

mod archive;
mod banger;
mod boot;
mod console;
mod create;
mod exec;
mod filesystem;
mod footprint;
mod hosted;
mod idle;
mod machine;
mod many;
mod memory;
mod network;
mod operations;
mod pull;
mod report;
mod rounds;
mod sample;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::banger::Banger;
use crate::machine::Machine;
use crate::report::{Comparison, Report};
use crate::rounds::Rounds;

/// The argument of a run that is about images of a registry alone, whose results are not kept.
const PULL_ALONE: &str = "--pull";
/// The argument of one that is about operations and events alone.
const OPERATIONS_ALONE: &str = "--operations";
/// The argument of one that is about the web console alone.
const CONSOLE_ALONE: &str = "--console";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The only argument is the root of the checkout; in a test host there are others.
fn bench() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [only] if only == PULL_ALONE => {
            let report = pull::compare(&Banger::new()?, &Rounds::from_environment())?;
            println!("{report}");
            Ok(())
        }
        [only] if only == OPERATIONS_ALONE => {
            println!("{}", operations::measure(&Banger::new()?, &Rounds::from_environment())?);
            Ok(())
        }
        [only] if only == CONSOLE_ALONE => {
            println!("{}", console::measure(&Rounds::from_environment())?);
            Ok(())
        }
        [only] if only == hosted::ALONE => {
            println!("{}", hosted::compare()?.unwrap_or_default());
            Ok(())
        }
        [only] if only == network::ALONE => {
            let rounds = Rounds::from_environment();
            println!("{}", network::emulated(&rounds)?);
            println!("{}", hosted::compare_networks()?.unwrap_or_default());
            Ok(())
        }
        [root] => everything(Path::new(root)),
        [argument, results, quick @ ..] if argument == network::IN_HOST => {
            network::run(Path::new(results), Path::new(hosted::PREPARED), &in_host(quick))
        }
        [argument, results, quick @ ..] if argument == hosted::ARGUMENT => {
            hosted::run(Path::new(results), &in_host(quick))
        }
        _ => anyhow::bail!("usage: banger-bench CHECKOUT (`cargo xtask bench` knows how)"),
    }
}

/// Returns how often things are measured in a test host, which is told so: the environment is not handed on.
fn in_host(quick: &[std::ffi::OsString]) -> Rounds {
    if quick.is_empty() { Rounds::full() } else { Rounds::quick() }
}

/// Runs all comparisons.
fn everything(root: &Path) -> Result<()> {
    let rounds = Rounds::from_environment();
    let machine = Machine::read()?;
    let begin = Instant::now();
    step("kernel and images");
    let banger = Banger::new()?;
    let comparisons = compare(&banger, &rounds)?;
    let guest_kernel = banger.guest_kernel()?;
    drop(banger);
    step("on Firecracker, in a test host");
    let hosted = compare_hosted()?;
    let report = Report { machine, guest_kernel, comparisons, hosted, duration: begin.elapsed() };
    let text = report.to_string();
    println!("\n{text}");
    if rounds.are_quick() {
        println!("(a quick run: bench/RESULTS.md stays as it is)");
        return Ok(());
    }
    let path = root.join("bench/RESULTS.md");
    fs_err::write(&path, text).context("cannot keep the results")
}

/// Compares in a test host. One that hangs, as their emulated KVM does now and then, does not cost what was measured before.
fn compare_hosted() -> Result<Option<String>> {
    std::panic::catch_unwind(hosted::compare).unwrap_or_else(|_| {
        let text = "\n# On Firecracker\n\nNot measured this time: the test host did not come to its end.\n";
        Ok(Some(text.to_owned()))
    })
}

fn compare(banger: &Banger, rounds: &Rounds) -> Result<Vec<Comparison>> {
    // First of all, while the daemon has done nothing yet.
    let daemon_when_fresh = footprint::fresh_daemon(banger)?;
    step("tar to ext4");
    let filesystem = filesystem::compare(banger, rounds)?;
    step("image pull");
    let pull = pull::compare(banger, rounds)?;
    step("vm create");
    let create = create::compare(banger, rounds)?;
    step("create to first exec");
    let boot = boot::compare(banger, rounds, boot::EMULATED)?;
    step("exec in a running VM");
    let exec = exec::measure(banger, rounds, Some(exec::MARK))?;
    step("operations and events");
    let operations = operations::measure(banger, rounds)?;
    step("the command line as a process");
    let many = many::measure(rounds)?;
    step("the web console");
    let console = console::measure(rounds)?;
    step("networks");
    let networks = network::emulated(rounds)?;
    step("memory and disk");
    let footprint = footprint::measure(banger, rounds, daemon_when_fresh)?;
    Ok(create
        .into_iter()
        .chain(boot)
        .chain(filesystem)
        .chain([pull, exec, operations, many, console, networks, footprint])
        .collect())
}

/// Says what is measured next.
fn step(name: &str) {
    eprintln!("== {name}");
}
