//! Compares banger with other ways to do the same, in one run, and writes `bench/RESULTS.md`.
//!
//! The machines that this runs on are noisy. What is compared is therefore measured in turns (A B A B
//! ...), and given as medians with their spread and as ratios. Nothing fails for being slow: a mark
//! that is missed is printed as missed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a terminal")]

mod archive;
mod banger;
mod boot;
mod create;
mod exec;
mod filesystem;
mod footprint;
mod idle;
mod machine;
mod many;
mod report;
mod rounds;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::banger::Banger;
use crate::machine::Machine;
use crate::report::{Comparison, Report};
use crate::rounds::Rounds;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all comparisons; the only argument is the root of the checkout.
fn bench() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(root), None) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: banger-bench CHECKOUT (`cargo xtask bench` knows how)");
    };
    let rounds = Rounds::from_environment();
    let machine = Machine::read()?;
    let begin = Instant::now();
    step("kernel and images");
    let banger = Banger::new()?;
    let comparisons = compare(&banger, &rounds)?;
    let guest_kernel = banger.guest_kernel()?;
    let report = Report { machine, guest_kernel, comparisons, duration: begin.elapsed() };
    let text = report.to_string();
    println!("\n{text}");
    if rounds.are_quick() {
        println!("(a quick run: bench/RESULTS.md stays as it is)");
        return Ok(());
    }
    let path = PathBuf::from(root).join("bench/RESULTS.md");
    fs_err::write(&path, text).context("cannot keep the results")
}

fn compare(banger: &Banger, rounds: &Rounds) -> Result<Vec<Comparison>> {
    // First of all, while the daemon has done nothing yet.
    let daemon_when_fresh = footprint::fresh_daemon(banger)?;
    step("tar to ext4");
    let filesystem = filesystem::compare(banger, rounds)?;
    step("vm create");
    let create = create::compare(banger, rounds)?;
    step("create to first exec");
    let boot = boot::compare(banger, rounds)?;
    step("exec in a running VM");
    let exec = exec::measure(banger, rounds)?;
    step("the command line as a process");
    let many = many::measure(rounds)?;
    step("memory and disk");
    let footprint = footprint::measure(banger, rounds, daemon_when_fresh)?;
    Ok(create.into_iter().chain(boot).chain(filesystem).chain([exec, many, footprint]).collect())
}

fn step(name: &str) {
    eprintln!("== {name}");
}
