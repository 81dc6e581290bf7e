//! TCP ports of the host that lead to ports of the guest.

use std::io;
use std::net::SocketAddr;

use banger_types::guest::Service;
use banger_types::monitor::Forward;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

use super::Monitor;
use super::clients::SPLICE_LIMIT;
use crate::guest::splice::Splice;
use crate::host::peer::Peer;
use crate::host::port_owner::port_owner;

/// Most forwards at a time.
const FORWARD_LIMIT: usize = 256;

/// A forward in force.
#[derive(Debug)]
pub(crate) struct ForwardListener {
    listener: TcpListener,
    pub(crate) forward: Forward,
    /// It came by itself, and goes with what listens in the guest.
    pub(crate) automatic: bool,
    /// There may be a connection to accept.
    pub(crate) ready: bool,
}

impl Monitor {
    /// Starts a forward. Returns it with its real port, or one sentence.
    pub(crate) fn add_forward(&mut self, forward: &Forward) -> Result<Forward, String> {
        if forward.guest_port == 0 {
            return Err("port 0 of the guest cannot be forwarded to".to_owned());
        }
        if self.forwards_where(false).count() >= FORWARD_LIMIT {
            return Err(format!("the VM has {FORWARD_LIMIT} forwards, and may not have more"));
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
        let mut listener = TcpListener::bind(forward.listen)?;
        let listen = listener.local_addr()?;
        let token = self.new_token();
        self.registry().register(&mut listener, token, Interest::READABLE)?;
        let forward = Forward { listen, guest_port: forward.guest_port };
        let listening = ForwardListener { listener, forward: forward.clone(), automatic, ready: true };
        self.forwards.insert(token, listening);
        Ok(forward)
    }

    /// Returns the forwards that came by themselves, or those that somebody asked for.
    pub(crate) fn forwards_where(&self, automatic: bool) -> impl Iterator<Item = &Forward> {
        self.forwards.values().filter(move |it| it.automatic == automatic).map(|it| &it.forward)
    }

    /// Ends a forward.
    pub(crate) fn remove_forward(&mut self, listen: SocketAddr) -> Result<(), String> {
        let before = self.forwards.len();
        self.forwards.retain(|_, it| it.automatic || it.forward.listen != listen);
        if self.forwards.len() == before {
            return Err(format!("there is no forward that listens on {listen}"));
        }
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
        self.publish_forwards();
    }

    /// Accepts what waits at the forwards' ports.
    pub(crate) fn accept_forwards(&mut self) -> bool {
        let mut accepted = Vec::new();
        for forward in self.forwards.values_mut().filter(|forward| forward.ready) {
            match forward.listener.accept() {
                Ok((socket, _)) => accepted.push((socket, forward.forward.guest_port)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => forward.ready = false,
                // A connection that broke before it was accepted, or no descriptors: try again later.
                Err(_) => {}
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
fn reason(error: &io::Error, listen: SocketAddr) -> String {
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
