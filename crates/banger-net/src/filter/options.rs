//! What `banger-filter` is told.

use super::rules::Rules;

/// The arguments of `banger-filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOptions {
    /// What the guest may do.
    pub rules: Rules,
    /// Longest packet of the network, bytes.
    pub mtu: usize,
    /// Whether the guest's frames come through a socket of packets, which comes first.
    pub packets: bool,
}

const V6: &str = "--v6";
const ALLOW_HOST: &str = "--allow-host";
const PACKETS: &str = "--packets";

impl FilterOptions {
    /// What is said to somebody who gives others.
    pub const USAGE: &str =
        "usage: banger-filter ADDRESS/PREFIX NAMESERVER MTU [--v6 ADDRESS/PREFIX] [--allow-host] [--packets]";

    /// Returns the arguments that say it.
    pub fn to_arguments(&self) -> Vec<String> {
        let Rules { guest, guest_v6, nameserver, allow_host } = &self.rules;
        let (address, prefix) = guest;
        let mut arguments = vec![format!("{address}/{prefix}"), nameserver.to_string(), self.mtu.to_string()];
        if let Some((address, prefix)) = guest_v6 {
            arguments.extend([V6.to_owned(), format!("{address}/{prefix}")]);
        }
        let flags = [(ALLOW_HOST, *allow_host), (PACKETS, self.packets)];
        arguments.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned()));
        arguments
    }

    /// Reads arguments, if they are some.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (guest, nameserver) = (with_prefix(&arguments.next()?, 32)?, arguments.next()?.parse().ok()?);
        let mtu = arguments.next()?.parse().ok().filter(|mtu| LENGTHS.contains(mtu))?;
        let rules = Rules { guest, guest_v6: None, nameserver, allow_host: false };
        let mut options = Self { rules, mtu, packets: false };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                V6 => options.rules.guest_v6 = Some(with_prefix(&arguments.next()?, 128)?),
                ALLOW_HOST => options.rules.allow_host = true,
                PACKETS => options.packets = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Reads an address with the length of its network's prefix, which is at most `longest`.
fn with_prefix<A: std::str::FromStr>(text: &str, longest: u8) -> Option<(A, u8)> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok().filter(|prefix| *prefix <= longest)?))
}

/// Longest packets that there are (RFC 791 sections 3.1 and 3.2), bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 68..=65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let rules = Rules {
            guest: ("198.18.0.2".parse().unwrap(), 24),
            guest_v6: None,
            nameserver: "198.18.0.53".parse().unwrap(),
            allow_host: false,
        };
        let plain = FilterOptions { rules: rules.clone(), mtu: 1500, packets: false };
        let open = Rules { guest_v6: Some(("fd00::2".parse().unwrap(), 64)), allow_host: true, ..rules };
        for options in [plain, FilterOptions { rules: open, mtu: 1280, packets: true }] {
            assert_eq!(FilterOptions::parse(options.to_arguments().into_iter()), Some(options));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "198.18.0.2/24",
            "198.18.0.2 198.18.0.53 1500",
            "198.18.0.2/33 198.18.0.53 1500",
            "198.18.0.2/24 198.18.0.53 67",
            "198.18.0.2/24 198.18.0.53 1500 --v6",
            "198.18.0.2/24 198.18.0.53 1500 more",
        ] {
            assert_eq!(FilterOptions::parse(text.split_whitespace().map(str::to_owned)), None, "{text}");
        }
    }
}
