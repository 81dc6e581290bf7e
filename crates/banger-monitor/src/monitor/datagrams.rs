//! Forwards of datagrams.
//!
//! Datagrams know no connections. So each client of a forward, an address and a port, has a flow: a stream to a socket in the
//! guest, for as long as something passes. What the guest takes too slowly waits in the kernel, in the queue of the forward's
//! socket, and what finds no place there is lost, as on every network.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use banger_channel::{Datagrams, Framed, StreamId};
use banger_types::guest::Service;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use super::Monitor;
use super::forwards::ForwardListener;
use crate::guest::channel::room;

/// How long a flow lasts in which nothing passes: what RFC 4787 (section 4.3) recommends to those who translate addresses.
const IDLE: Duration = Duration::from_mins(5);
/// Most flows at a time. One more ends the one that has been idle for longest.
const MOST_FLOWS: usize = 256;
/// Most datagrams that are taken from one forward before others have their turn.
const BURST: usize = 32;

/// The host's end of a forward.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: UdpSocket,
    readable: bool,
    writable: bool,
    /// The one that was read last, while its flow cannot take it: nothing more is read until it can.
    held: Option<(Token, Framed)>,
}

impl DatagramSocket {
    /// Listens. Returns the address as well, with the port that was taken.
    pub(crate) fn bind(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<(Self, SocketAddr)> {
        let mut socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok((Self { socket, readable: true, writable: true, held: None }, address))
    }

    /// Remembers what the loop reported.
    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(SocketAddr, Framed)> {
        while self.readable {
            match self.socket.recv_from(buffer) {
                Ok((length, client)) => return Some((client, Framed::new(&buffer[..length]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // It is about one that was sent before, and was lost.
                Err(_) => {}
            }
        }
        None
    }

    /// Sends what has come from the guest, or loses it. Returns false while there is no room for it.
    fn send(&mut self, datagram: &[u8], client: SocketAddr) -> bool {
        let sent = self.socket.send_to(datagram, client);
        self.writable = !sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.writable
    }
}

/// A client's datagrams.
#[derive(Debug)]
struct Flow {
    forward: Token,
    client: SocketAddr,
    stream: StreamId,
    /// The guest has taken the stream.
    opened: bool,
    /// What has come from the guest.
    incoming: Datagrams,
    /// When something has passed.
    used: Instant,
}

/// All flows.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    flows: BTreeMap<Token, Flow>,
    by_client: BTreeMap<(Token, SocketAddr), Token>,
}

impl Flows {
    fn insert(&mut self, token: Token, flow: Flow) {
        self.by_client.insert((flow.forward, flow.client), token);
        self.flows.insert(token, flow);
    }

    fn remove(&mut self, token: Token) -> Option<Flow> {
        let flow = self.flows.remove(&token)?;
        self.by_client.remove(&(flow.forward, flow.client));
        Some(flow)
    }

    /// Returns those that `ends` says.
    fn which(&self, ends: impl Fn(&Flow) -> bool) -> Vec<Token> {
        self.flows.iter().filter(|(_, flow)| ends(flow)).map(|(token, _)| *token).collect()
    }

    /// Returns when the next one has been idle for too long.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.flows.values().map(|flow| flow.used + IDLE).min()
    }

    /// The guest has taken a stream. Returns whether it is a flow's.
    pub(crate) fn opened(&mut self, token: Token) -> bool {
        self.flows.get_mut(&token).map(|flow| flow.opened = true).is_some()
    }

    /// Takes bytes of the guest.
    pub(crate) fn receive(&mut self, token: Token, bytes: Vec<u8>) {
        if let Some(flow) = self.flows.get_mut(&token) {
            flow.incoming.push(bytes);
        }
    }

    /// Forgets a flow whose stream is gone. Returns whether it was one.
    pub(crate) fn forget(&mut self, token: Token) -> bool {
        self.remove(token).is_some()
    }
}

impl Monitor {
    /// Passes datagrams on, both ways.
    pub(crate) fn pump_datagrams(&mut self, buffer: &mut [u8]) -> bool {
        let forwards = self.forwards.iter_mut().filter_map(|(token, it)| it.datagrams().map(|_| *token));
        let forwards: Vec<Token> = forwards.collect();
        let taken =
            forwards.into_iter().fold(false, |taken, token| taken | self.take_datagrams(token, buffer));
        taken | self.deliver_datagrams()
    }

    /// Passes on what has come to a forward.
    fn take_datagrams(&mut self, forward: Token, buffer: &mut [u8]) -> bool {
        let mut progress = false;
        for _ in 0..BURST {
            if room(&self.channel.endpoint) == 0 || !self.pass_held(forward) {
                break;
            }
            let Some(socket) = self.datagram_socket(forward) else { break };
            let Some((client, datagram)) = socket.receive(buffer) else { break };
            progress = true;
            // While no guest is there, it is lost.
            if let Some(flow) = self.flow(forward, client)
                && let Some(socket) = self.datagram_socket(forward)
            {
                socket.held = Some((flow, datagram));
            }
        }
        progress
    }

    fn datagram_socket(&mut self, forward: Token) -> Option<&mut DatagramSocket> {
        self.forwards.get_mut(&forward).and_then(ForwardListener::datagrams)
    }

    /// Passes on what was held. Returns false while that cannot be.
    fn pass_held(&mut self, forward: Token) -> bool {
        let Some((token, datagram)) = self.datagram_socket(forward).and_then(|socket| socket.held.take())
        else {
            return true;
        };
        let (flows, endpoint) = (&mut self.flows.flows, &mut self.channel.endpoint);
        // Those of a flow that is gone are lost.
        let Some(flow) = flows.get_mut(&token) else { return true };
        if flow.opened && endpoint.send_capacity(flow.stream) >= datagram.bytes().len() {
            endpoint.send(flow.stream, datagram.bytes());
            flow.used = Instant::now();
            return true;
        }
        if let Some(socket) = self.datagram_socket(forward) {
            socket.held = Some((token, datagram));
        }
        false
    }

    /// Returns a client's flow, which begins with its first datagram.
    fn flow(&mut self, forward: Token, client: SocketAddr) -> Option<Token> {
        if let Some(flow) = self.flows.by_client.get(&(forward, client)) {
            return Some(*flow);
        }
        if self.flows.flows.len() >= MOST_FLOWS {
            let idle = self.flows.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(token, _)| *token);
            if let Some(idle) = idle {
                self.end_flow(idle);
            }
        }
        let service = Service::Udp(self.forwards.get(&forward)?.forward.guest_port);
        let stream = self.channel.endpoint.open(&service.to_string()).ok()?;
        let token = self.new_token();
        self.streams.insert(stream, token);
        let (incoming, used) = (Datagrams::default(), Instant::now());
        self.flows.insert(token, Flow { forward, client, stream, opened: false, incoming, used });
        Some(token)
    }

    /// Sends clients what has come for them.
    fn deliver_datagrams(&mut self) -> bool {
        let mut progress = false;
        for flow in self.flows.flows.values_mut() {
            let socket = self.forwards.get_mut(&flow.forward).and_then(ForwardListener::datagrams);
            let Some(socket) = socket.filter(|socket| socket.writable) else { continue };
            while let Some(datagram) = flow.incoming.front() {
                if !socket.send(datagram, flow.client) {
                    break;
                }
                self.channel.endpoint.consumed(flow.stream, flow.incoming.pop());
                flow.used = Instant::now();
                progress = true;
            }
        }
        progress
    }

    /// Ends a flow, if it is one.
    pub(crate) fn end_flow(&mut self, token: Token) {
        if let Some(flow) = self.flows.remove(token) {
            self.streams.remove(&flow.stream);
            self.channel.endpoint.reset(flow.stream);
        }
    }

    /// Ends the flows of forwards that are gone.
    pub(crate) fn end_flows_of_no_forward(&mut self) {
        for token in self.flows.which(|flow| !self.forwards.contains_key(&flow.forward)) {
            self.end_flow(token);
        }
    }

    /// Ends the flows in which nothing has passed for too long.
    pub(crate) fn end_idle_flows(&mut self, now: Instant) {
        for token in self.flows.which(|flow| flow.used + IDLE <= now) {
            self.end_flow(token);
        }
    }
}
