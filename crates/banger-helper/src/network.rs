//! Bridges.

use std::net::Ipv6Addr;
use std::path::Path;

use banger_types::helper::UserNetwork;

use crate::allocation;
use crate::device;
use crate::error::Refusal;
use crate::state::User;
use crate::tool::IP;

/// How the names of bridges begin; the user's number follows, so that they have at most 13 of the 15 characters that there are.
pub(crate) const BRIDGE: &str = "bgr";
/// How the names of devices begin; the VM's id follows.
pub(crate) const DEVICE: &str = "bgt";
/// Length of the prefix of networks of IPv6, bits.
const PREFIX_V6: u8 = 64;

/// Returns the name of a user's bridge.
pub(crate) fn bridge(uid: u32) -> String {
    format!("{BRIDGE}{uid}")
}

/// Whether an interface of this name is one that the helper makes. No user can make another of such a name.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(BRIDGE) || name.starts_with(DEVICE)
}

/// Returns a user's network as its owner sees it.
pub(crate) fn describe(uid: u32, user: &User) -> UserNetwork {
    UserNetwork {
        bridge: bridge(uid),
        block: user.block,
        gateway: allocation::gateway(user.block),
        gateway_v6: gateway_v6(user).map(|address| (address, PREFIX_V6)),
        name_server: user.names.map(|server| server.pid),
    }
}

/// Returns the gateway's address of IPv6.
fn gateway_v6(user: &User) -> Option<Ipv6Addr> {
    user.v6.map(|first| Ipv6Addr::from_bits(first.to_bits() | 1))
}

/// Makes a user's bridge what it has to be.
pub(crate) fn ensure(uid: u32, user: &User) -> Result<(), Refusal> {
    let (name, gateway) = (bridge(uid), allocation::gateway(user.block));
    let mut batch = Vec::new();
    if !exists(&name) {
        // No protocol between bridges, and nothing to wait for before frames pass: there is one bridge, and no loop.
        // With an address of its own: else it is that of its first device, and another when that goes.
        let mac = device::mac_of(gateway);
        let quiet = "stp_state 0 forward_delay 0 mcast_snooping 0 no_linklocal_learn 1";
        batch.push(format!("link add name {name} address {mac} type bridge {quiet}"));
    }
    batch.push(format!("address replace {gateway}/{} dev {name}", user.block.prefix()));
    if let Some(gateway) = gateway_v6(user) {
        batch.push(format!("address replace {gateway}/{PREFIX_V6} dev {name} nodad"));
    }
    batch.push(format!("link set dev {name} up\n"));
    IP.run(&["-batch", "-"], &batch.join("\n"))?;
    // The host's other addresses are told to nobody there (the kernel's `ip-sysctl`, "arp_ignore").
    let setting = format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore");
    std::fs::write(&setting, "1").map_err(Refusal::file("cannot write", setting))
}

/// Takes a user's bridge away, if it is there.
pub(crate) fn remove(uid: u32) -> Result<(), Refusal> {
    remove_link(&bridge(uid))
}

/// Takes an interface of ours away, if it is there.
pub(crate) fn remove_link(name: &str) -> Result<(), Refusal> {
    if exists(name) { IP.run(&["link", "delete", "dev", name], "").map(drop) } else { Ok(()) }
}

/// Whether there is an interface of this name.
pub(crate) fn exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough_for_interfaces() {
        assert_eq!(bridge(u32::MAX).len(), 13);
        assert!(is_ours(&bridge(0)) && is_ours("bgt0123456789ab") && !is_ours("br0") && !is_ours("eth0"));
        assert_eq!("bgt0123456789ab".len(), 15);
    }
}
