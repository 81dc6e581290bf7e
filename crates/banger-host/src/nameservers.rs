//! The host's name servers.

use std::net::IpAddr;

/// Returns the name servers of `/etc/resolv.conf` (resolv.conf(5)), in its order.
pub fn nameservers() -> Vec<IpAddr> {
    parse(&fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next())
        // A scope (`fe80::1%eth0`) means nothing in a guest.
        .filter_map(|address| address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_in_order_and_the_rest_is_not() {
        let text = "# x\nsearch a.b\nnameserver 10.0.0.1\nnameserver\t::1 # y\nnameserver fe80::1%eth0\n";
        assert_eq!(parse(text), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }
}
