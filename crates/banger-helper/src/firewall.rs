//! What may go where: nftables(8), two tables for each user, of which each change replaces the whole at once.
//!
//! An accept here lets a packet go on to other tables; a drop, here or there, is the end of it.

use std::fmt::Write as _;

use banger_names::NAME_PORT;

use crate::allocation;
use crate::device;
use crate::error::Refusal;
use crate::network::{self, BRIDGE, DEVICE};
use crate::state::{State, User, Vm};
use crate::sysctl;
use crate::tool::NFT;

/// How the names of tables begin; the user's number follows.
const TABLE: &str = "banger-";
/// How the names of the tables begin in which connections are counted.
const COUNTS: &str = "banger-count-";
/// The table that is no user's.
const HOST_TABLE: &str = "banger";
/// Families of which each user has a table.
const FAMILIES: [&str; 2] = ["inet", "bridge"];
/// Addresses that are nobody's beyond a host (RFC 6890), and where clouds keep what they tell a machine about itself.
const NOT_OF_THE_WORLD: &str = "{ 0.0.0.0/8, 100.100.100.200, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, \
                                192.0.0.192, 224.0.0.0/4, 240.0.0.0/4 }";
const NOT_OF_THE_WORLD_V6: &str =
    "{ ::/8, fd00:42::42, fd00:c1::a9fe:a9fe, fd00:ec2::/32, fd20:ce::254, fe80::/10, ff00::/8 }";

/// Returns the name of a user's tables, which is our mark in others', too.
pub(crate) fn table(uid: u32) -> String {
    format!("{TABLE}{uid}")
}

/// Most connections that a VM may have at a time, by the kernel's count: what it remembers of connections (`nf_conntrack_max`, 65,536
/// or more) is the whole host's. Those that are closed do not count.
const MOST_CONNECTIONS: u32 = 8_192;
/// Most connections of all VMs of a user.
const MOST_OF_NETWORK: u32 = 24_576;
/// Addresses of IPv6 that VMs have: one on their link as well.
const MOST_SOURCES_V6: u32 = 2 * MOST_VMS;
/// Most VMs of a network: its addresses.
const MOST_VMS: u32 = 256;

/// Puts a user's rules in force.
pub(crate) fn apply(uid: u32, user: &User) -> Result<(), Refusal> {
    NFT.run(&["-f", "-"], &format!("{}{}", counts(uid), rules(uid, user))).map(drop)
}

/// Takes a user's rules away, if there are some.
pub(crate) fn remove(uid: u32) -> Result<(), Refusal> {
    let counted = format!("add table inet {COUNTS}{uid}\ndelete table inet {COUNTS}{uid}\n");
    NFT.run(&["-f", "-"], &format!("{}{counted}", removal(uid))).map(drop)
}

/// The limits of connections, in a table that stays when the rules are replaced: what was counted is counted on.
fn counts(uid: u32) -> String {
    let (table, bridge) = (format!("inet {COUNTS}{uid}"), network::bridge(uid));
    format!(
        "add table {table}
add set {table} vms {{ type ipv4_addr; size {MOST_VMS}; flags dynamic; }}
add set {table} vms_v6 {{ type ipv6_addr; size {MOST_SOURCES_V6}; flags dynamic; }}
add set {table} network {{ type ifname; size 1; flags dynamic; }}
add chain {table} prerouting {{ type filter hook prerouting priority mangle - 1; policy accept; }}
flush chain {table} prerouting
add rule {table} prerouting iifname != \"{bridge}\" accept
add rule {table} prerouting ct state new add @network {{ iifname ct count over {MOST_OF_NETWORK} }} drop
add rule {table} prerouting ct state new add @vms {{ ip saddr ct count over {MOST_CONNECTIONS} }} drop
add rule {table} prerouting ct state new add @vms_v6 {{ ip6 saddr ct count over {MOST_CONNECTIONS} }} drop
"
    )
}

/// Puts the rules in force that are nobody's: a host that goes from interface to interface because of us alone does so for our
/// networks, and for the bridges of containers and of other VMs that have come since; not for whoever of its neighbours sends it something.
pub(crate) fn apply_host(state: &State) -> Result<(), Refusal> {
    NFT.run(&["-f", "-"], &host_rules(state)).map(drop)
}

/// Takes those away, if there are some.
pub(crate) fn remove_host() -> Result<(), Refusal> {
    NFT.run(&["-f", "-"], &format!("add table inet {HOST_TABLE}\ndelete table inet {HOST_TABLE}\n")).map(drop)
}

