//! Ports of the host that lead to ports of the guest.

use std::io;

use banger_types::address::HostPort;
use banger_types::guest::{Service, Transport};
use banger_types::monitor::{Forward, MOST_FORWARDS};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::Monitor;
use super::clients::SPLICE_LIMIT;
use super::datagrams::DatagramSocket;
use crate::guest::splice::Splice;
use crate::host::peer::Peer;
use crate::host::port_owner::port_owner;

/// A forward in force.
#[derive(Debug)]
pub(crate) struct ForwardListener {
    socket: Socket,
    pub(crate) forward: Forward,
    /// It came by itself, and goes with what listens in the guest.
    pub(crate) automatic: bool,
}

/// The host's end of it.
#[derive(Debug)]
enum Socket {
    Connections {
        listener: TcpListener,
        /// There may be a connection to accept.
        ready: bool,
    },
    Datagrams(DatagramSocket),
}

impl ForwardListener {
    /// Remembers what the loop reported.
    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        match &mut self.socket {
            Socket::Connections { ready, .. } => *ready = true,
            Socket::Datagrams(socket) => socket.note(event),
        }
    }

    /// Returns its socket, if it is for datagrams.
    pub(crate) fn datagrams(&mut self) -> Option<&mut DatagramSocket> {
        match &mut self.socket {
            Socket::Connections { .. } => None,
            Socket::Datagrams(socket) => Some(socket),
        }
    }

    /// Returns a connection that waits, if there is one.
    fn accept(&mut self) -> Option<TcpStream> {
        let Socket::Connections { listener, ready } = &mut self.socket else { return None };
        if !*ready {
            return None;
        }
        match listener.accept() {
            Ok((socket, _)) => return Some(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready = false,
            // A connection that broke before it was accepted, or no descriptors: try again later.
            Err(_) => {}
        }
        None
    }
}

impl Monitor {
    /// Starts a forward. Returns it with its real port, or one sentence.
    pub(crate) fn add_forward(&mut self, forward: &Forward) -> Result<Forward, String> {
        if forward.guest_port == 0 {
            return Err("port 0 of the guest cannot be forwarded to".to_owned());
        }
        if self.forwards_where(false).count() >= MOST_FORWARDS {
            return Err(format!("the VM has {MOST_FORWARDS} forwards, and may not have more"));
        }
        let fail = |error: io::Error| {
            format!("cannot listen on {}: {}", forward.listen, reason(&error, forward.listen))
        };
        if forward.listen.port() != 0 {
            // What came by itself gives way.
            self.yield_port(forward.listen);
        }
        let added = self.listen(forward, false).map_err(fail);
        if added.is_err() {
            self.take_port_back(forward.listen);
        }
        self.forward_automatically();
        added
    }

    /// Listens, for as long as the forward is there. Nobody is told yet.
    pub(crate) fn listen(&mut self, forward: &Forward, automatic: bool) -> io::Result<Forward> {
        let token = self.new_token();
        let (socket, listen) = self.bind(forward.listen, token)?;
        let forward = Forward { listen, guest_port: forward.guest_port };
        self.forwards.insert(token, ForwardListener { socket, forward: forward.clone(), automatic });
        Ok(forward)
    }

    fn bind(&self, listen: HostPort, token: Token) -> io::Result<(Socket, HostPort)> {
        match listen.protocol {
            Transport::Tcp => {
                let mut listener = TcpListener::bind(listen.address)?;
                let address = listener.local_addr()?;
                self.registry().register(&mut listener, token, Interest::READABLE)?;
                Ok((Socket::Connections { listener, ready: true }, HostPort { address, ..listen }))
            }
            Transport::Udp => {
                let (socket, address) = DatagramSocket::bind(listen.address, self.registry(), token)?;
                Ok((Socket::Datagrams(socket), HostPort { address, ..listen }))
            }
        }
    }

    /// Returns the forwards that came by themselves, or those that somebody asked for.
    pub(crate) fn forwards_where(&self, automatic: bool) -> impl Iterator<Item = &Forward> {
        self.forwards.values().filter(move |it| it.automatic == automatic).map(|it| &it.forward)
    }

    /// Ends a forward.
    pub(crate) fn remove_forward(&mut self, listen: HostPort) -> Result<(), String> {
        let before = self.forwards.len();
        self.forwards.retain(|_, it| it.automatic || it.forward.listen != listen);
        if self.forwards.len() == before {
            return Err(format!("there is no forward that listens on {listen}"));
        }
        self.end_flows_of_no_forward();
        self.take_port_back(listen);
        self.forward_automatically();
        Ok(())
    }

    /// Shows the forwards as they are.
    pub(crate) fn publish_forwards(&mut self) {
        let asked_for = self.forwards_where(false).cloned().collect();
        let mut automatic: Vec<Forward> = self.forwards_where(true).cloned().collect();
        automatic.sort_by_key(|forward| forward.guest_port);
        self.board.update(|status| (status.forwards, status.automatic) = (asked_for, automatic));
    }

    /// Ends all forwards. Open connections go on.
    pub(crate) fn close_forwards(&mut self) {
        self.forwards.clear();
        self.end_flows_of_no_forward();
        self.publish_forwards();
    }

    /// Accepts what waits at the forwards' ports.
    pub(crate) fn accept_forwards(&mut self) -> bool {
        let mut accepted = Vec::new();
        for forward in self.forwards.values_mut() {
            if let Some(socket) = forward.accept() {
                accepted.push((socket, forward.forward.guest_port));
            }
        }
        let progress = !accepted.is_empty();
        for (socket, port) in accepted {
            if let Err(error) = self.relay(socket, port) {
                self.words.complain("a forwarded connection was turned away", &error);
            }
        }
        progress
    }

    /// Joins a connection to a port of the guest; where that cannot be, breaks it off.
    fn relay(&mut self, socket: TcpStream, port: u16) -> io::Result<()> {
        let token = self.new_token();
        let peer = Peer::tcp(socket, self.registry(), token)?;
        if self.splices.len() >= SPLICE_LIMIT {
            peer.abort();
            return Ok(());
        }
        match self.channel.endpoint.open(&Service::Tcp(port).to_string()) {
            Ok(stream) => {
                self.streams.insert(stream, token);
                self.splices.insert(token, Splice::new(peer, stream, false, Vec::new()));
            }
            Err(_) => peer.abort(),
        }
        Ok(())
    }
}

/// Says in words why a port cannot be listened on.
fn reason(error: &io::Error, listen: HostPort) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match port_owner(listen) {
            Some(owner) => format!("address in use by {owner}"),
            None => "address in use".to_owned(),
        },
        io::ErrorKind::AddrNotAvailable => "the host has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
