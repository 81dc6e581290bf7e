//! A VMM without banger: the same machine and kernel, and an init that only says that it runs.

mod firecracker;
mod init;
mod qemu;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::banger::processor_time;

pub(crate) use self::init::{Init, LINE, make as make_inits};

/// A machine that can be booted any number of times.
#[derive(Debug)]
pub(crate) struct Bare {
    /// What runs it, for people.
    pub(crate) name: &'static str,
    program: String,
    arguments: Vec<String>,
}

/// A network card, and who uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card<'a> {
    /// The TAP device on the host.
    pub(crate) device: &'a str,
    /// The guest's hardware address.
    pub(crate) mac: &'a str,
    /// The initramfs, whose init prints [`LINE`].
    pub(crate) initramfs: &'a Path,
    /// What init finds in its environment, as `NAME=VALUE`.
    pub(crate) variable: &'a str,
}

/// A machine whose init has said its line and stays. It ends with this.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Bare {
    /// Returns the machine of the VM in `vm`, with what it takes made in `scratch`.
    pub(crate) fn like(vm: &Path, init: Init, scratch: &Path) -> Result<Self> {
        let launch: Value = serde_json::from_slice(&fs_err::read(vm.join("launch.json"))?)?;
        let vmm = &launch["vmm"];
        let initramfs = init.initramfs(scratch)?;
        if vmm["name"] == "firecracker" {
            let program = firecracker::program(vmm)?;
            let arguments = firecracker::arguments(vm, &initramfs, scratch)?;
            return Ok(Self { name: "bare Firecracker", program, arguments });
        }
        let (program, theirs) = qemu::unconfined(vmm)?;
        Ok(Self { name: "bare QEMU", program, arguments: qemu::arguments(&theirs, &initramfs)? })
    }

    /// Returns Firecracker's machine of the VM in `vm`, with a network card and another initramfs.
    pub(crate) fn with_card(vm: &Path, card: &Card<'_>, scratch: &Path) -> Result<Self> {
        let launch: Value = serde_json::from_slice(&fs_err::read(vm.join("launch.json"))?)?;
        let program = firecracker::program(&launch["vmm"])?;
        let arguments = firecracker::arguments_with_card(vm, card, scratch)?;
        Ok(Self { name: "bare Firecracker with a TAP", program, arguments })
    }

    /// Boots it, and returns how long it took from the start of the VMM to the line of its init, and how
    /// much processor time the VMM needed until then.
    pub(crate) fn boot(&self) -> Result<(Duration, Duration)> {
        let begin = Instant::now();
        let mut child = self.spawn()?;
        let mut line_after = None;
        let said = read_console(&mut child, |pid| {
            let elapsed = begin.elapsed();
            // If it has ended already, it is still there to be waited for, with its times.
            line_after = Some((elapsed, processor_time(pid.into())?));
            Ok(true)
        })?;
        let status = child.wait()?;
        match line_after {
            Some(times) => Ok(times),
            None => {
                bail!("the bare machine's init did not run, its VMM ended with {status}; it said:\n{said}")
            }
        }
    }

    /// Boots it with an init that stays.
    pub(crate) fn boot_to_stay(&self) -> Result<Running> {
        let mut running = Running(self.spawn()?);
        let mut is_there = false;
        let said = read_console(&mut running.0, |_| {
            is_there = true;
            Ok(false)
        })?;
        if is_there {
            Ok(running)
        } else {
            bail!("the bare machine's init did not run; its VMM said:\n{said}")
        }
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.spawn().with_context(|| format!("cannot run {}", self.program))
    }
}

impl Running {
    /// Returns the process id of its VMM.
    pub(crate) fn pid(&self) -> u64 {
        self.0.id().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads the console until its end, or until `on_line` says, when the init's line comes, that it was enough.
fn read_console(child: &mut Child, mut on_line: impl FnMut(u32) -> Result<bool>) -> Result<String> {
    let pid = child.id();
    let mut said = String::new();
    let console = BufReader::new(child.stdout.as_mut().context("no console")?);
    for line in console.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        said.push_str(&line);
        said.push('\n');
        if line.contains(init::LINE) && !on_line(pid)? {
            break;
        }
    }
    Ok(said)
}