fn host_rules(state: &State) -> String {
    let mut drops = String::new();
    for (setting, family) in [(sysctl::FORWARD_V4, "ipv4"), (sysctl::FORWARD_V6, "ipv6")] {
        if sysctl::is_ours_alone(&state.settings, setting) {
            let _ = writeln!(drops, "    meta nfproto {family} drop");
        }
    }
    format!(
        "add table inet {HOST_TABLE}\ndelete table inet {HOST_TABLE}\ntable inet {HOST_TABLE} {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname \"{BRIDGE}*\" accept
    oifname \"{BRIDGE}*\" accept
    meta iifkind \"bridge\" accept
    meta oifkind \"bridge\" accept
{drops}  }}
}}
"
    )
}

/// Removes tables that are there, or not: what is added is there.
fn removal(uid: u32) -> String {
    let table =
        |family: &&str| format!("add table {family} {TABLE}{uid}\ndelete table {family} {TABLE}{uid}\n");
    FAMILIES.iter().map(table).collect()
}

/// Returns a user's rules, as one transaction.
fn rules(uid: u32, user: &User) -> String {
    let mut text = removal(uid);
    text.push_str(&routed(uid, user));
    text.push_str(&bridged(uid, user));
    text
}

/// The rules of what is routed: to the host, through it, and from it.
fn routed(uid: u32, user: &User) -> String {
    let (bridge, block, gateway) = (network::bridge(uid), user.block, allocation::gateway(user.block));
    let names_port = user.names_port;
    let gateway_v6 = network::describe(uid, user).gateway_v6;
    let [v6, gateway_v6, masquerade_v6, stray_v6, strangers_v6] =
        if let (Some(first), Some((gateway, _))) = (user.v6, gateway_v6) {
            [
                format!("ip6 saddr != {{ ::/128, fe80::/10, {first}/64 }} drop"),
                format!("ip6 daddr {gateway} icmpv6 type echo-request accept"),
                format!("ip6 saddr {first}/64 oifname != \"{bridge}\" masquerade"),
                format!("ip6 daddr {first}/64 ip6 daddr != @members_v6 drop"),
                format!("iifname != {{ \"{bridge}\", \"lo\" }} ip6 daddr {first}/64 drop"),
            ]
        } else {
            ["meta nfproto ipv6 drop", "", "", "", ""].map(str::to_owned)
        };
    let (trusted, trusted_v6) = sets(user, |vm| vm.allow_host);
    let (alone, alone_v6) = sets(user, |vm| !vm.reaches_others);
    let (members, members_v6) = members(uid, user);
    // Before anybody's rules translate a destination, and after it is known what answers to what: what is the host's own stays the
    // host's, though a container has its port. A frame that no bridge has taken is nobody's. Questions for names come to who answers them
    // here, wherever that listens, and not to whom others translate that port to.
    format!(
        "table inet {TABLE}{uid} {{
  set trusted {{ {trusted} }}
  set trusted_v6 {{ {trusted_v6} }}
  set alone {{ {alone} }}
  set alone_v6 {{ {alone_v6} }}
  set members {{ {members} }}
  set members_v6 {{ {members_v6} }}
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    iifname \"{DEVICE}*\" drop
    iifname != {{ \"{bridge}\", \"lo\" }} ip daddr {block} drop
    {strangers_v6}
    iifname != \"{bridge}\" accept
    ip saddr != {block} drop
    {v6}
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ct state established,related accept
    ip daddr {block} ip daddr != @members drop
    {stray_v6}
    ip daddr {gateway} icmp type echo-request accept
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport {NAME_PORT} accept
    {gateway_v6}
    ip daddr {NOT_OF_THE_WORLD} drop
    ip6 daddr {NOT_OF_THE_WORLD_V6} drop
    fib daddr type local ip saddr != @trusted drop
    fib daddr type local ip6 saddr != @trusted_v6 drop
  }}
  chain names {{
    type nat hook prerouting priority dstnat - 10; policy accept;
    iifname \"{bridge}\" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport {NAME_PORT} redirect to :{names_port}
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname \"{DEVICE}*\" drop
    iifname != \"{bridge}\" accept
    ct state established,related ct direction reply accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    ip saddr @trusted accept
    ip6 saddr @trusted_v6 accept
    ip daddr {gateway} icmp type echo-request accept
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport {names_port} accept
    {gateway_v6}
    reject with icmpx admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname \"{bridge}\" oifname \"{bridge}\" ip saddr != @alone ip daddr != @alone accept
    iifname \"{bridge}\" oifname \"{bridge}\" ip6 saddr != @alone_v6 ip6 daddr != @alone_v6 accept
    iifname \"{bridge}\" oifname \"{BRIDGE}*\" reject with icmpx admin-prohibited
    iifname \"{bridge}\" meta oifkind \"bridge\" oifname != \"{bridge}\" reject with icmpx admin-prohibited
    iifname \"{bridge}\" accept
    oifname \"{bridge}\" ct state established,related accept
    oifname \"{bridge}\" reject with icmpx admin-prohibited
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    ip daddr {gateway} meta skuid != {{ 0, {uid} }} reject with icmpx admin-prohibited
    oifname \"{bridge}\" ct state established,related accept
    oifname \"{bridge}\" meta skuid != {{ 0, {uid} }} reject with icmpx admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {block} oifname != \"{bridge}\" masquerade
    {masquerade_v6}
  }}
}}
"
    )
}

