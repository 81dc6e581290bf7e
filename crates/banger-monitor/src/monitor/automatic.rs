//! Forwards that come and go with what listens in the guest.
//!
//! The guest may say anything, and as often as it likes: what it says is looked at no faster than at a [`Rate`], and so many
//! ports of the host it gets and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use banger_types::address::HostPort;
use banger_types::guest::{LONGEST_PROCESS_NAME, ListeningSocket, ListeningSockets, MOST_SOCKETS, Transport};
use banger_types::monitor::Forward;

use super::Monitor;
use super::status::Rate;

/// Most automatic forwards at a time.
const LIMIT: usize = 64;
/// How many ports of the host are tried for one of the guest.
const TRIES: usize = 100;
/// How long whoever wants a port may take to listen on it.
const YIELDED: Duration = Duration::from_secs(10);
/// The first port that anybody may listen on (ip(7), `ip_unprivileged_port_start`). Those below are the host's own, whoever
/// this runs as.
const FIRST_PORT: u16 = 1024;
/// What is added to the guest's ports below that: 80 becomes 8080.
const ABOVE: u16 = 8000;

/// What listens in the guest, and what of it is forwarded.
#[derive(Debug, Default)]
pub(crate) struct Automatic {
    /// Whether it is wanted.
    wanted: bool,
    /// What the guest has said last, and nobody has looked at yet.
    heard: Option<Vec<ListeningSocket>>,
    rate: Rate,
    /// The guest's ports that listen and can be reached.
    ports: BTreeSet<u16>,
    /// The host's ports that somebody else wanted, and when.
    yielded: BTreeMap<u16, Instant>,
}

impl Automatic {
    /// Returns when what was heard is to be looked at, if there is something.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.heard.as_ref().map(|_| self.rate.next().unwrap_or(now))
    }
}

impl Monitor {
    /// Takes in what listens in the guest.
    pub(crate) fn hear_sockets(&mut self, found: ListeningSockets) {
        let tcp = bounded(found).sockets.into_iter().filter(|socket| socket.protocol == Transport::Tcp);
        self.automatic.heard = Some(tcp.collect());
    }

    /// Looks at what was heard, when that is due.
    pub(crate) fn follow_sockets(&mut self, now: Instant) {
        if self.automatic.due(now).is_none_or(|due| due > now) {
            return;
        }
        let Some(sockets) = self.automatic.heard.take() else { return };
        self.automatic.rate.step(now);
        let reached = sockets.iter().filter(|socket| socket.is_reached_by_forwards() && socket.port != 0);
        self.automatic.ports = reached.map(|socket| socket.port).collect();
        self.board.update(|status| status.sockets = sockets);
        self.forward_automatically();
    }

    /// Begins or ends to forward to what listens.
    pub(crate) fn set_automatic(&mut self, wanted: bool) {
        self.automatic.wanted = wanted;
        self.forward_automatically();
    }

    /// Leaves a port to somebody else, if it is one that could be had automatically.
    pub(crate) fn yield_port(&mut self, listen: HostPort) {
        if listen.protocol != Transport::Tcp {
            return;
        }
        self.automatic.yielded.insert(listen.port(), Instant::now());
        self.end_automatic(|forward| forward.listen.port() == listen.port());
        self.forward_automatically();
    }

    /// A port that was left to somebody is theirs no more.
    pub(crate) fn take_port_back(&mut self, listen: HostPort) {
        if listen.protocol == Transport::Tcp {
            self.automatic.yielded.remove(&listen.port());
        }
    }

    /// Nothing listens any more.
    pub(crate) fn forget_sockets(&mut self) {
        self.automatic.heard = None;
        self.automatic.ports.clear();
        self.board.update(|status| status.sockets.clear());
        self.forward_automatically();
    }

    /// Makes the forwards that are missing, and ends those that lead nowhere.
    pub(crate) fn forward_automatically(&mut self) {
        let asked_for =
            self.forwards_where(false).filter(|forward| forward.listen.protocol == Transport::Tcp);
        let asked_for: BTreeSet<u16> = asked_for.map(|forward| forward.guest_port).collect();
        let wanted = if self.automatic.wanted && self.ending.is_none() {
            self.automatic.ports.difference(&asked_for).copied().take(LIMIT).collect()
        } else {
            BTreeSet::new()
        };
        self.end_automatic(|forward| !wanted.contains(&forward.guest_port));
        let there: BTreeSet<u16> = self.forwards_where(true).map(|forward| forward.guest_port).collect();
        for port in wanted.difference(&there) {
            self.begin_automatic(*port);
        }
        self.publish_forwards();
    }

    fn begin_automatic(&mut self, guest_port: u16) {
        // After that, who wanted it has it, and it cannot be listened on.
        self.automatic.yielded.retain(|_, since| since.elapsed() < YIELDED);
        let free = host_ports(guest_port).filter(|port| !self.automatic.yielded.contains_key(port));
        for port in free.take(TRIES).collect::<Vec<_>>() {
            let forward = Forward { listen: HostPort::tcp((Ipv4Addr::LOCALHOST, port)), guest_port };
            match self.listen(&forward, true) {
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    self.words.complain("a port that the guest listens on is not forwarded", &error);
                    return;
                }
            }
        }
    }

    fn end_automatic(&mut self, ends: impl Fn(&Forward) -> bool) {
        self.forwards.retain(|_, it| !(it.automatic && ends(&it.forward)));
    }
}

/// Cuts what a guest says of its sockets to what it may say.
pub(crate) fn bounded(mut found: ListeningSockets) -> ListeningSockets {
    found.more |= found.sockets.len() > MOST_SOCKETS;
    found.sockets = found.sockets.into_iter().take(MOST_SOCKETS).map(cut).collect();
    found
}

/// Cuts what a guest calls its processes.
fn cut(mut socket: ListeningSocket) -> ListeningSocket {
    if let Some(name) = &mut socket.process {
        *name = name.chars().filter(|char| !char.is_control()).take(LONGEST_PROCESS_NAME).collect();
    }
    socket
}

/// Returns the host's ports for one of the guest's, the best first: the same, then those after it, then the rest.
fn host_ports(guest_port: u16) -> impl Iterator<Item = u16> {
    let first = if guest_port < FIRST_PORT { guest_port + ABOVE } else { guest_port };
    (first..=u16::MAX).chain(FIRST_PORT..first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_host_is_the_guests_own_or_one_after_it_and_none_of_the_hosts_own() {
        assert_eq!(host_ports(3000).take(3).collect::<Vec<_>>(), [3000, 3001, 3002]);
        assert_eq!(host_ports(80).take(2).collect::<Vec<_>>(), [8080, 8081]);
        assert_eq!(host_ports(u16::MAX).take(2).collect::<Vec<_>>(), [u16::MAX, FIRST_PORT]);
        assert!((1..=u16::MAX).all(|port| host_ports(port).take(TRIES).all(|port| port >= FIRST_PORT)));
    }

    #[test]
    fn names_of_processes_are_cut_and_cannot_move_a_cursor() {
        let long = "\u{1b}[2J<script>".to_owned() + &"x".repeat(1000);
        let socket = ListeningSocket {
            protocol: Transport::Tcp,
            port: 1,
            address: Ipv4Addr::UNSPECIFIED.into(),
            process: Some(long),
            pid: None,
            inode: 0,
        };
        let name = cut(socket).process.unwrap();
        assert_eq!((name.chars().count(), name.starts_with("[2J<script>")), (LONGEST_PROCESS_NAME, true));
    }
}
