//! Names of hosts, without a resolver: a static binary has none. Numbers, `localhost`, and `/etc/hosts` (hosts(5)).

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Longest hosts file that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// Returns the addresses of a host, best first; none when it is unknown.
pub(super) fn lookup(etc: &Path, host: &str) -> Vec<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse() {
        return vec![address];
    }
    if host.eq_ignore_ascii_case("localhost") {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    }
    let mut text = Vec::new();
    if File::open(etc.join("hosts")).and_then(|file| file.take(LIMIT).read_to_end(&mut text)).is_err() {
        return Vec::new();
    }
    find(&String::from_utf8_lossy(&text), host)
}

fn find(hosts: &str, wanted: &str) -> Vec<IpAddr> {
    let entries = hosts.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(wanted)).then_some(address)
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_hosts_are_found() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("hosts"), "10.0.0.1 a b # c\nbroken d\nfd00::1\tA.example b\n")
            .unwrap();
        let texts = |host| lookup(etc.path(), host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts("192.0.2.1"), ["192.0.2.1"]);
        assert_eq!(texts("[::1]"), ["::1"]);
        assert_eq!(texts("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(texts("B"), ["10.0.0.1", "fd00::1"]);
        for unknown in ["c", "d", "example", ""] {
            assert!(texts(unknown).is_empty(), "{unknown}");
        }
    }
}
