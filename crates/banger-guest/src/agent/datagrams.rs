//! The service `udp:PORT`: datagrams to a port of the guest, and those that come back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use banger_channel::{Datagrams, Framed};
use banger_types::guest::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UdpSocket;

use super::mux::{MuxStream, Offer};
use super::sockets;

/// Bytes that are read of the stream at a time.
const PIECE: usize = 16 << 10;

/// Passes datagrams both ways until the host ends the stream. Those that nobody takes are lost, as on every network.
pub(super) async fn serve(offer: Offer, port: u16) {
    // An error is a stream that was reset; there is nobody to tell it to.
    let _ = relay(offer.accept(), port).await;
}

async fn relay(mut stream: MuxStream, port: u16) -> io::Result<()> {
    let (mut incoming, mut buffer) = (Datagrams::default(), vec![0; PIECE]);
    let mut socket = None;
    loop {
        tokio::select! {
            length = stream.read(&mut buffer) => {
                let length = length?;
                if length == 0 {
                    return Ok(());
                }
                incoming.push(buffer[..length].to_vec());
                while let Some(datagram) = incoming.front() {
                    send(&mut socket, port, datagram).await;
                    incoming.pop();
                }
            }
            received = receive(socket.as_ref()) => match received {
                Ok(framed) => stream.write_all(framed.bytes()).await?,
                // Nobody listens there any more. Who does is looked for with the next datagram.
                Err(_) => socket = None,
            },
        }
    }
}

/// Sends a datagram to whoever listens on the port now.
async fn send(socket: &mut Option<UdpSocket>, port: u16, datagram: &[u8]) {
    if socket.is_none() {
        *socket = connect(port).await.ok();
    }
    if let Some(connected) = socket
        && connected.send(datagram).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        // That is said of one before it: this one has not been sent.
        *socket = connect(port).await.ok();
        if let Some(connected) = socket {
            let _ = connected.send(datagram).await;
        }
    }
}

/// Waits for a datagram. Without a socket there is none, ever.
async fn receive(socket: Option<&UdpSocket>) -> io::Result<Framed> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            // Somebody has taken it: there is none any more.
            let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        match Framed::fill(|buffer| socket.try_recv_buf(buffer).map(drop)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Returns a socket to the port, by the loopback where that reaches who listens.
async fn connect(port: u16) -> io::Result<UdpSocket> {
    let listening = tokio::task::spawn_blocking(move || sockets::addresses(Transport::Udp, port)).await;
    let to = SocketAddr::new(target(&listening.unwrap_or_default()), port);
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Returns the address at which datagrams reach somebody who listens on these; the loopback where nobody does.
fn target(listening: &[IpAddr]) -> IpAddr {
    let loopback = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_unspecified() || *address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address.is_unspecified() || address.is_loopback(),
    };
    let v4 = listening.iter().find(|address| address.is_ipv4() && loopback(address));
    let found =
        v4.or_else(|| listening.iter().find(|address| loopback(address))).or_else(|| listening.first());
    match found {
        Some(IpAddr::V6(address)) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Some(address) if !address.is_unspecified() => *address,
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_goes_before_other_addresses_and_the_first_family_before_the_second() {
        for (listening, wanted) in [
            (&[][..], "127.0.0.1"),
            (&["0.0.0.0"], "127.0.0.1"),
            (&["::", "127.0.0.1"], "127.0.0.1"),
            (&["::"], "::1"),
            (&["10.0.0.2", "::1"], "::1"),
            (&["10.0.0.2"], "10.0.0.2"),
        ] {
            let listening: Vec<IpAddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(target(&listening).to_string(), wanted, "{listening:?}");
        }
    }

    #[tokio::test]
    async fn who_listens_later_or_anew_is_found() {
        let place = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = place.local_addr().unwrap().port();
        drop(place);
        let mut socket = None;
        // Nobody is there: it is lost, and the kernel says so afterwards.
        send(&mut socket, port, b"lost").await;
        assert!(receive(socket.as_ref()).await.is_err());
        socket = None;
        for address in [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()] {
            let server = UdpSocket::bind((address, port)).await.unwrap();
            send(&mut socket, port, b"ping").await;
            let mut buffer = [0; 16];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"ping");
            server.send_to(b"", client).await.unwrap();
            assert_eq!(receive(socket.as_ref()).await.unwrap().bytes(), [0, 0]);
            // What is lost now is said of what is sent next.
            drop(server);
            send(&mut socket, port, b"lost").await;
        }
    }
}
