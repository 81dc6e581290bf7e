//! Who has a port of this host.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use banger_types::address::HostPort;
use banger_types::guest::Transport;
use fs_err::File;

use crate::text::printable;

/// Returns where the kernel shows the sockets of a protocol, and the state there of those that listen (`TCP_LISTEN` and `TCP_CLOSE`,
/// `include/net/tcp_states.h`).
const fn tables(protocol: Transport) -> ([&'static str; 2], &'static str) {
    match protocol {
        Transport::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], "0A"),
        Transport::Udp => (["/proc/net/udp", "/proc/net/udp6"], "07"),
    }
}

/// Returns who listens where `wanted` cannot, in words: "nginx (process 123)". `None` if it cannot be known, as when
/// the process is another user's.
pub(crate) fn port_owner(wanted: HostPort) -> Option<String> {
    let (tables, _) = tables(wanted.protocol);
    tables
        .iter()
        .filter_map(|table| File::open(table).ok())
        .flat_map(|table| listeners_in_the_way(BufReader::new(table), wanted))
        .find_map(|inode| owner_of_socket(&inode))
}

/// Returns the inodes of the sockets in a table of `proc_pid_net(5)` that listen on the port, at an address that rules
/// `wanted` out.
fn listeners_in_the_way(table: impl BufRead, wanted: HostPort) -> Vec<String> {
    let (_, listening) = tables(wanted.protocol);
    let inode = |line: String| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = parse_address(local)?;
        let collides = address == wanted.ip() || address.is_unspecified() || wanted.ip().is_unspecified();
        (*state == listening && port == wanted.port() && collides).then(|| (*inode).to_owned())
    };
    table.lines().map_while(Result::ok).filter_map(inode).collect()
}

/// Reads an address as the kernel prints it: 32-bit words as they are in memory, in hexadecimal, then the port.
fn parse_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * index + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

/// Returns the process with the lowest id that has the socket open: of several the one that opened it, mostly.
fn owner_of_socket(inode: &str) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let has_it = |process: &u32| {
        // Of a process that is gone by now, or another user's, nothing can be read.
        let Ok(descriptors) = fs_err::read_dir(format!("/proc/{process}/fd")) else { return false };
        descriptors
            .flatten()
            .any(|entry| fs_err::read_link(entry.path()).is_ok_and(|target| target == Path::new(&socket)))
    };
    let entries = fs_err::read_dir("/proc").ok()?.flatten();
    let mut processes: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    let process = processes.into_iter().find(has_it)?;
    let name = fs_err::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!("{} (process {process})", printable(name.trim_end())))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[cfg(target_endian = "little")]
    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 101 1 0 100 0 0 10 0
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 102 1 0 100 0 0 10 0
   2: 0100007F:1F92 0100007F:9999 01 00000000:00000000 00:00000000 00000000    33        0 103 1 0 100 0 0 10 0
   3: 00000000000000000000000001000000:1F93 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
00000000 0 0 104 1 0 100 0 0 10 0
   4: nonsense
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_listener_that_is_in_the_way_is_found() {
        for (wanted, inodes) in [
            ("127.0.0.1:8080", vec!["101"]),
            ("0.0.0.0:8080", vec!["101"]),
            ("127.0.0.2:8080", vec![]),
            ("127.0.0.2:8081", vec!["102"]),
            ("127.0.0.1:8082", vec![]),
            ("[::1]:8083", vec!["104"]),
            ("127.0.0.1:8083", vec![]),
        ] {
            assert_eq!(listeners_in_the_way(TABLE.as_bytes(), wanted.parse().unwrap()), inodes, "{wanted}");
        }
    }

    #[test]
    fn an_own_listener_is_found_in_the_kernels_tables() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                let test = "an_own_listener_is_found_in_the_kernels_tables";
                banger_testkit::not_run(test, &format!("there is no {address} here"));
                continue;
            };
            let socket = UdpSocket::bind(address).unwrap();
            for port in
                [HostPort::tcp(listener.local_addr().unwrap()), HostPort::udp(socket.local_addr().unwrap())]
            {
                let owner = port_owner(port).unwrap();
                assert!(owner.ends_with(&format!(" (process {})", std::process::id())), "{owner}");
            }
        }
    }

    #[test]
    fn a_free_port_has_no_owner() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(port_owner(HostPort::tcp(address)), None);
    }
}
