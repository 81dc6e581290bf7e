//! What a process does while there is nothing to do.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::banger::Banger;
use crate::report::{Mark, Row};
use crate::sample::{Samples, Unit};

/// Returns the row of a process that should do nothing: the system calls that it makes in a while, all its threads
/// counted, as `strace` sees them.
pub(crate) fn row(banger: &Banger, what: &str, pid: u64, seconds: u64) -> Result<Row> {
    let calls = system_calls(banger, pid, seconds)?;
    let mut samples = Samples::new(Unit::Count);
    samples.push_number(calls);
    Ok(Row::of(format!("system calls of {what} in {seconds} s"), samples).mark(Mark::AtMost(0.0)))
}

fn system_calls(banger: &Banger, pid: u64, seconds: u64) -> Result<u64> {
    let trace = banger.scratch().join("trace");
    let mut strace = banger.command("strace");
    strace.args(["-f", "-p", &pid.to_string(), "-o"]).arg(&trace).stderr(Stdio::piped());
    let mut child = strace.spawn().context("strace is not there")?;
    // It says so when it is attached.
    let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
    said.read_line(&mut String::new())?;
    std::thread::sleep(Duration::from_secs(seconds));
    kill_process(Pid::from_child(&child), Signal::INT)?;
    child.wait()?;
    // A call that has returned says what it returned.
    let text = fs_err::read_to_string(&trace)?;
    Ok(text.lines().filter(|line| line.contains(" = ")).count() as u64)
}
