//! A bare machine of QEMU's.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Options of QEMU that say what the machine is, with a value. The others give it drives, cards and
/// channels, which the bare one does without.
const MACHINE_OPTIONS: [&str; 9] =
    ["-machine", "-accel", "-cpu", "-smp", "-m", "-display", "-serial", "-kernel", "-append"];
/// The same, without a value.
const MACHINE_FLAGS: [&str; 3] = ["-nodefaults", "-no-user-config", "-no-reboot"];

/// Returns QEMU's path and arguments, without what confines it.
pub(super) fn unconfined(vmm: &Value) -> Result<(String, Vec<&str>)> {
    let theirs = vmm["arguments"].as_array().context("a launch without arguments")?;
    let theirs: Vec<&str> = theirs.iter().filter_map(Value::as_str).collect();
    let path = vmm["path"].as_str().context("a launch without a program")?;
    Ok(match theirs.iter().position(|word| *word == "--") {
        Some(at) => {
            let (program, rest) = theirs[at + 1..].split_first().context("what confines gets no program")?;
            ((*program).to_owned(), rest.to_vec())
        }
        None => (path.to_owned(), theirs),
    })
}

/// Returns QEMU's arguments for the machine of a VM and no more.
pub(super) fn arguments(theirs: &[&str], initramfs: &Path) -> Result<Vec<String>> {
    let mut arguments = machine(theirs)?;
    arguments.extend(["-initrd".to_owned(), initramfs.to_str().context("a path in UTF-8")?.to_owned()]);
    Ok(arguments)
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
    fn qemu_is_found_behind_what_confines_it() {
        let arguments = serde_json::json!(["--read", "/k", "--", "/usr/bin/qemu", "-smp", "1"]);
        let vmm = serde_json::json!({ "path": "/lib/banger-confine", "arguments": arguments });
        assert_eq!(unconfined(&vmm).unwrap(), ("/usr/bin/qemu".to_owned(), vec!["-smp", "1"]));
        let vmm = serde_json::json!({ "path": "/usr/bin/qemu", "arguments": ["-smp", "1"] });
        assert_eq!(unconfined(&vmm).unwrap(), ("/usr/bin/qemu".to_owned(), vec!["-smp", "1"]));
    }

    #[test]
    fn a_machine_without_a_kernel_is_refused() {
        assert!(machine(&["-machine", "microvm"]).is_err());
    }
}
