//! Docker, which drops what is forwarded but for its own containers' (Docker's manual, "Packet filtering and firewalls"). Its chain
//! for others' rules outlives its restarts.

use super::{Terms, chain, families};
use crate::error::Refusal;
use crate::tool::Tool;

const CHAIN: &str = "DOCKER-USER";

/// Our rules: out of the bridge everything, into it what answers.
fn rules(terms: &Terms) -> [Vec<&str>; 2] {
    let (bridge, mark) = (terms.bridge.as_str(), terms.mark.as_str());
    [
        vec!["-i", bridge, "-m", "comment", "--comment", mark, "-j", "ACCEPT"],
        vec![
            "-o",
            bridge,
            "-m",
            "conntrack",
            "--ctstate",
            "RELATED,ESTABLISHED",
            "-m",
            "comment",
            "--comment",
            mark,
            "-j",
            "ACCEPT",
        ],
    ]
}

pub(super) fn admit(terms: &Terms) -> Result<(), Refusal> {
    for tool in families(CHAIN) {
        for rule in rules(terms) {
            if !is_there(tool, &rule) {
                insert(tool, &rule)?;
            }
        }
    }
    Ok(())
}

pub(super) fn dismiss(terms: &Terms) -> Result<(), Refusal> {
    for tool in families(CHAIN) {
        for rule in rules(terms) {
            while is_there(tool, &rule) {
                change(tool, "-D", &rule)?;
            }
        }
    }
    Ok(())
}

/// Puts a rule after what its administrator has there, but before a last word that the rest may go on to Docker's.
fn insert(tool: Tool, rule: &[&str]) -> Result<(), Refusal> {
    let rules = chain(tool, CHAIN)?;
    let rules: Vec<&str> = rules.lines().filter(|line| line.starts_with("-A ")).collect();
    let place = rules.len().to_string();
    match rules.last() {
        Some(last) if last.ends_with("-j RETURN") && last.split(' ').count() == 4 => {
            tool.run(&[&["-w", "5", "-I", CHAIN, &place], rule].concat(), "").map(drop)
        }
        _ => change(tool, "-A", rule),
    }
}

fn is_there(tool: Tool, rule: &[&str]) -> bool {
    change(tool, "-C", rule).is_ok()
}

fn change(tool: Tool, verb: &str, rule: &[&str]) -> Result<(), Refusal> {
    tool.run(&[&["-w", "5", verb, CHAIN], rule].concat(), "").map(drop)
}
