//! Settings of the host's kernel that networks need, and what they were before (the kernel's `ip-sysctl`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Refusal;
use crate::network::is_ours;

const SYSTEM: &str = "/proc/sys";
const INTERFACES: &str = "/sys/class/net";
/// Packets go from one interface to another.
const FORWARD_V4: &str = "net/ipv4/ip_forward";
const FORWARD_V6: &str = "net/ipv6/conf/all/forwarding";
/// Below it, each interface has a directory.
const PER_INTERFACE_V6: &str = "net/ipv6/conf";

/// Lets the host forward, and remembers in `before` what was another.
pub(crate) fn forward(before: &mut BTreeMap<String, String>, v6: bool) -> Result<(), Refusal> {
    set(before, FORWARD_V4, "1")?;
    if !v6 {
        return Ok(());
    }
    // A host that forwards takes no routes from routers any more, unless it is told to all the same (2): before it forwards, or
    // it would lose its way out.
    for interface in names(Path::new(SYSTEM).join(PER_INTERFACE_V6))? {
        let setting = format!("{PER_INTERFACE_V6}/{interface}/accept_ra");
        if read(&setting)? == "1" {
            set(before, &setting, "2")?;
        }
    }
    set(before, FORWARD_V6, "1")
}

/// Makes the settings what they were, unless another program's network has come to need them.
pub(crate) fn restore(before: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    let foreign = names(INTERFACES.into())?
        .into_iter()
        .any(|name| !is_ours(&name) && Path::new(INTERFACES).join(name).join("bridge").exists());
    // Forwarding first: then the routers' routes are taken again as before.
    let forwards = |setting: &String| ![FORWARD_V4, FORWARD_V6].contains(&setting.as_str());
    let mut settings: Vec<String> = before.keys().cloned().collect();
    settings.sort_by_key(forwards);
    for setting in settings {
        let Some(value) = before.get(&setting) else { continue };
        // An interface may have gone meanwhile.
        if !foreign && Path::new(SYSTEM).join(&setting).exists() {
            write(&setting, value)?;
        }
        before.remove(&setting);
    }
    Ok(())
}

fn set(before: &mut BTreeMap<String, String>, setting: &str, value: &str) -> Result<(), Refusal> {
    let now = read(setting)?;
    if now == value {
        return Ok(());
    }
    before.entry(setting.to_owned()).or_insert(now);
    write(setting, value)
}

fn read(setting: &str) -> Result<String, Refusal> {
    let path = Path::new(SYSTEM).join(setting);
    let text = std::fs::read_to_string(&path).map_err(Refusal::file("cannot read", path))?;
    Ok(text.trim().to_owned())
}

fn write(setting: &str, value: &str) -> Result<(), Refusal> {
    let path = Path::new(SYSTEM).join(setting);
    std::fs::write(&path, value).map_err(Refusal::file("cannot write", path))
}

fn names(directory: PathBuf) -> Result<Vec<String>, Refusal> {
    let entries = std::fs::read_dir(&directory).map_err(Refusal::file("cannot read", directory))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}
