//! firewalld(1): the bridge is in its zone `trusted`, in force and for good, so that it stays there when firewalld loads its rules anew.

use super::Terms;
use crate::error::Refusal;
use crate::tool::{FIREWALL_CMD, NFT};

/// The name of its table.
pub(super) const TABLE: &str = "firewalld";
const ZONE: &str = "--zone=trusted";

pub(super) fn admit(terms: &Terms) -> Result<(), Refusal> {
    // It is slow, and mostly there is nothing to do.
    let rules = NFT.run(&["list", "chain", "inet", TABLE, "filter_FORWARD_ZONES"], "");
    let place = format!("iifname \"{}\" goto filter_FWD_trusted", terms.bridge);
    if rules.is_ok_and(|text| text.contains(&place)) {
        return Ok(());
    }
    let interface = format!("--change-interface={}", terms.bridge);
    FIREWALL_CMD.run(&["--quiet", "--permanent", ZONE, &interface], "")?;
    FIREWALL_CMD.run(&["--quiet", ZONE, &interface], "").map(drop)
}

pub(super) fn dismiss(terms: &Terms) -> Result<(), Refusal> {
    let query = format!("--query-interface={}", terms.bridge);
    let remove = format!("--remove-interface={}", terms.bridge);
    for lasting in [&["--permanent"][..], &[]] {
        let ask = |last: &str| FIREWALL_CMD.run(&[lasting, &[ZONE, last]].concat(), "");
        // It says no as well when it does not run.
        if ask(&query).is_ok() {
            ask(&remove)?;
        }
    }
    Ok(())
}