/// Returns two sets, one for each family, of the addresses that there are in a network. The host asks for no others: what it does not
/// know of its neighbours it remembers for a while, for all of its networks together.
fn members(uid: u32, user: &User) -> (String, String) {
    let network = network::describe(uid, user);
    let v4 = user.vms.values().map(|vm| vm.address).chain([network.gateway]);
    let v6 = user.vms.values().filter_map(|vm| device::address_v6(user, vm));
    let v6 = v6.chain(network.gateway_v6.map(|(address, _)| address));
    let text = |addresses: Vec<String>, kind| set(kind, &addresses);
    (
        text(v4.map(|address| address.to_string()).collect(), "ipv4_addr"),
        text(v6.map(|address| address.to_string()).collect(), "ipv6_addr"),
    )
}

/// Returns two sets, one for each family, of the addresses of the VMs that `belongs` says.
fn sets(user: &User, belongs: impl Fn(&Vm) -> bool) -> (String, String) {
    let vms = || user.vms.values().filter(|vm| belongs(vm));
    let v4: Vec<String> = vms().map(|vm| vm.address.to_string()).collect();
    let v6: Vec<String> =
        vms().filter_map(|vm| device::address_v6(user, vm)).map(|address| address.to_string()).collect();
    (set("ipv4_addr", &v4), set("ipv6_addr", &v6))
}

/// Returns what a set is, with these elements.
fn set(kind: &str, elements: &[String]) -> String {
    if elements.is_empty() {
        return format!("type {kind};");
    }
    format!("type {kind}; elements = {{ {} }}", elements.join(", "))
}

