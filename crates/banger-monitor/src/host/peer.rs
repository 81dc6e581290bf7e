//! A connected socket in an edge-triggered event loop.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A socket and what is known of its readiness: the loop reports a change once, so it is remembered
/// until the socket says that it would block.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: Socket,
    readable: bool,
    writable: bool,
    /// The other side has closed both ways.
    pub(crate) hung_up: bool,
}

impl Peer {
    /// Takes a socket of the unix family into the loop.
    pub(crate) fn unix(socket: UnixStream, registry: &Registry, token: Token) -> io::Result<Self> {
        Self::register(Socket::Unix(socket), registry, token)
    }

    /// Takes a TCP connection into the loop.
    pub(crate) fn tcp(socket: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        // Both directions are relayed as they come; waiting for more would only add latency.
        socket.set_nodelay(true)?;
        Self::register(Socket::Tcp(socket), registry, token)
    }

    fn register(mut socket: Socket, registry: &Registry, token: Token) -> io::Result<Self> {
        let source: &mut dyn Source = match &mut socket {
            Socket::Unix(socket) => socket,
            Socket::Tcp(socket) => socket,
        };
        source.register(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket, readable: true, writable: true, hung_up: false })
    }

    /// Remembers what the loop reported.
    pub(crate) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.hung_up |= event.is_write_closed();
    }

    /// Reads once. `None`: nothing to read now; `Some(0)`: the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable || buffer.is_empty() {
            return Ok(None);
        }
        let result = match &mut self.socket {
            Socket::Unix(socket) => socket.read(buffer),
            Socket::Tcp(socket) => socket.read(buffer),
        };
        blocked(result, &mut self.readable)
    }

    /// Writes once. `None`: nothing can be written now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if !self.writable || bytes.is_empty() {
            return Ok(None);
        }
        let result = match &mut self.socket {
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Tcp(socket) => socket.write(bytes),
        };
        blocked(result, &mut self.writable)
    }

    /// Tells the other side that no more comes.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// Closes such that the other side sees a broken connection, not an end, where there is a
    /// difference (TCP: RST, RFC 9293 section 3.10.7).
    pub(crate) fn abort(self) {
        if let Socket::Tcp(socket) = &self.socket {
            // If it fails, the connection is closed in the plain way.
            let _plain = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

fn blocked(result: io::Result<usize>, ready: &mut bool) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            *ready = false;
            Ok(None)
        }
        // It stays ready and is tried again in the loop's next round.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
