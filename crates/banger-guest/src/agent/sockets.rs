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

/// Returns the sockets of these protocols, in order, with the processes that have them: to look for those takes longer than all
/// else, and what was found `before` is not looked for again. Whether the kernel tells of changes is left to the caller.
pub(super) fn listening(protocols: &[Transport], before: &[ListeningSocket]) -> io::Result<ListeningSockets> {
    let mut sockets = Vec::new();
    for protocol in protocols {
        let [v4, v6] = tables(*protocol);
        sockets.extend(table(&std::fs::read_to_string(v4)?, *protocol));
        // A kernel may be without IPv6.
        sockets.extend(std::fs::read_to_string(v6).iter().flat_map(|text| table(text, *protocol)));
    }
    sockets.sort();
    let more = sockets.len() > MOST_SOCKETS;
    sockets.truncate(MOST_SOCKETS);
    name_owners(&mut sockets, before, Path::new("/proc"));
    Ok(ListeningSockets { sockets, more, told: false })
}

/// Returns the addresses on which somebody listens on a port, as far as a forward reaches them.
pub(super) fn addresses(protocol: Transport, port: u16) -> Vec<IpAddr> {
    let tables = tables(protocol).map(std::fs::read_to_string);
    let sockets = tables.iter().flatten().flat_map(|text| table(text, protocol));
    let reached = sockets.filter(|socket| socket.port == port && socket.is_reached_by_forwards());
    reached.map(|socket| socket.address).collect()
}

/// Returns the tables of a protocol, one for each family of addresses.
const fn tables(protocol: Transport) -> [&'static str; 2] {
    match protocol {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    }
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
fn name_owners(sockets: &mut [ListeningSocket], before: &[ListeningSocket], processes: &Path) {
    let known: HashMap<u64, &ListeningSocket> = before.iter().map(|socket| (socket.inode, socket)).collect();
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, socket) in sockets.iter_mut().enumerate() {
        match known.get(&socket.inode).filter(|known| is_still_so(known, processes)) {
            Some(known) => (socket.pid, socket.process) = (known.pid, known.process.clone()),
            None => wanted.entry(socket.inode).or_default().push(index),
        }
    }
    if wanted.is_empty() {
        return;
    }
    let numbers = std::fs::read_dir(processes).into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    // What has begun to listen just now is mostly of a process that has begun just now.
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    for pid in numbers {
        for inode in socket_inodes(processes, pid) {
            let Some(found) = wanted.remove(&inode) else { continue };
            let pid = eldest(processes, pid, inode);
            let name = name_of(processes, pid);
            for index in found {
                if let Some(socket) = sockets.get_mut(index) {
                    (socket.pid, socket.process) = (Some(pid), name.clone());
                }
            }
        }
        if wanted.is_empty() {
            return;
        }
    }
}

/// Whether what was found out of a socket's process holds. Of what has none that is seen there is nothing to be found.
fn is_still_so(socket: &ListeningSocket, processes: &Path) -> bool {
    socket.pid.is_none_or(|pid| socket.process.is_some() && name_of(processes, pid) == socket.process)
}

/// Returns the process that has handed a socket down to `pid`, if one has that still has it: a server rather than its
/// workers.
fn eldest(processes: &Path, mut pid: u32, inode: u64) -> u32 {
    while let Some(parent) = parent_of(processes, pid)
        && socket_inodes(processes, parent).any(|its| its == inode)
    {
        pid = parent;
    }
    pid
}

/// Returns a process's parent: the fourth field of `stat`, after a name that may have anything in it (`proc_pid_stat(5)`).
fn parent_of(processes: &Path, pid: u32) -> Option<u32> {
    let stat = std::fs::read(processes.join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the inodes of the sockets that a process has.
fn socket_inodes(processes: &Path, pid: u32) -> impl Iterator<Item = u64> + use<> {
    let descriptors = std::fs::read_dir(processes.join(pid.to_string()).join("fd"));
    descriptors.into_iter().flatten().flatten().filter_map(|descriptor| inode_of(&descriptor.path()))
}

/// Returns the inode of the socket that a descriptor stands for: `socket:[INODE]` (`proc_pid_fd(5)`).
fn inode_of(descriptor: &Path) -> Option<u64> {
    let target = std::fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn name_of(processes: &Path, pid: u32) -> Option<String> {
    let name = std::fs::read(processes.join(pid.to_string()).join("comm")).ok()?;
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
        let found = listening(&[Transport::Tcp, Transport::Udp], &[]).unwrap();
        let of = |address: std::net::SocketAddr| {
            let mut found = found.sockets.iter().filter(|socket| socket.port == address.port());
            found.find(|socket| socket.address == address.ip()).cloned()
        };
        let listens = of(tcp.local_addr().unwrap()).unwrap();
        assert_eq!((listens.protocol, listens.pid), (Transport::Tcp, Some(std::process::id())));
        assert!(listens.is_reached_by_forwards() && listens.process.is_some());
        let datagrams = of(udp.local_addr().unwrap()).unwrap();
        assert_eq!((datagrams.protocol, datagrams.pid), (Transport::Udp, Some(std::process::id())));
        assert_eq!(of(connected.local_addr().unwrap()), None);
        let tcp_only = listening(&[Transport::Tcp], &[]).unwrap();
        assert!(tcp_only.sockets.iter().all(|socket| socket.protocol == Transport::Tcp));
    }

    #[test]
    fn a_server_is_named_before_its_workers_and_not_looked_for_twice() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut worker = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let of = |before: &[ListeningSocket]| {
            let found = listening(&[Transport::Tcp], before).unwrap();
            found.sockets.into_iter().find(|socket| socket.port == port).unwrap()
        };
        let found = of(&[]);
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(found.pid, Some(std::process::id()), "{found:?}");
        // What is known is believed while the process is there that it names.
        let own = ListeningSocket { pid: Some(1), process: name_of(Path::new("/proc"), 1), ..found.clone() };
        assert_eq!(of(std::slice::from_ref(&own)), own);
        let gone = ListeningSocket { process: Some("nobody is called so".to_owned()), ..own };
        assert_eq!(of(&[gone]), found);
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
