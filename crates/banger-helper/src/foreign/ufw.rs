//! ufw(8). Its rules are kept by it, and are in force again when it has loaded them anew.

use super::{Terms, chain};
use crate::error::Refusal;
use crate::tool::{IPTABLES, UFW};

/// Rules as one types them: what goes from a network elsewhere, and its guests' questions for names.
fn rules(terms: &Terms) -> [(bool, Vec<&str>, String); 2] {
    let bridge = terms.bridge.as_str();
    let gateway = terms.gateway.to_string();
    [
        (true, vec!["allow", "in", "on", bridge], String::new()),
        (false, vec!["allow", "in", "on", bridge, "to"], gateway),
    ]
}

pub(super) fn admit(terms: &Terms) -> Result<(), Refusal> {
    // It is slow, and mostly there is nothing to do.
    let (bridge, gateway) = (&terms.bridge, terms.gateway);
    let is_forwarded = chain(IPTABLES, "ufw-user-forward")?.contains(&format!("-i {bridge} -j ACCEPT"));
    let asked = chain(IPTABLES, "ufw-user-input")?;
    if !is_forwarded || !asked.contains(&format!("-d {gateway}/32 -i {bridge} ")) {
        for (is_routed, rule, gateway) in rules(terms) {
            run(is_routed, None, &rule, &gateway, Some(&terms.mark))?;
        }
    }
    Ok(())
}

pub(super) fn dismiss(terms: &Terms) -> Result<(), Refusal> {
    for (is_routed, rule, gateway) in rules(terms) {
        match run(is_routed, Some("delete"), &rule, &gateway, None) {
            // It has been removed from the host meanwhile, and its rules with it.
            Err(Refusal::NoTool(_)) => {}
            other => other?,
        }
    }
    Ok(())
}

fn run(
    is_routed: bool,
    verb: Option<&str>,
    rule: &[&str],
    gateway: &str,
    mark: Option<&str>,
) -> Result<(), Refusal> {
    let mut words: Vec<&str> = if is_routed { vec!["route"] } else { Vec::new() };
    words.extend(verb);
    words.extend(rule);
    if !gateway.is_empty() {
        words.extend([gateway, "port", "53"]);
    }
    words.extend(mark.into_iter().flat_map(|mark| ["comment", mark]));
    UFW.run(&words, "").map(drop)
}
