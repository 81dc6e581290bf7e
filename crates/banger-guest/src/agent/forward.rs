//! The service `tcp:PORT`: a connection to a port of the guest's loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::TcpStream;

use super::mux::Offer;

/// Connects, and passes bytes both ways until both sides have ended.
pub(super) async fn serve(offer: Offer, port: u16) {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut reason = String::new();
    for address in loopback {
        match TcpStream::connect((address, port)).await {
            Ok(mut connection) => {
                let _ = connection.set_nodelay(true);
                let mut stream = offer.accept();
                // An error is a connection that was reset; dropping both resets the other side as well.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut connection).await;
                return;
            }
            Err(error) if reason.is_empty() => reason = format!("port {port} of the guest: {error}"),
            Err(_) => {}
        }
    }
    offer.refuse(&reason);
}
