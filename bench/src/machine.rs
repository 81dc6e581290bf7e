//! What the numbers depend on.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result};
use banger_testkit::programs;

/// The machine and the programs, without anything that names them.
#[derive(Debug)]
pub(crate) struct Machine {
    time: jiff::Timestamp,
    kernel: String,
    qemu: String,
    cores: usize,
    /// Runnable processes in the last minute before the run.
    load: String,
    profile: String,
}

impl Machine {
    /// Looks at the machine.
    pub(crate) fn read() -> Result<Self> {
        let qemu = Command::new("qemu-system-x86_64").arg("--version").output().context("cannot run QEMU")?;
        let qemu = String::from_utf8_lossy(&qemu.stdout).lines().next().unwrap_or_default().to_owned();
        let load = fs_err::read_to_string("/proc/loadavg")?;
        let profile = programs().file_name().context("the programs' directory has no name")?.to_owned();
        Ok(Self {
            time: jiff::Timestamp::now(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            qemu,
            cores: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            profile: profile.to_string_lossy().into_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- date: {:.0}", self.time)?;
        writeln!(f, "- host kernel: {}", self.kernel)?;
        writeln!(f, "- {}, by emulation (TCG)", self.qemu)?;
        writeln!(f, "- processor cores: {}; load when it began: {}", self.cores, self.load)?;
        writeln!(f, "- build profile: {}", self.profile)
    }
}
