//! What listens in a VM, and how it is reached: looked at when somebody asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use banger_host::MonitorError;
use banger_types::address::HostPort;
use banger_types::guest::{GuestReply, GuestRequest, ListeningSocket, ListeningSockets, Transport};
use banger_types::monitor::{Forward, MonitorStatus};
use banger_types::port::{Scheme, VmPort, VmPorts};
use banger_types::{ApiError, ErrorKind, VmId};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::context::Context;
use super::monitors;

/// How long a guest may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long what listens may take to say what it speaks.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// How often something is asked what it speaks that has not said it: it may still be starting.
const MOST_PROBES: u32 = 3;
/// The request that a server of HTTP answers, and whose answer is short: RFC 9110 section 9.3.2.
const PROBE: &[u8] = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The sockets of a VM that were asked what they speak, by their port and their number in the guest's kernel.
type Sockets = HashMap<(u16, u64), Asked>;

/// What sockets were found to speak, by VM.
#[derive(Debug, Default)]
pub(crate) struct Spoken(Mutex<HashMap<VmId, Sockets>>);

/// How often a socket was asked, and what it said.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    times: u32,
    speaks: Option<Scheme>,
}

impl Spoken {
    fn of(&self, vm: &VmId, socket: &ListeningSocket) -> Asked {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(vm).and_then(|of_vm| of_vm.get(&key(socket))).copied().unwrap_or_default()
    }

    /// Remembers what was found; what does not listen any more is forgotten, as are VMs that are gone.
    fn remember(&self, vm: &VmId, found: Sockets, context: &Context) {
        let there: Vec<VmId> = context.vms.handles().iter().map(|handle| handle.id().clone()).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| there.contains(id));
        if found.is_empty() { drop(known.remove(vm)) } else { drop(known.insert(vm.clone(), found)) }
    }
}

const fn key(socket: &ListeningSocket) -> (u16, u64) {
    (socket.port, socket.inode)
}

/// Returns what listens in a VM that runs. `name` is what it is called.
pub(crate) async fn ports(
    context: &Context,
    spoken: &Spoken,
    id: &VmId,
    name: &str,
) -> Result<VmPorts, ApiError> {
    let cannot = |why: String| {
        ApiError::new(ErrorKind::Failed, format!("cannot see what listens in '{name}'")).because(why)
    };
    let look = async {
        let found = match monitors::open(context, id)?.guest(GuestRequest::Sockets).await? {
            GuestReply::Sockets(found) => found,
            _ => ListeningSockets::default(),
        };
        // Not before: where the kernel does not tell, what was found is forwarded just now.
        Ok::<_, MonitorError>((found, monitors::open(context, id)?.status().await?))
    };
    let (found, status) = match tokio::time::timeout(ANSWER_LIMIT, look).await {
        Ok(looked) => looked.map_err(|error| cannot(error.to_string()))?,
        Err(_) => return Err(cannot("its guest does not answer".to_owned())),
    };
    let ports = join_all(found.sockets.into_iter().map(|socket| look_at(socket, &status, id, spoken))).await;
    let asked = ports.iter().filter(|(_, asked)| asked.times > 0);
    spoken.remember(id, asked.map(|(port, asked)| (key(&port.socket), *asked)).collect(), context);
    Ok(VmPorts {
        ports: ports.into_iter().map(|(port, _)| port).collect(),
        more: found.more,
        told: found.told,
    })
}

async fn look_at(
    socket: ListeningSocket,
    status: &MonitorStatus,
    vm: &VmId,
    spoken: &Spoken,
) -> (VmPort, Asked) {
    let to_it = |forward: &&Forward| {
        socket.protocol == forward.listen.protocol
            && socket.is_reached_by_forwards()
            && forward.guest_port == socket.port
    };
    let asked_for = status.forwards.iter().find(to_it);
    let forward = asked_for.or_else(|| status.automatic.iter().find(to_it)).map(|forward| forward.listen);
    let mut asked = spoken.of(vm, &socket);
    if let Some(HostPort { protocol: Transport::Tcp, address }) = forward
        && asked.speaks.is_none()
        && asked.times < MOST_PROBES
    {
        asked = Asked { times: asked.times + 1, speaks: probe(address).await };
    }
    let url = forward.map(|forward| match asked.speaks {
        Some(scheme) => format!("{scheme}://{}/", reachable(forward.address)),
        None => format!("{}://{}", forward.protocol, reachable(forward.address)),
    });
    let automatic = forward.is_some() && asked_for.is_none();
    (VmPort { socket, forward, automatic, speaks: asked.speaks, url }, asked)
}

/// Returns an address that can be connected to.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

/// Finds out whether a browser could talk to what is behind a forward.
async fn probe(forward: SocketAddr) -> Option<Scheme> {
    let ask = async {
        let mut stream = TcpStream::connect(reachable(forward)).await.ok()?;
        stream.write_all(PROBE).await.ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.ok()?;
        spoken_in(&answer)
    };
    tokio::time::timeout(PROBE_LIMIT, ask).await.ok()?
}

/// Returns what begins an answer so: a status line (RFC 9112 section 4), or an alert of TLS (RFC 8446 section 5.1), which is
/// seven bytes.
fn spoken_in(answer: &[u8]) -> Option<Scheme> {
    match answer {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', ..] => Some(Scheme::Http),
        [21, 3, ..] => Some(Scheme::Https),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_known_by_its_beginning() {
        assert_eq!(spoken_in(b"HTTP/1.1 200 OK"), Some(Scheme::Http));
        assert_eq!(spoken_in(&[21, 3, 3, 0, 2, 2, 70]), Some(Scheme::Https));
        for other in [&b"220 smtp"[..], b"HTTP/2", b"", b"\x15\x02"] {
            assert_eq!(spoken_in(other), None);
        }
    }

    #[test]
    fn an_address_for_all_is_reached_on_the_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
