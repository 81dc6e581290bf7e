//! Two endpoints, joined by pipes that cut the bytes anywhere and delay them as long as they like.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, VecDeque};

use banger_channel::{Endpoint, Event, MAX_STREAMS, ProtocolError, StreamId, WINDOW};
use proptest::prelude::*;

/// What one side has sent and received on a stream.
#[derive(Default)]
struct Traffic {
    sent: Vec<u8>,
    received: Vec<u8>,
    unconsumed: usize,
    finished: bool,
    peer_finished: bool,
    gone: bool,
}

/// One side: an endpoint, the bytes under way to it, and what it knows.
struct Side {
    endpoint: Endpoint,
    inbox: VecDeque<u8>,
    connected: bool,
    traffic: BTreeMap<StreamId, Traffic>,
    seed: u8,
}

impl Side {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, inbox: VecDeque::new(), connected: false, traffic: BTreeMap::new(), seed: 0 }
    }

    fn receive(&mut self, most: usize) {
        let length = most.min(self.inbox.len());
        let bytes: Vec<u8> = self.inbox.drain(..length).collect();
        self.endpoint.receive(&bytes).unwrap();
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.endpoint.next_event() {
            match event {
                Event::Connected => self.connected = true,
                Event::Disconnected => {
                    self.connected = false;
                    self.traffic.values_mut().for_each(|traffic| traffic.gone = true);
                }
                Event::Incoming(id, service) => {
                    if service == "no" {
                        self.endpoint.refuse(id, "not here");
                    } else {
                        self.traffic.insert(id, Traffic::default());
                        self.endpoint.accept(id);
                    }
                }
                Event::Data(id, bytes) => {
                    let traffic = self.traffic.get_mut(&id).unwrap();
                    assert!(!traffic.gone && !traffic.peer_finished);
                    traffic.unconsumed += bytes.len();
                    assert!(traffic.unconsumed <= WINDOW, "credit was overrun");
                    traffic.received.extend(bytes);
                }
                Event::Finished(id) => self.traffic.get_mut(&id).unwrap().peer_finished = true,
                Event::Refused(id, reason) => {
                    assert_eq!(reason, "not here");
                    self.traffic.get_mut(&id).unwrap().gone = true;
                }
                Event::Reset(id) => self.traffic.get_mut(&id).unwrap().gone = true,
                Event::Opened(_) | Event::Writable(_) => {}
            }
        }
    }

    fn send(&mut self, id: StreamId, length: usize) {
        let seed = self.seed;
        self.seed = self.seed.wrapping_add(31);
        let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap() ^ seed).collect();
        let capacity = self.endpoint.send_capacity(id);
        let taken = self.endpoint.send(id, &bytes);
        assert_eq!(taken, capacity.min(length));
        if taken > 0 {
            let traffic = self.traffic.get_mut(&id).unwrap();
            assert!(!traffic.finished && !traffic.gone);
            traffic.sent.extend(&bytes[..taken]);
        }
    }

    fn consume(&mut self, id: StreamId, most: usize) {
        if let Some(traffic) = self.traffic.get_mut(&id) {
            let length = traffic.unconsumed.min(most);
            traffic.unconsumed -= length;
            self.endpoint.consumed(id, length);
        }
    }

    fn pick(&self, which: u8) -> Option<StreamId> {
        let count = self.traffic.len();
        (count > 0).then(|| *self.traffic.keys().nth(usize::from(which) % count).unwrap())
    }
}

/// Moves up to `most` bytes of one side's output on their way to the other.
fn write(from: &mut Side, to: &mut Side, most: usize) {
    let length = most.min(from.endpoint.output().len());
    to.inbox.extend(&from.endpoint.output()[..length]);
    from.endpoint.advance_output(length);
}

struct World {
    host: Side,
    guest: Side,
    sessions: u8,
}

impl World {
    fn new() -> Self {
        Self { host: Side::new(Endpoint::host()), guest: Side::new(Endpoint::guest([0; 16])), sessions: 0 }
    }

