//! QEMU without banger: the same machine and kernel, and an init that only says that it runs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use banger_image::kernel::cpio::Archive;
use serde_json::Value;

use crate::banger::processor_time;

/// What the init of `bench/init.S` prints.
const LINE: &str = "banger-bench: init runs";
/// The init's source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/init.S");

/// Options of QEMU that say what the machine is, with a value. The others give it drives, cards and
/// channels, which the bare one does without.
const MACHINE_OPTIONS: [&str; 9] =
    ["-machine", "-accel", "-cpu", "-smp", "-m", "-display", "-serial", "-kernel", "-append"];
/// The same, without a value.
const MACHINE_FLAGS: [&str; 3] = ["-nodefaults", "-no-user-config", "-no-reboot"];

/// A machine that can be booted any number of times.
#[derive(Debug)]
pub(super) struct Bare {
    program: String,
    arguments: Vec<String>,
}

impl Bare {
    /// Returns the machine of the VM in `vm`, with an initramfs that is made in `scratch`.
    pub(super) fn like(vm: &Path, scratch: &Path) -> Result<Self> {
        let launch: Value = serde_json::from_slice(&fs_err::read(vm.join("launch.json"))?)?;
        let vmm = &launch["vmm"];
        let program = vmm["path"].as_str().context("a launch without a program")?.to_owned();
        let theirs = vmm["arguments"].as_array().context("a launch without arguments")?;
        let theirs: Vec<&str> = theirs.iter().filter_map(Value::as_str).collect();
        let mut arguments = machine(&theirs)?;
        let initramfs = initramfs(scratch)?;
        arguments.extend(["-initrd".to_owned(), initramfs.to_str().context("a path in UTF-8")?.to_owned()]);
        Ok(Self { program, arguments })
    }

    /// Boots it, and returns how long it took from the start of QEMU to the line of its init, and how
    /// much processor time QEMU needed until then.
    pub(super) fn boot(&self) -> Result<(Duration, Duration)> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let begin = Instant::now();
        let mut child = command.spawn().context("cannot run QEMU")?;
        let mut said = String::new();
        let mut line_after = None;
        let console = BufReader::new(child.stdout.take().context("no console")?);
        for line in console.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            if line.contains(LINE) {
                let elapsed = begin.elapsed();
                // If it has ended already, it is still there to be waited for, with its times.
                line_after = Some((elapsed, processor_time(child.id().into())?));
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = child.wait()?;
        match line_after {
            Some(times) => Ok(times),
            None => bail!("the bare machine's init did not run, QEMU ended with {status}; it said:\n{said}"),
        }
    }
}

/// Takes what says what the machine is, the console included, out of QEMU's arguments.
fn machine(theirs: &[&str]) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    let mut rest = theirs.iter();
    while let Some(&option) = rest.next() {
        if MACHINE_FLAGS.contains(&option) {
            arguments.push(option.to_owned());
            continue;
        }
        let value = *rest.next().with_context(|| format!("QEMU's option {option} is unknown here"))?;
        let is_console = option == "-chardev" && value.contains("id=console");
        if MACHINE_OPTIONS.contains(&option) || is_console {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
    }
    // An option that was renamed must not silently make the bare machine a different one.
    for option in MACHINE_OPTIONS {
        ensure!(arguments.iter().any(|argument| argument == option), "banger gives QEMU no {option}");
    }
    Ok(arguments)
}

/// Assembles the init and packs it.
fn initramfs(scratch: &Path) -> Result<PathBuf> {
    let (init, archive) = (scratch.join("init"), scratch.join("init.cpio"));
    let mut assemble = Command::new("gcc");
    assemble.args(["-static", "-nostdlib", "-s", "-Wl,--build-id=none", "-o"]).arg(&init).arg(SOURCE);
    let status = assemble.status().context("cannot run gcc")?;
    ensure!(status.success(), "{assemble:?} ended with {status}");
    let packed = Archive::new()
        .directory("dev", 0o755)
        .character_device("dev/console", 0o600, 5, 1)
        .file("init", 0o755, &fs_err::read(init)?)
        .finish();
    fs_err::write(&archive, packed)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_and_channels_stay_behind() {
        let mut theirs = vec!["-nodefaults", "-no-user-config", "-no-reboot"];
        for option in MACHINE_OPTIONS {
            theirs.extend([option, "x"]);
        }
        theirs.extend(["-chardev", "file,id=console,path=/dev/stdout", "-chardev", "socket,id=control,fd=3"]);
        theirs.extend(["-drive", "if=none", "-device", "virtio-rng-device", "-initrd", "theirs"]);
        let ours = machine(&theirs).unwrap();
        assert_eq!(ours.len(), 3 + 2 * MACHINE_OPTIONS.len() + 2, "{ours:?}");
        assert!(
            !ours.iter().any(|it| it == "-drive" || it == "theirs" || it.contains("control")),
            "{ours:?}"
        );
    }

    #[test]
    fn a_machine_without_a_kernel_is_refused() {
        assert!(machine(&["-machine", "microvm"]).is_err());
    }
}
