//! banger, isolated, and what it says of its own work.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use banger_testkit::{Environment, NetworkHost, seed};
use serde_json::Value;

/// An isolated banger, and a directory for what the bench itself makes.
#[derive(Debug)]
pub(crate) struct Banger {
    environment: Environment,
    scratch: PathBuf,
}

/// One run of a program.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Until the first line on its standard output was there.
    pub(crate) first_line: Duration,
    /// Until its end.
    pub(crate) whole: Duration,
    /// Its standard output.
    pub(crate) output: String,
}

/// What an operation says of its time.
#[derive(Debug, Clone)]
pub(crate) struct OperationTime {
    /// From its beginning to its end.
    pub(crate) whole: Duration,
    /// Its phases, in order.
    pub(crate) phases: Vec<(String, Duration)>,
}

impl Banger {
    /// Returns one with the tests' kernel and images; the first time in a target directory makes them.
    pub(crate) fn new() -> Result<Self> {
        let scratch = seed::scratch().join("bench");
        fs_err::create_dir_all(&scratch)?;
        let environment = Environment::new();
        Ok(Self { environment, scratch })
    }

    /// Returns one on a host of its own, which outlives it.
    pub(crate) fn on(host: &NetworkHost) -> Result<Self> {
        let banger = Self::new()?;
        Ok(Self { environment: banger.environment.on(host), ..banger })
    }

    /// Returns a directory on the same file system as the images, which stays.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> &Path {
        self.environment.data()
    }

    /// Returns a command that sees this banger and nothing of the user's own.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.environment.command(program)
    }

    /// Throws everything away at once, which is quicker than to delete a thousand VMs in order.
    pub(crate) fn forget_everything(&self) -> Result<()> {
        self.run(&["daemon", "stop"])?;
        let data = self.environment.data();
        fs_err::remove_file(data.join("banger.db"))?;
        Ok(fs_err::remove_dir_all(data.join("vms"))?)
    }

    /// Runs `banger`, which must succeed, and takes its time.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Run> {
        let mut command = self.environment.banger(arguments);
        time(&mut command).with_context(|| self.environment.last_words())
    }

    /// Runs `banger ... --json` and returns what it printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let run = self.run(arguments)?;
        serde_json::from_str(&run.output).with_context(|| format!("banger {arguments:?} printed no JSON"))
    }

    /// Deletes a VM and returns how long that took.
    pub(crate) fn remove(&self, vm: &str) -> Result<Duration> {
        Ok(self.run(&["vm", "rm", "--force", "--yes", vm])?.whole)
    }

    /// Returns the directory of a VM.
    pub(crate) fn directory(&self, vm: &str) -> Result<PathBuf> {
        let shown = self.json(&["vm", "show", vm, "--json"])?;
        Ok(PathBuf::from(shown["directory"].as_str().context("a VM without a directory")?))
    }

    /// Returns the process id of the daemon.
    pub(crate) fn daemon_pid(&self) -> Result<u64> {
        let status = self.json(&["daemon", "status", "--json"])?;
        status["pid"].as_u64().context("a daemon without a process id")
    }

    /// Returns the process id of a running VM's VMM.
    pub(crate) fn vmm_pid(&self, vm: &str) -> Result<u64> {
        let shown = self.json(&["vm", "show", vm, "--json"])?;
        shown["vmm_pid"].as_u64().context("a VM that runs without a VMM")
    }

    /// Returns the release of the kernel that VMs boot.
    pub(crate) fn guest_kernel(&self) -> Result<String> {
        let kernels = self.json(&["kernel", "ls", "--json"])?;
        Ok(kernels[0]["release"].as_str().context("a kernel without a release")?.to_owned())
    }

    /// Returns which Firecracker there is.
    pub(crate) fn firecracker(&self) -> Result<String> {
        let engines = self.json(&["engine", "ls", "--json"])?;
        Ok(format!("Firecracker {}", engines[0]["version"].as_str().context("there is no Firecracker")?))
    }

    /// Returns what the newest operation of this kind on this subject says of its time.
    pub(crate) fn operation(&self, kind: &str, subject: &str) -> Result<OperationTime> {
        let operations = self.json(&["op", "ls", "--json"])?;
        let mut operations = operations.as_array().into_iter().flatten();
        let found = operations.find(|operation| operation["kind"] == kind && operation["subject"] == subject);
        let found = found.with_context(|| format!("there was no {kind} of '{subject}'"))?;
        let moment = |field: &str| -> Result<jiff::Timestamp> {
            Ok(found[field].as_str().with_context(|| format!("an operation without {field}"))?.parse()?)
        };
        let whole = moment("updated_at")?.duration_since(moment("created_at")?);
        let phases = found["finished_phases"].as_array().into_iter().flatten().map(|phase| {
            let milliseconds = phase["duration_ms"].as_u64().unwrap_or_default();
            (phase["stage"].as_str().unwrap_or_default().to_owned(), Duration::from_millis(milliseconds))
        });
        Ok(OperationTime { whole: whole.unsigned_abs(), phases: phases.collect() })
    }
}

/// What `/proc` counts processor time in: `USER_HZ` (Linux, include/uapi/asm-generic/param.h).
const TICKS_PER_SECOND: u64 = 100;

/// Returns the processor time of a process, its own and the kernel's for it (`proc_pid_stat(5)`).
pub(crate) fn processor_time(pid: u64) -> Result<Duration> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is in parentheses and may hold anything; utime and stime are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| -> Result<u64> {
        Ok(fields.get(index).with_context(|| format!("process {pid} has no times"))?.parse()?)
    };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND))
}

/// Runs a program to its end, which must be a success, and takes its time.
pub(crate) fn time(command: &mut Command) -> Result<Run> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let (first_line, output) = read(&mut child, begin)?;
    // A program that prints more than a pipe holds on standard error would stand still here; none does.
    let ended = child.wait_with_output()?;
    let whole = begin.elapsed();
    if !ended.status.success() {
        bail!("{command:?} ended with {}\n{}", ended.status, String::from_utf8_lossy(&ended.stderr));
    }
    Ok(Run { first_line, whole, output })
}

fn read(child: &mut Child, begin: Instant) -> Result<(Duration, String)> {
    let mut output = Vec::new();
    let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
    stdout.read_until(b'\n', &mut output)?;
    let first_line = begin.elapsed();
    stdout.read_to_end(&mut output)?;
    Ok((first_line, String::from_utf8_lossy(&output).into_owned()))
}