    fn connected() -> Self {
        let mut world = Self::new();
        world.settle();
        assert!(world.host.connected && world.guest.connected);
        world
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        loop {
            write(&mut self.host, &mut self.guest, usize::MAX);
            write(&mut self.guest, &mut self.host, usize::MAX);
            if self.host.inbox.is_empty() && self.guest.inbox.is_empty() {
                return;
            }
            self.host.receive(usize::MAX);
            self.guest.receive(usize::MAX);
        }
    }

    /// Replaces the guest's program: what it had not written is lost, what it had is under way, and
    /// its successor gets what was sent to it.
    fn restart(&mut self) {
        self.sessions += 1;
        let inbox = std::mem::take(&mut self.guest.inbox);
        self.guest = Side::new(Endpoint::guest([self.sessions; 16]));
        self.guest.inbox = inbox;
    }

    fn open(&mut self, service: &str) -> Option<StreamId> {
        let id = self.host.endpoint.open(service).ok()?;
        self.host.traffic.insert(id, Traffic::default());
        self.host.take_events();
        Some(id)
    }

    /// A new stream carries bytes both ways.
    fn assert_works(&mut self) {
        assert!(self.host.connected && self.guest.connected);
        let id = self.open("echo").unwrap();
        self.settle();
        self.host.send(id, 1000);
        self.guest.send(id, 2000);
        self.settle();
        self.assert_equal(id, false);
        assert_eq!(self.guest.traffic[&id].received.len(), 1000);
        assert_eq!(self.host.traffic[&id].received.len(), 2000);
    }

    fn assert_equal(&self, id: StreamId, prefix: bool) {
        let (Some(host), Some(guest)) = (self.host.traffic.get(&id), self.guest.traffic.get(&id)) else {
            return;
        };
        if prefix {
            assert!(guest.sent.starts_with(&host.received) && host.sent.starts_with(&guest.received));
        } else {
            assert!(guest.sent == host.received && host.sent == guest.received);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Write { host: bool, most: usize },
    Receive { host: bool, most: usize },
    Open { served: bool },
    Send { host: bool, which: u8, length: usize },
    Consume { host: bool, which: u8, most: usize },
    Finish { host: bool, which: u8 },
    Reset { host: bool, which: u8 },
    Restart,
}

fn amount() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..40_usize, 2 => 0..20_000_usize, 1 => 0..400_000_usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), amount()).prop_map(|(host, most)| Step::Write { host, most }),
        6 => (any::<bool>(), amount()).prop_map(|(host, most)| Step::Receive { host, most }),
        2 => any::<u8>().prop_map(|byte| Step::Open { served: byte > 20 }),
        6 => (any::<bool>(), any::<u8>(), amount())
            .prop_map(|(host, which, length)| Step::Send { host, which, length }),
        4 => (any::<bool>(), any::<u8>(), amount())
            .prop_map(|(host, which, most)| Step::Consume { host, which, most }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(host, which)| Step::Finish { host, which }),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(host, which)| Step::Reset { host, which }),
    ]
}

fn step_or_restart() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => Just(Step::Restart)]
}

