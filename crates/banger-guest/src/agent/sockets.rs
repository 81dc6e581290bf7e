//! The guest's sockets that listen, as the kernel shows them (`proc_pid_net(5)`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use banger_types::guest::{LONGEST_PROCESS_NAME, ListeningSocket, ListeningSockets, MOST_SOCKETS, Transport};

/// The state of a TCP socket that listens: `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const LISTENS: &str = "0A";
/// The state of a UDP socket that is connected to nobody: `TCP_CLOSE` there.
const IS_CONNECTED_TO_NOBODY: &str = "07";

/// Returns the sockets of these protocols, in order, with the processes that have them. Whether the kernel tells of changes
/// is left to the caller.
pub(super) fn listening(protocols: &[Transport]) -> io::Result<ListeningSockets> {
    let mut sockets = Vec::new();
    for protocol in protocols {
        let tables = match protocol {
            Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        sockets.extend(table(&std::fs::read_to_string(tables[0])?, *protocol));
        // A kernel may be without IPv6.
        sockets.extend(std::fs::read_to_string(tables[1]).iter().flat_map(|text| table(text, *protocol)));
    }
    sockets.sort();
    let more = sockets.len() > MOST_SOCKETS;
    sockets.truncate(MOST_SOCKETS);
    name_owners(&mut sockets, Path::new("/proc"));
    Ok(ListeningSockets { sockets, more, told: false })
}

/// Returns the sockets of a table that listen.
fn table(text: &str, protocol: Transport) -> Vec<ListeningSocket> {
    let wanted = match protocol {
        Transport::Tcp => LISTENS,
        Transport::Udp => IS_CONNECTED_TO_NOBODY,
    };
    // Number, local address, remote address, state, queues, timer, retransmits, user, timeout, inode, …
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().take(10).collect();
        let (&[_, local, _, state, .., inode], 10) = (&fields[..], fields.len()) else { return None };
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
        (state == wanted).then_some(ListeningSocket {
            protocol,
            port,
            address: address_of(address)?,
            process: None,
            pid: None,
            inode: inode.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// Reads an address: words of 32 bits in the host's order, whose bytes are in the network's.
fn address_of(text: &str) -> Option<IpAddr> {
    let words =
        text.as_bytes().chunks(8).map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok());
    let words: Vec<[u8; 4]> = words.map(|word| word.map(u32::to_ne_bytes)).collect::<Option<_>>()?;
    match words[..] {
        [v4] => Some(Ipv4Addr::from(v4).into()),
        // One that serves both families with IPv4's addresses alone, as a JVM does, is shown by what it is.
        [_, _, _, _] => {
            let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?);
            Some(IpAddr::from(v6).to_canonical())
        }
        _ => None,
    }
}

/// Finds a process for each socket. Those that are found by none keep having none: their processes are in a container that
/// shows only itself, or gone.
fn name_owners(sockets: &mut [ListeningSocket], processes: &Path) {
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, socket) in sockets.iter().enumerate() {
        wanted.entry(socket.inode).or_default().push(index);
    }
    let numbers = std::fs::read_dir(processes).into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbers {
        if wanted.is_empty() {
            return;
        }
        let directory = processes.join(pid.to_string());
        let mut name = None;
        for descriptor in std::fs::read_dir(directory.join("fd")).into_iter().flatten().flatten() {
            let Some(found) = inode_of(&descriptor.path()).and_then(|inode| wanted.remove(&inode)) else {
                continue;
            };
            let name = name.get_or_insert_with(|| name_of(&directory));
            for index in found {
                if let Some(socket) = sockets.get_mut(index) {
                    (socket.pid, socket.process) = (Some(pid), name.clone());
                }
            }
        }
    }
}

/// Returns the inode of the socket that a descriptor stands for: `socket:[INODE]` (`proc_pid_fd(5)`).
fn inode_of(descriptor: &Path) -> Option<u64> {
    let target = std::fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn name_of(process: &Path) -> Option<String> {
    let name = std::fs::read(process.join("comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    Some(name.trim_end_matches('\n').chars().take(LONGEST_PROCESS_NAME).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_found_with_their_processes() {
        let tcp = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let connected = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let found = listening(&[Transport::Tcp, Transport::Udp]).unwrap();
        let of = |address: std::net::SocketAddr| {
            let mut found = found.sockets.iter().filter(|socket| socket.port == address.port());
            found.find(|socket| socket.address == address.ip()).cloned()
        };
        let listens = of(tcp.local_addr().unwrap()).unwrap();
        assert_eq!((listens.protocol, listens.pid), (Transport::Tcp, Some(std::process::id())));
        assert!(listens.is_reached_by_loopback() && listens.process.is_some());
        let datagrams = of(udp.local_addr().unwrap()).unwrap();
        assert_eq!((datagrams.protocol, datagrams.pid), (Transport::Udp, Some(std::process::id())));
        assert_eq!(of(connected.local_addr().unwrap()), None);
        let tcp_only = listening(&[Transport::Tcp]).unwrap();
        assert!(tcp_only.sockets.iter().all(|socket| socket.protocol == Transport::Tcp));
    }

    #[test]
    fn what_is_no_table_has_no_sockets() {
        for text in
            ["", "header\n", "header\n 0: 00000000:0016\n", "header\n0: xyz:0016 0:0 0A 0 0 0 0 0 7\n"]
        {
            assert_eq!(table(text, Transport::Tcp), []);
        }
    }
}
