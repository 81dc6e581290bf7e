//! Where a forward listens on the host: an address, a port, and the protocol of both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::guest::Transport;

/// A port of one of the host's addresses. In text it is `127.0.0.1:8080`, or `127.0.0.1:53/udp` for datagrams, as Docker has it;
/// TCP may be named and need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = PATTERN)))]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// What is taken there: connections or datagrams.
    pub protocol: Transport,
    /// The address and the port. Port 0 stands for any that is free.
    pub address: SocketAddr,
}

impl HostPort {
    /// Returns a port for connections.
    pub fn tcp(address: impl Into<SocketAddr>) -> Self {
        Self { protocol: Transport::Tcp, address: address.into() }
    }

    /// Returns a port for datagrams.
    pub fn udp(address: impl Into<SocketAddr>) -> Self {
        Self { protocol: Transport::Udp, address: address.into() }
    }

    /// Returns the address without its port.
    pub const fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Transport::Tcp => write!(f, "{}", self.address),
            Transport::Udp => write!(f, "{}/{}", self.address, self.protocol),
        }
    }
}

/// The text names no port of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not ADDRESS:PORT, as 127.0.0.1:8080 or 127.0.0.1:53/udp")]
pub struct NoHostPort(pub String);

impl FromStr for HostPort {
    type Err = NoHostPort;

    fn from_str(text: &str) -> Result<Self, NoHostPort> {
        let wrong = || NoHostPort(text.to_owned());
        let (address, protocol) = split_protocol(text).ok_or_else(wrong)?;
        Ok(Self { protocol, address: address.parse().map_err(|_| wrong())? })
    }
}

impl TryFrom<String> for HostPort {
    type Error = NoHostPort;

    fn try_from(text: String) -> Result<Self, NoHostPort> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(port: HostPort) -> Self {
        port.to_string()
    }
}

/// Splits a protocol off that stands behind a slash; without one it is TCP. Returns nothing for a protocol that is not known.
pub fn split_protocol(text: &str) -> Option<(&str, Transport)> {
    match text.rsplit_once('/') {
        None => Some((text, Transport::Tcp)),
        Some((rest, "tcp")) => Some((rest, Transport::Tcp)),
        Some((rest, "udp")) => Some((rest, Transport::Udp)),
        Some(_) => None,
    }
}

/// An address of IPv4, or one of IPv6 in brackets, and a port (RFC 3986 section 3.2.2): the forms that people write. Then perhaps a
/// protocol.
#[cfg(feature = "schema")]
const PATTERN: &str = "^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])|\\[(::1?|([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4})\\]):(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})(/(tcp|udp))?$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_as_it_is_written() {
        for text in ["127.0.0.1:8080", "127.0.0.1:53/udp", "[::1]:0", "[::1]:53/udp"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("0.0.0.0:80/tcp".parse(), Ok(HostPort::tcp(([0, 0, 0, 0], 80))));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in
            ["", "/udp", "127.0.0.1", "127.0.0.1:80/", "127.0.0.1:80/sctp", "127.0.0.1:80/udp/udp", "::1:80"]
        {
            assert_eq!(text.parse::<HostPort>(), Err(NoHostPort(text.to_owned())));
        }
    }
}