/// The rules between devices: nobody is anybody else, and who is to be alone is.
fn bridged(uid: u32, user: &User) -> String {
    let (mut who, mut alone) = (String::new(), String::new());
    for vm in user.vms.values() {
        let (device, mac, address) = (device::name(vm), device::mac(vm), vm.address);
        // Writing into a string cannot fail.
        let _ = writeln!(who, "    iifname \"{device}\" ether saddr != {mac} drop");
        let _ = writeln!(who, "    iifname \"{device}\" arp saddr ether != {mac} drop");
        let _ = writeln!(who, "    iifname \"{device}\" arp saddr ip != {address} drop");
        let _ = writeln!(who, "    iifname \"{device}\" ip saddr != {address} drop");
        match device::address_v6(user, vm) {
            None => drop(writeln!(who, "    iifname \"{device}\" ether type ip6 drop")),
            Some(address) => {
                let link = device::link_local(vm);
                let _ =
                    writeln!(who, "    iifname \"{device}\" ip6 saddr != {{ ::, {link}, {address} }} drop");
                // Whose address is told of to neighbours, or asked for before it is had (RFC 4861 section 4.4, RFC 4862 section 5.4).
                let others =
                    [address, link].map(|own| format!("@th,64,128 != {:#034x}", own.to_bits())).join(" ");
                let _ =
                    writeln!(who, "    iifname \"{device}\" icmpv6 type nd-neighbor-advert {others} drop");
                let _ = writeln!(
                    who,
                    "    iifname \"{device}\" ip6 saddr :: icmpv6 type nd-neighbor-solicit {others} drop"
                );
            }
        }
        if !vm.reaches_others {
            let _ = writeln!(alone, "    iifname \"{device}\" oifname \"{DEVICE}*\" drop");
            let _ = writeln!(alone, "    oifname \"{device}\" iifname \"{DEVICE}*\" drop");
        }
    }
    format!(
        "table bridge {TABLE}{uid} {{
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname != \"{DEVICE}*\" accept
    ether type != {{ arp, ip, ip6 }} drop
    udp sport 67 drop
    icmpv6 type {{ nd-router-advert, nd-redirect }} drop
{who}  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{alone}  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use banger_types::VmId;

    use super::*;

    fn vm(last: u8, allow_host: bool, reaches_others: bool) -> Vm {
        Vm {
            device: u32::from(last) - 1,
            address: Ipv4Addr::new(10, 213, 0, last),
            allow_host,
            reaches_others,
            name: "web.banger".into(),
            jail: None,
        }
    }

    fn user(v6: Option<&str>) -> User {
        let vms = [(VmId::from_random(1), vm(2, false, true)), (VmId::from_random(2), vm(3, true, false))];
        User {
            label: "alice".to_owned(),
            block: "10.213.0.0/24".parse().unwrap(),
            v6: v6.map(|text| text.parse().unwrap()),
            names: None,
            names_port: 600,
            told: [].into(),
            vms: vms.into(),
        }
    }

    #[test]
    fn a_change_replaces_all_rules_at_once() {
        assert!(rules(1001, &user(None)).starts_with(
            "add table inet banger-1001\ndelete table inet banger-1001\nadd table bridge banger-1001\ndelete table bridge banger-1001\n\
             table inet banger-1001 {"
        ));
    }

    #[test]
    fn only_the_trusted_reach_the_host() {
        let text = rules(1001, &user(Some("fd00::")));
        assert!(text.contains("set trusted { type ipv4_addr; elements = { 10.213.0.3 } }"), "{text}");
        assert!(text.contains("set trusted_v6 { type ipv6_addr; elements = { fd00::3 } }"), "{text}");
        assert!(
            rules(1001, &User { vms: [].into(), ..user(None) }).contains("set trusted { type ipv4_addr; }")
        );
    }

    #[test]
    fn questions_for_names_come_to_where_they_are_answered() {
        let text = rules(1001, &user(None));
        for line in [
            "ip daddr 10.213.0.1 meta l4proto { tcp, udp } th dport 53 redirect to :600",
            "ip daddr 10.213.0.1 meta l4proto { tcp, udp } th dport 600 accept",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line}: {text}");
        }
    }

    #[test]
    fn nobody_is_anybody_else() {
        let text = rules(1001, &user(None));
        for line in [
            "iifname \"bgt1\" ether saddr != 02:62:67:d5:00:02 drop",
            "iifname \"bgt1\" ip saddr != 10.213.0.2 drop",
            "iifname \"bgt1\" arp saddr ip != 10.213.0.2 drop",
            "iifname \"bgt1\" ether type ip6 drop",
            "iifname \"bgt2\" oifname \"bgt*\" drop",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("iifname \"bgt1\" oifname"), "{text}");
    }

    /// nft(8) itself reads them, and changes nothing.
    #[test]
    fn nftables_understands_them() {
        const TEST: &str = "nftables_understands_them";
        let settings = [sysctl::FORWARD_V4, sysctl::FORWARD_V6].map(|name| (name.to_owned(), "0".to_owned()));
        let mut forwarding = State::default();
        forwarding.settings.extend(settings);
        let hosts = [State::default(), forwarding];
        let users = [user(None), user(Some("fd00::")), User { vms: [].into(), ..user(None) }];
        let texts = users
            .iter()
            .map(|user| format!("{}{}", counts(1001), rules(1001, user)))
            .chain(hosts.iter().map(host_rules));
        for text in texts {
            match NFT.run(&["--check", "-f", "-"], &text) {
                Ok(_) => {}
                Err(Refusal::NoTool(_)) => return banger_testkit::not_run(TEST, "there is no nft"),
                Err(Refusal::Tool { reason, .. }) if lacks_kernel(&reason) => {
                    return banger_testkit::not_run(TEST, &reason);
                }
                Err(error) => panic!("{error}\n{text}"),
            }
        }
    }

    /// Whether it is not the rules that are wrong, but this kernel or who this is.
    fn lacks_kernel(reason: &str) -> bool {
        [
            "Operation not permitted",
            "Operation not supported",
            "cache initialization failed",
            "Protocol not supported",
        ]
        .iter()
        .any(|words| reason.contains(words))
    }
}
