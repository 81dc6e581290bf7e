//! From a fresh machine to a command that runs in a real virtual machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::build::{Profile, build};
use crate::packages;
use crate::process::{command, output, run};

struct Phases(Vec<(String, u128)>);

impl Phases {
    fn time<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let value = work()?;
        self.0.push((name.to_owned(), begin.elapsed().as_millis()));
        Ok(value)
    }

    fn print(&self) {
        println!("\nWhat took how long:");
        for (name, milliseconds) in &self.0 {
            println!("  {:>5}.{:03} s  {name}", milliseconds / 1000, milliseconds % 1000);
        }
    }
}

/// Makes the main job run: packages, programs, daemon, kernel, image, a VM, a command in it.
pub(crate) fn run_first_vm() -> Result<()> {
    let mut phases = Phases(Vec::new());
    phases.time("install packages", packages::install_to_run)?;
    println!("Building banger ...");
    let programs = phases.time("build", || build(Profile::Release))?;
    let banger = Banger { program: programs.join("banger") };
    phases.time("start bangerd", || {
        // One of an earlier build may run; it gives way to this one, and its VMs go on.
        banger.run(&["daemon", "stop"])?;
        banger.run(&["daemon", "start"])
    })?;
    let vm = format!("hello-{}", std::process::id());
    let guard = Remove { banger: &banger, vm: &vm };
    // Makes the default kernel and the default image when they are not there yet.
    phases.time("create and boot a VM", || banger.run(&["vm", "create", &vm]))?;
    phases.0.extend(banger.phases_of(&vm)?);
    println!("\n$ uname -a");
    phases.time("uname -a", || banger.run(&["exec", &vm, "--", "uname", "-a"]))?;
    println!("\n$ cat /etc/os-release");
    phases.time("cat /etc/os-release", || banger.run(&["exec", &vm, "--", "cat", "/etc/os-release"]))?;
    drop(guard);
    phases.print();
    print_next(&banger.program);
    Ok(())
}

/// Takes the VM away, whatever happened.
struct Remove<'a> {
    banger: &'a Banger,
    vm: &'a str,
}

impl Drop for Remove<'_> {
    fn drop(&mut self) {
        // A VM that could not be made is not there; that has been said already.
        let mut remove = Command::new(&self.banger.program);
        remove
            .args(["vm", "rm", "--force", "--yes", self.vm])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

struct Banger {
    program: PathBuf,
}

impl Banger {
    fn run(&self, arguments: &[&str]) -> Result<()> {
        run(command(&self.program).args(arguments))
    }

    /// What the operation that made this VM says of its phases.
    fn phases_of(&self, vm: &str) -> Result<Vec<(String, u128)>> {
        let listed = output(command(&self.program).args(["op", "ls", "--json"]))?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let operations = listed.as_array().context("the list of operations is no list")?;
        let made = operations.iter().find(|operation| operation["subject"] == vm);
        let phases = made.and_then(|operation| operation["finished_phases"].as_array());
        let phase = |phase: &serde_json::Value| {
            let duration = phase["duration_ms"].as_u64().unwrap_or_default();
            (format!("    {}", phase["stage"].as_str().unwrap_or_default()), u128::from(duration))
        };
        Ok(phases.into_iter().flatten().map(phase).collect())
    }
}

fn print_next(banger: &Path) {
    let directory = banger.parent().unwrap_or(Path::new("."));
    println!(
        "\nType next:
  export PATH={}:$PATH
  banger run                     # a shell in a new VM
  banger run --rm -- uname -a    # one command in a VM that goes when it ends
  banger ps                      # what is there
  banger --help",
        directory.display()
    );
}
