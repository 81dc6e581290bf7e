//! A bare machine of Firecracker's.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Card;

/// What banger writes for Firecracker, in a VM's directory.
const CONFIGURATION: &str = "firecracker.json";

/// Returns Firecracker's path. What confines it, or makes its network, is started before it and gets its path.
pub(super) fn program(vmm: &Value) -> Result<String> {
    let arguments = vmm["arguments"].as_array().into_iter().flatten();
    let mut words = [&vmm["path"]].into_iter().chain(arguments).filter_map(Value::as_str);
    let path = words.find(|word| word.ends_with("/firecracker"));
    Ok(path.with_context(|| format!("there is no Firecracker in {vmm}"))?.to_owned())
}

/// Writes the configuration of the machine of a VM and no more: kernel, its parameters, processors and memory.
pub(super) fn arguments(vm: &Path, initramfs: &Path, scratch: &Path) -> Result<Vec<String>> {
    write(&machine(vm, initramfs)?, initramfs, scratch)
}

/// The same with a network card.
pub(super) fn arguments_with_card(vm: &Path, card: &Card<'_>, scratch: &Path) -> Result<Vec<String>> {
    let mut bare = machine(vm, card.initramfs)?;
    let parameters = bare["boot-source"]["boot_args"].as_str().context("a kernel without parameters")?;
    bare["boot-source"]["boot_args"] = json!(format!("{parameters} {}", card.variable));
    bare["network-interfaces"] =
        json!([{ "iface_id": "network", "guest_mac": card.mac, "host_dev_name": card.device }]);
    write(&bare, card.initramfs, scratch)
}

fn machine(vm: &Path, initramfs: &Path) -> Result<Value> {
    let theirs: Value = serde_json::from_slice(&fs_err::read(vm.join(CONFIGURATION))?)?;
    let mut boot_source = theirs["boot-source"].clone();
    boot_source["initrd_path"] = json!(initramfs);
    Ok(json!({
        "boot-source": boot_source,
        "machine-config": theirs["machine-config"],
        "drives": [],
    }))
}

/// Writes the configuration, and returns the arguments that name it.
fn write(bare: &Value, initramfs: &Path, scratch: &Path) -> Result<Vec<String>> {
    for part in ["boot-source", "machine-config"] {
        ensure!(bare[part].is_object(), "banger gives Firecracker no {part}");
    }
    let file = scratch.join(format!("{}.json", initramfs.file_stem().unwrap_or_default().display()));
    fs_err::write(&file, bare.to_string())?;
    let file = file.to_str().context("a path in UTF-8")?;
    // Errors alone, as banger has it: each line that the VMM writes is one on the console.
    Ok(["--no-api", "--level", "Error", "--config-file", file].map(str::to_owned).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firecracker_is_found_behind_what_starts_it() {
        let plain = json!({ "path": "/usr/bin/firecracker", "arguments": ["--no-api"] });
        assert_eq!(program(&plain).unwrap(), "/usr/bin/firecracker");
        let arguments = ["/lib/banger-confine", "--write", "/v/disk", "--", "/opt/firecracker", "--api-sock"];
        let through = json!({ "path": "/lib/banger-tap", "arguments": arguments });
        assert_eq!(program(&through).unwrap(), "/opt/firecracker");
        assert!(program(&json!({ "path": "/usr/bin/qemu", "arguments": [] })).is_err());
    }

    #[test]
    fn a_card_and_its_users_variable_are_all_that_is_added() {
        let vm = tempfile::tempdir().unwrap();
        let theirs = json!({
            "boot-source": { "kernel_image_path": "/k", "initrd_path": "/theirs", "boot_args": "quiet" },
            "machine-config": { "vcpu_count": 1 },
            "drives": [{ "drive_id": "base" }],
        });
        fs_err::write(vm.path().join(CONFIGURATION), theirs.to_string()).unwrap();
        let initramfs = vm.path().join("ours.cpio");
        let card = Card { device: "tap", mac: "02:00:00:00:00:01", initramfs: &initramfs, variable: "a=b" };
        arguments_with_card(vm.path(), &card, vm.path()).unwrap();
        let written = fs_err::read(vm.path().join("ours.json")).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["boot-source"]["boot_args"], "quiet a=b");
        assert_eq!(written["boot-source"]["initrd_path"], json!(initramfs));
        assert_eq!(written["network-interfaces"][0]["host_dev_name"], "tap");
        assert_eq!(written["drives"], json!([]));
    }
}
