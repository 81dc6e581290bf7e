//! A bare machine of Firecracker's.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::text;

/// What banger writes for Firecracker, in a VM's directory.
const CONFIGURATION: &str = "firecracker.json";

/// Returns Firecracker's path. With a network it is started through another program, which gets its path.
pub(super) fn program(vmm: &Value) -> Result<String> {
    let path = text(&vmm["path"])?;
    ensure!(path.ends_with("firecracker"), "the model has a network: {path}");
    Ok(path)
}

/// Writes the configuration of the machine of a VM and no more: kernel, its parameters, processors and memory.
pub(super) fn arguments(vm: &Path, initramfs: &Path, scratch: &Path) -> Result<Vec<String>> {
    let theirs: Value = serde_json::from_slice(&fs_err::read(vm.join(CONFIGURATION))?)?;
    let mut boot_source = theirs["boot-source"].clone();
    boot_source["initrd_path"] = json!(initramfs);
    let bare = json!({
        "boot-source": boot_source,
        "machine-config": theirs["machine-config"],
        "drives": [],
    });
    for part in ["boot-source", "machine-config"] {
        ensure!(bare[part].is_object(), "banger gives Firecracker no {part}");
    }
    let file = scratch.join(format!("{}.json", initramfs.file_stem().unwrap_or_default().display()));
    fs_err::write(&file, bare.to_string())?;
    let file = file.to_str().context("a path in UTF-8")?;
    // Errors alone, as banger has it: each line that the VMM writes is one on the console.
    Ok(["--no-api", "--level", "Error", "--config-file", file].map(str::to_owned).to_vec())
}
