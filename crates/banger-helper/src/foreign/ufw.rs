//! ufw(8). Its rules are kept by it, and are in force again when it has loaded them anew.

use super::{Terms, chain};
use crate::error::Refusal;
use crate::tool::{IPTABLES, UFW};

/// A rule as one types it.
struct Rule {
    /// Whether it is about what is forwarded.
    is_routed: bool,
    words: Vec<String>,
}

/// Our rules: what goes from a network elsewhere, and its guests' questions for names.
fn rules(terms: &Terms) -> [Rule; 2] {
    let from = ["allow", "in", "on", &terms.bridge];
    let (gateway, port) = (terms.gateway.to_string(), terms.names_port.to_string());
    let to = ["to", &gateway, "port", &port];
    let words = |parts: &[&[&str]]| parts.concat().into_iter().map(str::to_owned).collect();
    [Rule { is_routed: true, words: words(&[&from]) }, Rule { is_routed: false, words: words(&[&from, &to]) }]
}

pub(super) fn admit(terms: &Terms) -> Result<(), Refusal> {
    // It is slow, and mostly there is nothing to do.
    let Terms { bridge, gateway, names_port, mark } = terms;
    let is_forwarded = chain(IPTABLES, "ufw-user-forward")?.contains(&format!("-i {bridge} -j ACCEPT"));
    let (whose, port) = (format!("-d {gateway}/32 -i {bridge} "), format!("--dport {names_port} "));
    let is_asked = |line: &str| line.contains(&whose) && line.contains(&port);
    if !is_forwarded || !chain(IPTABLES, "ufw-user-input")?.lines().any(is_asked) {
        for rule in rules(terms) {
            run(&rule, None, &["comment", mark])?;
        }
    }
    Ok(())
}

pub(super) fn dismiss(terms: &Terms) -> Result<(), Refusal> {
    for rule in rules(terms) {
        match run(&rule, Some("delete"), &[]) {
            // It has been removed from the host meanwhile, and its rules with it.
            Err(Refusal::NoTool(_)) => {}
            other => other?,
        }
    }
    Ok(())
}

fn run(rule: &Rule, verb: Option<&str>, more: &[&str]) -> Result<(), Refusal> {
    let route = rule.is_routed.then_some("route");
    let words = rule.words.iter().map(String::as_str);
    let words: Vec<&str> = route.into_iter().chain(verb).chain(words).chain(more.iter().copied()).collect();
    UFW.run(&words, "").map(drop)
}
