//! Where the console listens: on loopback alone.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// How many ports after the wanted one are tried.
const MORE_PORTS: u16 = 100;

/// Listens at an address, or at the next port that is free. To be called within a runtime.
pub(crate) fn bind(wanted: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    if !wanted.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{wanted} is not a loopback address"),
        ));
    }
    let last = if wanted.port() == 0 { 0 } else { wanted.port().saturating_add(MORE_PORTS) };
    let mut refused = None;
    for port in wanted.port()..=last {
        match std::net::TcpListener::bind(SocketAddr::new(wanted.ip(), port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                return Ok((TcpListener::from_std(listener)?, address));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    let why = format!("no port from {} to {last} is free on {}", wanted.port(), wanted.ip());
    Err(refused
        .map_or_else(|| io::Error::other(why.clone()), |error| io::Error::new(error.kind(), why.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_passed_over() {
        let (_taken, address) = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let (_next, other) = bind(address).unwrap();
        assert!(other.port() > address.port(), "{other} after {address}");
    }

    #[tokio::test]
    async fn nothing_but_loopback_is_listened_on() {
        let error = bind(([0, 0, 0, 0], 0).into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
