//! The host's ways out, as the kernel shows them (`proc_net(5)`).

use banger_core::network::DefaultRoutes;

/// What a route's flags say of one that refuses: `RTF_REJECT` (the kernel's `route.h`).
const REJECTS: u32 = 0x0200;

/// Returns the interfaces of the default routes that there are now.
pub fn default_routes() -> DefaultRoutes {
    let read = |table: &str| fs_err::read_to_string(table).unwrap_or_default();
    DefaultRoutes { v4: v4(&read("/proc/net/route")), v6: v6(&read("/proc/net/ipv6_route")) }
}

/// Interface, destination, gateway, flags, references, uses, metric, mask, …; numbers in hexadecimal.
fn v4(table: &str) -> Option<String> {
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[interface, destination, _, flags, _, _, _, mask, ..] = fields.as_slice() else { return None };
        let is_default = destination == "00000000" && mask == "00000000";
        (is_default && leads_out(flags)).then(|| interface.to_owned())
    };
    table.lines().find_map(default)
}

/// Destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags, interface.
fn v6(table: &str) -> Option<String> {
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[destination, "00", _, _, _, _, _, _, flags, interface] = fields.as_slice() else { return None };
        let is_default = destination.bytes().all(|digit| digit == b'0') && interface != "lo";
        (is_default && leads_out(flags)).then(|| interface.to_owned())
    };
    table.lines().find_map(default)
}

fn leads_out(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECTS == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_out_is_a_default_route_that_does_not_refuse() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     *\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n\
                     wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n";
        assert_eq!(v4(table).as_deref(), Some("wlan0"));
        assert_eq!(v4(""), None);
        let none = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff \
                    00000001 00000000 00200200       lo\n";
        assert_eq!(v6(none), None);
        let eth0 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 \
                    00000001 00000000 00000003     eth0\n";
        assert_eq!(v6(&format!("{none}{eth0}")).as_deref(), Some("eth0"));
    }
}
