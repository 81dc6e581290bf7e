//! The network: loopback, and the one card that the configuration names by its hardware address.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use banger_types::guest::GuestNetwork;

use super::netlink::{Netlink, Request};
use crate::log;

/// Takes `lo` up. The kernel gives it its addresses by itself.
pub(super) fn raise_loopback() {
    let result = index(Path::new("/sys/class/net/lo"))
        .and_then(|index| Netlink::open()?.call(Request::link_up(index, None)));
    if let Err(error) = result {
        log!("cannot take the loopback interface up: {error}");
    }
}

/// Configures the card. A step that fails is reported and the others are done: control never depends on the network.
pub(super) fn configure(network: &GuestNetwork) {
    let result = find(&network.mac).and_then(|index| Ok((index, Netlink::open()?)));
    let (index, mut netlink) = match result {
        Ok(found) => found,
        Err(error) => {
            log!("no network: the card {}: {error}", network.mac);
            return;
        }
    };
    let mut call = |what: &str, request: Option<Request>| {
        let result = request.map_or_else(|| Err(io::ErrorKind::InvalidInput.into()), |it| netlink.call(it));
        if let Err(error) = result {
            log!("network: {what}: {error}");
        }
    };
    call("link up", Some(Request::link_up(index, Some(network.mtu))));
    for address in &network.addresses {
        call(address, parse_address(address).map(|(ip, prefix)| Request::address(index, ip, prefix)));
    }
    for gateway in &network.gateways {
        call(gateway, gateway.parse().ok().map(|ip| Request::default_route(index, ip)));
    }
}

/// Returns the index of the link with this hardware address.
fn find(mac: &str) -> io::Result<u32> {
    for entry in fs::read_dir("/sys/class/net")? {
        let path = entry?.path();
        let address = fs::read_to_string(path.join("address")).unwrap_or_default();
        if address.trim().eq_ignore_ascii_case(mac) {
            return index(&path);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "there is none with this address"))
}

fn index(link: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(link.join("ifindex"))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reads `10.0.2.15/24`.
fn parse_address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some((address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_prefix_that_fits_its_family() {
        assert_eq!(parse_address("10.0.2.15/24"), Some(("10.0.2.15".parse().unwrap(), 24)));
        assert_eq!(parse_address("fd00::2/64"), Some(("fd00::2".parse().unwrap(), 64)));
        for bad in ["10.0.2.15", "10.0.2.15/33", "fd00::/129", "/24", "x/24", "10.0.2.15/-1"] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
    }
}
