//! Settings of the host's kernel that networks need, and what they were before (the kernel's `ip-sysctl`).

mod configuration;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::Refusal;
use crate::network::is_ours;
use crate::tool::IP;

const SYSTEM: &str = "/proc/sys";
const INTERFACES: &str = "/sys/class/net";
/// Packets go from one interface to another.
pub(crate) const FORWARD_V4: &str = "net/ipv4/ip_forward";
pub(crate) const FORWARD_V6: &str = "net/ipv6/conf/all/forwarding";
/// Below it, each interface has a directory.
const PER_INTERFACE_V6: &str = "net/ipv6/conf";

/// What has to be another than it is.
#[derive(Debug)]
pub(crate) struct Changes(Vec<(String, &'static str)>);

/// Finds out what has to change for the host to forward, and remembers in `before` what it was, and in `bridges` whose bridges did without.
/// Nothing is changed yet: what is remembered has to be written down first.
pub(crate) fn to_forward(
    before: &mut BTreeMap<String, String>,
    bridges: &mut BTreeSet<String>,
    v6: bool,
) -> Result<Changes, Refusal> {
    if before.is_empty() {
        *bridges = others_bridges()?;
    }
    let mut wanted = vec![(FORWARD_V4.to_owned(), "1")];
    // A host that forwards takes no routes from routers any more, unless it is told to all the same (2): before it forwards, or it
    // would lose its way out. One that forwards already, and not because of us, has made its choice.
    if v6 && (read(FORWARD_V6)? != "1" || before.contains_key(FORWARD_V6)) {
        for interface in with_routers_route()? {
            let setting = format!("{PER_INTERFACE_V6}/{interface}/accept_ra");
            if read(&setting)? == "1" {
                wanted.push((setting, "2"));
            }
        }
        wanted.push((FORWARD_V6.to_owned(), "1"));
    }
    let mut changes = Vec::new();
    for (setting, value) in wanted {
        let now = read(&setting)?;
        if now != value {
            before.entry(setting.clone()).or_insert(now);
            changes.push((setting, value));
        }
    }
    Ok(Changes(changes))
}

impl Changes {
    /// Makes them.
    pub(crate) fn make(self) -> Result<(), Refusal> {
        self.0.iter().try_for_each(|(setting, value)| write(setting, value))
    }
}

/// Whether this host's kernel has IPv6.
pub(crate) fn has_v6() -> bool {
    Path::new(SYSTEM).join(FORWARD_V6).exists()
}

/// Returns the interfaces over which a router has given this host its way out.
fn with_routers_route() -> Result<Vec<String>, Refusal> {
    let routes = IP.run(&["-6", "route", "show", "default", "proto", "ra"], "")?;
    let interface =
        |line: &str| line.split_whitespace().skip_while(|word| *word != "dev").nth(1).map(str::to_owned);
    Ok(routes.lines().filter_map(interface).filter(|name| !name.contains('/')).collect())
}

/// Whether packets go from one interface to another because of our networks alone: it was off before them, and nobody's configuration has
/// come to want it since.
pub(crate) fn is_ours_alone(before: &BTreeMap<String, String>, setting: &str) -> bool {
    before.contains_key(setting) && configuration::wanted(setting).is_none_or(|value| value == "0")
}

/// Makes the settings what they were, unless another program's network has come to need them, or the host's administrator.
pub(crate) fn restore(
    before: &mut BTreeMap<String, String>,
    bridges: &mut BTreeSet<String>,
) -> Result<(), Refusal> {
    let foreign = !others_bridges()?.is_subset(bridges);
    // Forwarding first: then the routers' routes are taken again as before.
    let forwards = |setting: &String| ![FORWARD_V4, FORWARD_V6].contains(&setting.as_str());
    let mut settings: Vec<String> = before.keys().cloned().collect();
    settings.sort_by_key(forwards);
    for setting in settings {
        let Some(value) = before.get(&setting) else { continue };
        // An interface may have gone meanwhile.
        let is_wanted = configuration::wanted(&setting).is_some_and(|wanted| wanted != *value);
        if !foreign && !is_wanted && Path::new(SYSTEM).join(&setting).exists() {
            write(&setting, value)?;
        }
        before.remove(&setting);
    }
    bridges.clear();
    Ok(())
}

/// Returns the bridges of containers and of other VMs.
fn others_bridges() -> Result<BTreeSet<String>, Refusal> {
    let is_bridge = |name: &String| Path::new(INTERFACES).join(name).join("bridge").exists();
    let names = names(INTERFACES.into())?.into_iter();
    Ok(names.filter(|name| !is_ours(name) && is_bridge(name)).collect())
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
