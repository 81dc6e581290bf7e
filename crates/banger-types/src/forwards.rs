//! Forwards as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::address::{HostPort, split_protocol};
use crate::guest::Transport;
use crate::monitor::{Forward, MOST_FORWARDS};

/// Why a text says no forwards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardsError {
    /// It is not written as forwards are.
    #[error("'{0}' is not [ADDRESS:]HOST_PORT:GUEST_PORT[/udp], as in 8080:80 or 8000-8010:8000-8010")]
    Syntax(String),
    /// Its two ranges are not as long as each other.
    #[error("'{text}' has {host} ports of the host for {guest} of the guest")]
    Count {
        /// The text.
        text: String,
        /// How many ports of the host it has.
        host: usize,
        /// How many of the guest.
        guest: usize,
    },
    /// It is more than a VM may have.
    #[error("'{text}' has {count} ports, and a VM may have {MOST_FORWARDS} forwards")]
    Most {
        /// The text.
        text: String,
        /// How many it has.
        count: usize,
    },
}

/// As `-p` takes it, and [`read_forwards`] reads it.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.listen.protocol {
            Transport::Tcp => "",
            Transport::Udp => "/udp",
        };
        write!(f, "{}:{}{protocol}", self.listen.address, self.guest_port)
    }
}

/// Returns the forwards that `text` says: `8080:80`, `0.0.0.0:8080:80`, `[::1]:8080:80`, `53:53/udp`, `8000-8010:8000-8010`. Port 0
/// of the host is any that is free.
pub fn read_forwards(text: &str) -> Result<Vec<Forward>, ForwardsError> {
    let wrong = || ForwardsError::Syntax(text.to_owned());
    let (ports, protocol) = split_protocol(text).ok_or_else(wrong)?;
    let (listen, guest) = ports.rsplit_once(':').ok_or_else(wrong)?;
    let (address, host) = match listen.rsplit_once(':') {
        Some((address, host)) => (Some(address), host),
        None => (None, listen),
    };
    let address = match address {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(address) => {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let parsed: IpAddr = bare.unwrap_or(address).parse().map_err(|_| wrong())?;
            // Without brackets, "::1:80:80" could be read in two ways.
            if parsed.is_ipv6() != bare.is_some() {
                return Err(wrong());
            }
            parsed
        }
    };
    let (host, guest) = (range(host).ok_or_else(wrong)?, range(guest).ok_or_else(wrong)?);
    if guest.contains(&0) {
        return Err(wrong());
    }
    // Port 0 is any that is free, as often as it is needed.
    let any = host == (0..=0);
    if !any && host.len() != guest.len() {
        return Err(ForwardsError::Count { text: text.to_owned(), host: host.len(), guest: guest.len() });
    }
    if guest.len() > MOST_FORWARDS {
        return Err(ForwardsError::Most { text: text.to_owned(), count: guest.len() });
    }
    let forward = |(index, guest_port): (u16, u16)| {
        let port = if any { 0 } else { host.start() + index };
        Forward { listen: HostPort { protocol, address: SocketAddr::new(address, port) }, guest_port }
    };
    Ok((0..).zip(guest).map(forward).collect())
}

/// Returns the ports that `text` says: one, or from one to another that is no less.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}
