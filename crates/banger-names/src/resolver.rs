//! What the host's resolver is told: `resolv.conf(5)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Where that stands.
pub const CONFIGURATION: &str = "/etc/resolv.conf";

/// The port of name servers (RFC 1035 section 4.2).
pub const NAME_PORT: u16 = 53;

/// Returns the name servers, in order; the host itself when none is named, as the resolver has it.
pub(crate) fn nameservers(text: &str) -> Vec<SocketAddr> {
    let values = values(text, "nameserver").filter_map(|mut rest| server(rest.next()?));
    let servers: Vec<SocketAddr> = values.collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, NAME_PORT).into()] } else { servers }
}

/// Returns the domains in which names are looked for: the last line that has some counts.
pub fn search(text: &str) -> Vec<String> {
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        ["search", "domain"].contains(&words.next()?).then(|| words.map(str::to_owned).collect())
    });
    lines.next_back().unwrap_or_default()
}

fn values<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = std::str::SplitWhitespace<'a>> {
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        (words.next()? == keyword).then_some(words)
    })
}

/// Reads an address, which may be of one link: `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let (address, link) = text.split_once('%').map_or((text, None), |(address, link)| (address, Some(link)));
    match (address.parse().ok()?, link) {
        (address, None) => Some(SocketAddr::new(address, NAME_PORT)),
        (IpAddr::V6(address), Some(link)) => on_link(address, link),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

fn on_link(address: Ipv6Addr, link: &str) -> Option<SocketAddr> {
    let index = link.parse().ok().or_else(|| {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::DGRAM, None)
                .ok()?;
        rustix::net::netdevice::name_to_index(&socket, link).ok()
    })?;
    Some(SocketAddrV6::new(address, NAME_PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_in_order_and_the_rest_is_not() {
        let text = "# x\nsearch a.b\nnameserver 10.0.0.1\nnameserver\t::1 # y\n nameserver fe80::1%lo\nnameserver fe80::1%nothing\n\
                    nameservers 1.1.1.1\nnameserver x\nnameserver\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(nameservers("options edns0\n"), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn the_last_list_of_domains_counts() {
        assert_eq!(
            search("domain x\nsearch lan corp.example\nnameserver 10.0.0.1\n"),
            ["lan", "corp.example"]
        );
        assert!(search("nameserver 10.0.0.1\n").is_empty());
    }
}
