//! The service `tcp:PORT`: a connection to a port of the guest.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use banger_types::guest::Transport;
use tokio::net::TcpStream;

use super::mux::Offer;
use super::sockets;

/// Connects, and passes bytes both ways until both sides have ended.
pub(super) async fn serve(offer: Offer, port: u16) {
    match connect(port).await {
        Ok(mut connection) => {
            let _ = connection.set_nodelay(true);
            let mut stream = offer.accept();
            // An error is a connection that was reset; dropping both resets the other side as well.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut connection).await;
        }
        Err(error) => offer.refuse(&format!("port {port} of the guest: {error}")),
    }
}

/// Connects by the loopback; where nobody listens there, by the address on which somebody does.
async fn connect(port: u16) -> io::Result<TcpStream> {
    let refused = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    if let Ok(connection) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await {
        return Ok(connection);
    }
    let addresses = tokio::task::spawn_blocking(move || sockets::addresses(Transport::Tcp, port)).await;
    let others = |address: &IpAddr| !address.is_unspecified() && !address.is_loopback();
    for address in addresses.into_iter().flatten().filter(others) {
        if let Ok(connection) = TcpStream::connect((address, port)).await {
            return Ok(connection);
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_is_reached_by_the_loopback_alone_where_that_is_meant() {
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        connect(v6.local_addr().unwrap().port()).await.unwrap();
        let stub = TcpListener::bind(("127.0.0.53", 0)).await.unwrap();
        let refused = connect(stub.local_addr().unwrap().port()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
