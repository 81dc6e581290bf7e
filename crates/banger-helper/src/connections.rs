//! Connections that the kernel remembers (`nf_conntrack`), by its netlink interface (`nf_conntrack_netlink`, ctnetlink).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Messages begin at multiples of so many bytes (netlink(7), `NLMSG_ALIGN`).
const ALIGNMENT: usize = 4;

/// Makes the kernel forget the connections of addresses that are nobody's any more: whoever has one of them next is somebody else, and an
/// answer to who had it before is none to them. What cannot be forgotten, as by a kernel without that interface, times out.
pub(crate) fn forget(addresses: &BTreeSet<IpAddr>) {
    let _ = try_forget(addresses);
}

fn try_forget(addresses: &BTreeSet<IpAddr>) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    for (family, tuple) in connections_of(&socket, addresses)? {
        let message = ConntrackMessage::Delete(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
        send(&socket, NLM_F_ACK, family, message)?;
        // It may have ended by itself meanwhile.
        socket.recv_from_full()?;
    }
    Ok(())
}

/// Who has sent the first packet to whom, as that connection is known by.
type Known = (NetfilterProtoFamily, Vec<Tuple>);

/// Returns the connections in which one of these addresses takes part.
fn connections_of(socket: &Socket, addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<Known>> {
    send(socket, NLM_F_DUMP, NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()))?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for message in messages(&bytes) {
            match message {
                NetlinkPayload::InnerMessage(message) => found.extend(connection(message, addresses)),
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
    }
}

/// Returns the messages that were sent together, but for those that cannot be understood.
fn messages(mut bytes: &[u8]) -> Vec<NetlinkPayload<NetfilterMessage>> {
    let mut found = Vec::new();
    while let Ok(buffer) = NetlinkBuffer::new_checked(bytes) {
        let length = buffer.length() as usize;
        found.extend(NetlinkMessage::deserialize(bytes).map(|message| message.payload));
        let Some(rest) = bytes.get(length.next_multiple_of(ALIGNMENT).max(ALIGNMENT)..) else { break };
        bytes = rest;
    }
    found
}

/// Returns the connection that a message is about, if one of these addresses takes part in it.
fn connection(message: NetfilterMessage, addresses: &BTreeSet<IpAddr>) -> Option<Known> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
        return None;
    };
    let is_theirs = |tuples: &[Tuple]| tuples.iter().flat_map(addresses_in).any(|it| addresses.contains(&it));
    let mut original = None;
    let mut theirs = false;
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => {
                theirs |= is_theirs(&tuples);
                original = Some(tuples);
            }
            ConntrackAttribute::CtaTupleReply(tuples) => theirs |= is_theirs(&tuples),
            _ => {}
        }
    }
    original.filter(|_| theirs).map(|tuples| (message.header.family, tuples))
}

fn addresses_in(tuple: &Tuple) -> Vec<IpAddr> {
    let Tuple::Ip(parts) = tuple else { return Vec::new() };
    let address = |part: &IPTuple| match part {
        IPTuple::SourceAddress(address) | IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    };
    parts.iter().filter_map(address).collect()
}

fn send(
    socket: &Socket,
    flags: u16,
    family: NetfilterProtoFamily,
    message: ConntrackMessage,
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}