fn apply(world: &mut World, step: Step) {
    let World { host, guest, .. } = world;
    match step {
        Step::Write { host: true, most } => write(host, guest, most),
        Step::Write { host: false, most } => write(guest, host, most),
        Step::Receive { host: true, most } => host.receive(most),
        Step::Receive { host: false, most } => guest.receive(most),
        Step::Open { served } => {
            world.open(if served { "echo" } else { "no" });
        }
        Step::Restart => world.restart(),
        Step::Send { host: at_host, which, length } => {
            let side = if at_host { host } else { guest };
            if let Some(id) = side.pick(which) {
                side.send(id, length);
            }
        }
        Step::Consume { host: at_host, which, most } => {
            let side = if at_host { host } else { guest };
            if let Some(id) = side.pick(which) {
                side.consume(id, most);
            }
        }
        Step::Finish { host: at_host, which } => {
            let side = if at_host { host } else { guest };
            if let Some(id) = side.pick(which) {
                side.endpoint.finish(id);
                side.traffic.get_mut(&id).unwrap().finished = true;
            }
        }
        Step::Reset { host: at_host, which } => {
            let side = if at_host { host } else { guest };
            if let Some(id) = side.pick(which) {
                side.endpoint.reset(id);
                side.traffic.get_mut(&id).unwrap().gone = true;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_in_order(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::connected();
        for step in steps {
            apply(&mut world, step);
        }
        world.settle();
        let ids: Vec<StreamId> = world.host.traffic.keys().copied().collect();
        for id in ids {
            let gone = world.host.traffic[&id].gone || world.guest.traffic.get(&id).is_none_or(|guest| guest.gone);
            world.assert_equal(id, gone);
        }
        world.assert_works();
    }

    #[test]
    fn a_restart_at_any_byte_heals(steps in prop::collection::vec(step_or_restart(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            apply(&mut world, step);
        }
        world.settle();
        world.assert_works();
    }

    #[test]
    fn garbage_is_an_error_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
        let mut world = World::connected();
        let cut = cut.min(bytes.len());
        let whole = world.host.endpoint.receive(&bytes);
        let mut pieces = World::connected();
        let parts = pieces.host.endpoint.receive(&bytes[..cut])
            .and_then(|()| pieces.host.endpoint.receive(&bytes[cut..]));
        prop_assert_eq!(whole, parts);
    }
}

/// Cuts a guest off at every byte of a frame, and of its own greeting.
#[test]
fn every_cut_of_a_frame_heals() {
    for length in [1, 2, 300, 16 << 10] {
        for cut in (0..40).chain((40..length + 9).step_by(997)).chain(length..length + 10) {
            let mut world = World::connected();
            let id = world.open("echo").unwrap();
            world.settle();
            world.guest.send(id, length);
            let World { host, guest, .. } = &mut world;
            write(guest, host, cut);
            world.restart();
            write(&mut world.guest, &mut world.host, cut * 37 % 17_000);
            world.restart();
            world.settle();
            world.assert_works();
        }
    }
}

#[test]
fn a_frame_that_nobody_finished_reaches_no_stream() {
    let mut world = World::connected();
    let id = world.open("echo").unwrap();
    world.settle();
    world.guest.send(id, 5000);
    write(&mut world.guest, &mut world.host, 4000);
    world.restart();
    world.settle();
    assert!(world.host.traffic[&id].gone);
    assert!(world.host.traffic[&id].received.is_empty());
}

#[test]
fn a_stalled_stream_holds_no_other_up() {
    let mut world = World::connected();
    let (stalled, other) = (world.open("a").unwrap(), world.open("b").unwrap());
    world.settle();
    world.host.send(stalled, WINDOW + 1);
    world.settle();
    assert_eq!(world.host.endpoint.send_capacity(stalled), 0);
    for _ in 0..100 {
        world.host.send(other, 50_000);
        world.settle();
        world.guest.consume(other, usize::MAX);
        world.settle();
    }
    assert_eq!(world.guest.traffic[&other].received.len(), 5_000_000);
    world.guest.consume(stalled, usize::MAX);
    world.settle();
    assert_eq!(world.host.endpoint.send_capacity(stalled), WINDOW);
}

#[test]
fn half_closed_streams_go_on_the_other_way() {
    let mut world = World::connected();
    let id = world.open("echo").unwrap();
    world.settle();
    world.host.send(id, 10);
    world.host.endpoint.finish(id);
    world.settle();
    assert!(world.guest.traffic[&id].peer_finished);
    world.guest.send(id, 20);
    world.guest.endpoint.finish(id);
    world.settle();
    assert_eq!(world.host.traffic[&id].received.len(), 20);
    assert!(world.host.traffic[&id].peer_finished);
    // Both have finished: nothing can be sent, and the identifier is not known any more.
    assert_eq!(world.host.endpoint.send(id, b"x"), 0);
    world.host.endpoint.reset(id);
    assert!(!world.host.endpoint.has_output());
}

#[test]
fn a_peer_that_breaks_the_rules_is_told_apart() {
    let frame = |kind: u8, stream: u32, payload: &[u8]| {
        let mut bytes = vec![kind, 0];
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&stream.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0x7e);
        bytes
    };
    let cases = [
        (vec![frame(6, 1, &[1; 16 << 10]); 17].concat(), ProtocolError::CreditOverrun(id_of(1))),
        (frame(6, 2, &[1]), ProtocolError::UnknownStream { kind: "DATA", stream: id_of(2) }),
        (frame(6, 0, &[1]), ProtocolError::UnknownStream { kind: "DATA", stream: id_of(0) }),
        (frame(6, 1, &[]), ProtocolError::Malformed("DATA")),
        (frame(7, 1, &[1, 0, 0, 0]), ProtocolError::CreditOverflow(id_of(1))),
        (frame(7, 1, &[1, 0, 0]), ProtocolError::Malformed("CREDIT")),
        (frame(3, 2, b"agent"), ProtocolError::Unexpected("OPEN")),
        (frame(2, 0, &[0; 16]), ProtocolError::Unexpected("HELLO_ACK")),
        (frame(4, 1, &[]), ProtocolError::Unexpected("OPENED")),
        ([frame(8, 1, &[]), frame(6, 1, &[1])].concat(), ProtocolError::Unexpected("DATA")),
        (frame(1, 0, &[9; 20]), ProtocolError::UnsupportedVersion(0x0909_0909)),
        (vec![200], ProtocolError::UnknownKind(200)),
    ];
    for (bytes, error) in cases {
        let mut world = World::connected();
        world.open("echo").unwrap();
        world.settle();
        assert_eq!(world.host.endpoint.receive(&bytes), Err(error.clone()));
        assert_eq!(world.host.endpoint.receive(&[]), Err(error));
        assert!(world.host.endpoint.open("echo").is_err());
    }
}

/// Stream identifiers cannot be made up: take the host's own.
fn id_of(number: usize) -> StreamId {
    let mut world = World::connected();
    let mut id = None;
    for _ in 0..number {
        id = world.open("echo");
    }
    // Number 0 is never given out; an error names it all the same.
    id.unwrap_or_else(|| match world.host.endpoint.receive(&[8, 0, 0, 0, 0, 0, 0, 0, 0x7e]) {
        Err(ProtocolError::UnknownStream { stream, .. }) => stream,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_host_goes_on_after_an_error_with_a_new_endpoint() {
    let mut world = World::connected();
    assert!(world.host.endpoint.receive(&[200]).is_err());
    world.host = Side::new(Endpoint::host_after(&world.host.endpoint));
    world.host.inbox.extend([6, 0, 1, 2, 3, 4, 1, 0, 20]);
    world.restart();
    world.settle();
    world.assert_works();
}

#[test]
fn the_streams_of_a_new_endpoint_are_none_of_the_one_before() {
    let mut world = World::connected();
    let old = world.open("echo").unwrap();
    assert!(world.host.endpoint.receive(&[200]).is_err());
    world.host = Side::new(Endpoint::host_after(&world.host.endpoint));
    world.restart();
    world.settle();
    let new = world.open("echo").unwrap();
    assert!(new > old, "{new} after {old}");
    world.host.endpoint.reset(old);
    world.settle();
    world.assert_works();
    assert!(world.host.endpoint.send_capacity(new) > 0);
}

#[test]
fn streams_and_names_are_limited() {
    let mut world = World::connected();
    for _ in 0..MAX_STREAMS {
        world.open("echo").unwrap();
    }
    world.settle();
    for name in ["echo", &"x".repeat(257)] {
        let refused = world.host.endpoint.open(name).unwrap();
        assert!(matches!(world.host.endpoint.next_event(), Some(Event::Refused(id, _)) if id == refused));
    }
    assert!(!world.host.endpoint.has_output());
    assert!(world.guest.endpoint.open("echo").is_err());
}
