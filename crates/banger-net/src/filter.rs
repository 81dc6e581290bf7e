//! Which of a guest's frames go out.
//!
//! passt opens a socket of the host for each connection that it sees in a guest's packets, to
//! whatever address they name: its `--no-map-gw` keeps the gateway from being the host, but the
//! version of Debian 12 (2023-03) takes packets for 127.0.0.1, which a hostile root of a guest can
//! send out of its network card, to the host's own loopback. So no frame gets there that the plan
//! has no place for.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;

/// Bytes of an Ethernet II header: two addresses and a type (IEEE 802.3 section 3.2).
const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options (RFC 791 section 3.1).
const IPV4: usize = 20;
/// The type of a frame that holds an IPv4 packet.
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// The type of a frame that holds an ARP packet (RFC 826).
const TYPE_ARP: [u8; 2] = [0x08, 0x06];

/// Bytes of the length before each frame.
const LENGTH: usize = 4;
/// Longest frame: the longest IPv4 packet and its Ethernet header, with room for a tag.
const LONGEST: usize = ETHERNET + 65_535 + 4;

/// Returns whether a frame of the guest with this address may go out.
fn may_leave(frame: &[u8], guest: Ipv4Addr) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else { return false };
    match [header[12], header[13]] {
        TYPE_ARP => true,
        TYPE_IPV4 => packet.len() >= IPV4 && may_be_routed(packet, guest),
        // The network has nothing else: no IPv6, no tags.
        _ => false,
    }
}

fn may_be_routed(packet: &[u8], guest: Ipv4Addr) -> bool {
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let (source, destination) = (address(12), address(16));
    // A connection to 0.0.0.0 is one to the loopback, on Linux.
    let is_the_hosts_own = destination.is_loopback() || destination.octets()[0] == 0;
    source == guest && !is_the_hosts_own
}

/// Passes the guest's frames on until its end closes. Each frame comes, and goes, after its length
/// as 32 bits in network byte order (passt(1)).
///
/// # Errors
/// When either end breaks, or the guest's end sends what is no frame.
pub fn pass_frames(from: impl Read, mut to: impl Write, guest: Ipv4Addr) -> io::Result<()> {
    read_pieces(from, |bytes| pass_whole(bytes, &mut to, guest))
}

/// Gives `take` what comes, as much as there is of it, until the end; it returns how much of that it has done with.
fn read_pieces(mut from: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut buffer = vec![0; 2 * (LENGTH + LONGEST)];
    let mut filled = 0;
    loop {
        let read = from.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let taken = take(&buffer[..filled])?;
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
    }
}

/// Passes the guest's frames on that `receive` gives one by one, as [`pass_frames`] does.
///
/// # Errors
/// When either end breaks.
pub fn pass_packets(
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut to: impl Write,
    guest: Ipv4Addr,
) -> io::Result<()> {
    let mut buffer = vec![0; LENGTH + LONGEST];
    loop {
        let length = receive(&mut buffer[LENGTH..])?.min(LONGEST);
        buffer[..LENGTH].copy_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes());
        if may_leave(&buffer[LENGTH..LENGTH + length], guest) {
            to.write_all(&buffer[..LENGTH + length])?;
        }
    }
}

/// Takes the world's frames, each after its length, and gives them to `send` one by one, until the world's end closes.
///
/// # Errors
/// When the world's end breaks, or sends what is no frame.
pub fn deliver(from: impl Read, mut send: impl FnMut(&[u8])) -> io::Result<()> {
    read_pieces(from, |bytes| {
        let mut at = 0;
        while let Some(end) = end_of_frame(bytes, at)? {
            send(&bytes[at + LENGTH..end]);
            at = end;
        }
        Ok(at)
    })
}

/// Passes the whole frames at the beginning of `bytes` on, neighbours together. Returns how many
/// bytes they were.
fn pass_whole(bytes: &[u8], to: &mut impl Write, guest: Ipv4Addr) -> io::Result<usize> {
    let (mut begin, mut at) = (0, 0);
    while let Some(end) = end_of_frame(bytes, at)? {
        if !may_leave(&bytes[at + LENGTH..end], guest) {
            to.write_all(&bytes[begin..at])?;
            begin = end;
        }
        at = end;
    }
    to.write_all(&bytes[begin..at])?;
    Ok(at)
}

