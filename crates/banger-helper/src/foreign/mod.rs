//! Other programs' firewalls. In nftables a drop in any chain is the end of a packet, whatever another chain accepts: so what they
//! would drop of our networks they are told to let through, each in the place that it reserves for that, by rules that bear our
//! mark. Our own tables still say what may pass.
//!
//! Whatever is told to one is written down first, and taken back with the user's last VM; what outlives a restart of the host is written
//! down where that does, too. That it is still so is made sure of at each start of a VM, for Docker may have been restarted and others
//! loaded anew.

mod docker;
mod firewalld;
pub(crate) mod lasting;
mod ufw;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::allocation;
use crate::error::Refusal;
use crate::firewall;
use crate::network;
use crate::state::User;
use crate::tool::{IP6TABLES, IPTABLES, NFT, Tool};

/// A firewall that has a place for others' rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Foreign {
    /// Docker, whose chain `DOCKER-USER` is its administrator's.
    Docker,
    /// ufw(8).
    Ufw,
    /// firewalld(1).
    Firewalld,
}

/// What of a network others are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Terms {
    /// Its bridge.
    bridge: String,
    /// Where its guests ask for names.
    gateway: Ipv4Addr,
    /// The port at which they are answered.
    names_port: u16,
    /// What our rules are known by.
    mark: String,
}

impl Terms {
    fn of(uid: u32, user: &User) -> Self {
        Self {
            bridge: network::bridge(uid),
            gateway: allocation::gateway(user.block),
            names_port: user.names_port,
            mark: firewall::table(uid),
        }
    }
}

impl Foreign {
    const ALL: [Self; 3] = [Self::Docker, Self::Ufw, Self::Firewalld];

    /// Lets a network through, if it is not let through already.
    fn admit(self, terms: &Terms) -> Result<(), Refusal> {
        match self {
            Self::Docker => docker::admit(terms),
            Self::Ufw => ufw::admit(terms),
            Self::Firewalld => firewalld::admit(terms),
        }
    }

    /// Whether it keeps what it is told over a restart of the host.
    const fn is_lasting(self) -> bool {
        matches!(self, Self::Ufw | Self::Firewalld)
    }

    /// Lets it through no more.
    fn dismiss(self, terms: &Terms) -> Result<(), Refusal> {
        match self {
            Self::Docker => docker::dismiss(terms),
            Self::Ufw => ufw::dismiss(terms),
            Self::Firewalld => firewalld::dismiss(terms),
        }
    }
}

/// The other firewalls of this host, as they are now.
#[derive(Debug)]
pub(crate) struct Firewalls {
    found: BTreeSet<Foreign>,
    /// Chains that drop what they do not know, and belong to nobody whom we know.
    unknown: Vec<String>,
}

impl Firewalls {
    /// Looks at the host.
    pub(crate) fn look() -> Result<Self, Refusal> {
        let forward = chain(IPTABLES, "FORWARD")?;
        let chains = chains(&NFT.run(&["-j", "list", "chains"], "")?);
        let is_there = |foreign: &Foreign| match foreign {
            Foreign::Docker => forward.contains("-j DOCKER-USER"),
            Foreign::Ufw => {
                forward.contains("-j ufw-user-forward") || forward.contains("-j ufw-before-forward")
            }
            Foreign::Firewalld => chains.iter().any(|chain| chain.table == firewalld::TABLE),
        };
        let found: BTreeSet<Foreign> = Foreign::ALL.into_iter().filter(is_there).collect();
        let knows_filter = found.contains(&Foreign::Docker) || found.contains(&Foreign::Ufw);
        let mut unknown: Vec<String> = chains
            .iter()
            .filter(|chain| chain.drops && !(knows_filter && chain.is_of_iptables()))
            .map(Chain::to_string)
            .collect();
        // Of the older kind, which nftables does not know of.
        if !knows_filter && forward.contains("-P FORWARD DROP") && unknown.is_empty() {
            unknown.push("FORWARD of iptables".to_owned());
        }
        Ok(Self { found, unknown })
    }

    /// Those that are to be told of our networks.
    pub(crate) const fn found(&self) -> &BTreeSet<Foreign> {
        &self.found
    }

    /// Lets a user's network through. Returns what the user has to know.
    pub(crate) fn admit(&self, uid: u32, user: &User) -> Result<Vec<String>, Refusal> {
        let terms = Terms::of(uid, user);
        lasting::note(uid, &terms, &self.found)?;
        self.found.iter().try_for_each(|foreign| foreign.admit(&terms))?;
        let warning = |chain: &String| {
            let bridge = &terms.bridge;
            format!(
                "the firewall chain {chain} drops what it does not know: let pass what comes from and goes to {bridge}"
            )
        };
        Ok(self.unknown.iter().map(warning).collect())
    }
}

/// Takes back what those were told who were told of a user's network.
pub(crate) fn dismiss(uid: u32, user: &User) -> Result<(), Refusal> {
    let terms = Terms::of(uid, user);
    user.told.iter().try_for_each(|foreign| foreign.dismiss(&terms))?;
    lasting::forget(uid)
}

/// Returns the rules of a chain of iptables(8), as it prints them; nothing where there is none.
fn chain(tool: Tool, name: &str) -> Result<String, Refusal> {
    match tool.run(&["-w", "5", "-S", name], "") {
        Ok(text) => Ok(text),
        // It is not installed, has no such chain, or no such family.
        Err(Refusal::NoTool(_) | Refusal::Tool { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// A chain through which packets go.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    /// Whether it drops what is forwarded and what none of its rules knows.
    drops: bool,
}

impl Chain {
    /// Whether it is one of those that iptables makes by nftables.
    fn is_of_iptables(&self) -> bool {
        ["ip", "ip6"].contains(&self.family.as_str()) && self.table == "filter" && self.name == "FORWARD"
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' of the table '{} {}'", self.name, self.family, self.table)
    }
}

/// Reads what `nft -j list chains` prints (libnftables-json(5)).
fn chains(text: &str) -> Vec<Chain> {
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let entries = document["nftables"].as_array().cloned().unwrap_or_default();
    let word = |chain: &serde_json::Value, field: &str| chain[field].as_str().unwrap_or_default().to_owned();
    let chains = entries.iter().map(|entry| &entry["chain"]).filter(|chain| chain.is_object());
    chains
        .map(|chain| Chain {
            family: word(chain, "family"),
            table: word(chain, "table"),
            name: word(chain, "name"),
            drops: chain["hook"] == "forward" && chain["policy"] == "drop" && chain["family"] != "bridge",
        })
        .collect()
}

/// Whether a tool knows a chain of its family's, for IPv6 may be off.
fn has_chain(tool: Tool, name: &str) -> bool {
    chain(tool, name).is_ok_and(|text| !text.is_empty())
}

/// The tools of both families that have a chain of this name.
fn families(name: &str) -> impl Iterator<Item = Tool> {
    [IPTABLES, IP6TABLES].into_iter().filter(move |tool| has_chain(*tool, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_read_as_nft_prints_them() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "nat", "name": "DOCKER", "handle": 1}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "mine", "name": "fwd", "type": "filter", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "mine", "name": "in", "type": "filter", "hook": "input", "policy": "drop"}}]}"#;
        let found = chains(text);
        assert_eq!(found.iter().map(|chain| chain.drops).collect::<Vec<_>>(), [false, true, true, false]);
        assert!(found[1].is_of_iptables() && !found[2].is_of_iptables());
        assert_eq!(found[2].to_string(), "'fwd' of the table 'inet mine'");
        assert_eq!(chains("no JSON"), []);
    }
}
