//! Names for guests. What the host asks may change while a guest runs (a laptop that moves, a VPN), and may listen on the host's
//! loopback (systemd-resolved, dnsmasq), where no guest gets: so guests' questions are asked anew, from a socket of the host, of the
//! name servers of the moment.
//!
//! Nothing is decided here about who may ask.

mod resolver;
mod servers;
mod service;
mod zone;

pub use resolver::{CONFIGURATION, NAME_PORT, search};
pub use servers::{HEADER, Servers};
pub use service::{Service, Sockets};
pub use zone::Zone;