/// Returns where the frame that begins at `at` ends, or `None` when it is not all there.
fn end_of_frame(bytes: &[u8], at: usize) -> io::Result<Option<usize>> {
    let Some(length) = bytes[at..].first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let end = at + LENGTH + length;
    Ok((end <= bytes.len()).then_some(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

    fn packet(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(TYPE_IPV4);
        frame.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend(frame);
        }
        bytes
    }

    #[test]
    fn the_hosts_loopback_is_out_of_reach() {
        assert!(may_leave(&packet(GUEST, Ipv4Addr::new(93, 184, 215, 14)), GUEST));
        for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 255, 0, 9), Ipv4Addr::UNSPECIFIED] {
            assert!(!may_leave(&packet(GUEST, own), GUEST), "{own}");
        }
        assert!(
            !may_leave(&packet(Ipv4Addr::LOCALHOST, Ipv4Addr::new(1, 1, 1, 1)), GUEST),
            "a forged source"
        );
    }

    #[test]
    fn only_arp_and_ipv4_leave() {
        let mut frame = packet(GUEST, Ipv4Addr::new(1, 1, 1, 1));
        frame[12..14].copy_from_slice(&TYPE_ARP);
        assert!(may_leave(&frame, GUEST));
        for other in [[0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8], [0x00, 0x10]] {
            frame[12..14].copy_from_slice(&other);
            assert!(!may_leave(&frame, GUEST), "{other:x?}");
        }
        assert!(!may_leave(&packet(GUEST, GUEST)[..33], GUEST), "cut off");
    }

    #[test]
    fn packets_are_passed_and_delivered_as_frames() {
        let frames = [
            packet(GUEST, Ipv4Addr::new(9, 9, 9, 9)),
            packet(GUEST, Ipv4Addr::LOCALHOST),
            packet(GUEST, Ipv4Addr::new(8, 8, 8, 8)),
        ];
        let mut waiting = frames.iter();
        let receive = |buffer: &mut [u8]| {
            let frame = waiting.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer[..frame.len()].copy_from_slice(frame);
            Ok(frame.len())
        };
        let mut out = Vec::new();
        assert!(pass_packets(receive, &mut out, GUEST).is_err());
        assert_eq!(out, framed(&[frames[0].clone(), frames[2].clone()]));

        let mut delivered = Vec::new();
        deliver(Pieces(&out, vec![1, 40, 3, 7]), |frame| delivered.push(frame.to_vec())).unwrap();
        assert_eq!(delivered, [frames[0].clone(), frames[2].clone()]);
    }

    #[test]
    fn a_length_that_is_none_ends_it() {
        let result = pass_frames(&[0xff; 64][..], io::sink(), GUEST);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// Gives its bytes in pieces of these sizes.
    struct Pieces<'a>(&'a [u8], Vec<usize>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.1.pop().unwrap_or(usize::MAX).clamp(1, buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(piece);
            buffer[..piece].copy_from_slice(now);
            self.0 = later;
            Ok(piece)
        }
    }

    proptest! {
        /// However the bytes are cut, what may leave leaves unchanged and in order, and nothing else.
        #[test]
        fn pieces_make_no_difference(
            allowed in prop::collection::vec((any::<bool>(), 0usize..3000), 0..20),
            pieces in prop::collection::vec(1usize..2000, 0..60),
        ) {
            let frames: Vec<(bool, Vec<u8>)> = allowed.into_iter().map(|(allowed, padding)| {
                let to = if allowed { Ipv4Addr::new(9, 9, 9, 9) } else { Ipv4Addr::LOCALHOST };
                let mut frame = packet(GUEST, to);
                frame.resize(frame.len() + padding, 7);
                (allowed, frame)
            }).collect();
            let all: Vec<_> = frames.iter().map(|(_, frame)| frame.clone()).collect();
            let wanted: Vec<_> =
                frames.iter().filter(|(allowed, _)| *allowed).map(|(_, frame)| frame.clone()).collect();
            let mut out = Vec::new();
            pass_frames(Pieces(&framed(&all), pieces), &mut out, GUEST).unwrap();
            prop_assert_eq!(out, framed(&wanted));
        }
    }
}
