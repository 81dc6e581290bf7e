//! What guests send to their host by TCP, through each network.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use banger_testkit::NetworkHost;
use banger_types::helper::VmPlace;

use super::traffic::Receiver;
use super::{SIZES, aid, bare, place};
use crate::banger::Banger;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Samples, Unit};

/// Least of bare Firecracker's throughput that `nat` is to have.
const LEAST: f64 = 0.9;
/// Ports of the receivers: each network has its own.
const BARE_PORT: u16 = 7000;
const NAT_PORT: u16 = 7001;
const USER_PORT: u16 = 7002;
/// The modes of banger's that are sent through, which VMs are named after.
const MODES: [&str; 2] = ["nat", "user"];
/// The host's address towards its way out, where it is made of namespaces (RFC 5737).
const HOST: &str = "203.0.113.1";
/// The aid's place in guests.
const AID_IN_GUEST: &str = "/tmp/aid";
/// What it says there.
const SAID_IN_GUEST: &str = "/tmp/aid.log";

/// One network: who receives, and what has come.
struct Side {
    receiver: Receiver,
    rates: Samples,
}

impl Side {
    fn listening(command: Command, port: u16) -> Result<Self> {
        let receiver = Receiver::start(command, &format!("0.0.0.0:{port}"))?;
        Ok(Self { receiver, rates: Samples::new(Unit::MegabitsPerSecond) })
    }

    fn measure(&mut self, seconds: u8) -> Result<()> {
        let (bytes, time) = self.receiver.round(seconds)?;
        self.rates.push_rate(bytes, time);
        Ok(())
    }
}

/// Lets all send in turns. The first time of each is no one's.
fn take_turns(sides: &mut [&mut Side], rounds: &Rounds) -> Result<()> {
    for side in &mut *sides {
        side.receiver.round(1)?;
    }
    for _ in 0..rounds.throughput {
        for side in &mut *sides {
            side.measure(rounds.send_seconds)?;
        }
    }
    Ok(())
}

/// Compares with a bare machine, in a test host.
pub(super) fn on_firecracker(
    banger: &Banger,
    aid: &Path,
    model: &bare::Model,
    rounds: &Rounds,
) -> Result<Comparison> {
    let listening = |port| Side::listening(Command::new(aid), port);
    let (mut alone, mut nat, mut user) = (listening(BARE_PORT)?, listening(NAT_PORT)?, listening(USER_PORT)?);
    let bare = model.bare(Some(&format!("{}:{BARE_PORT}", place::TAP_ADDRESS)))?;
    let running = bare.boot_to_stay()?;
    start_guests(banger, aid, place::TAP_ADDRESS)?;
    take_turns(&mut [&mut alone, &mut nat, &mut user], rounds).with_context(|| last_words(banger))?;
    drop(running);
    let against_bare = |what: &str, side: Side| Row::of(what, side.rates).against(bare.name, &alone.rates);
    let rows = vec![
        against_bare("`nat`, Firecracker", nat).mark(Mark::RatioAtLeast(LEAST)),
        against_bare("`user`, Firecracker", user),
    ];
    end_guests(banger)?;
    Ok(Comparison {
        title: "Throughput from guest to host".to_owned(),
        method: format!(
            "One TCP connection at a time, {} s each, from a guest with one processor to a program on its host, which counts from \
             the first byte to the end. `nat` sends to its bridge's address and `user` to another of the host's, both with `--allow-host`; \
             {} to the host's address on its TAP device, where there is neither a bridge nor a rule. The three run side by \
             side and send in turns.",
            rounds.send_seconds, bare.name
        ),
        rows,
    })
}

/// The same on this machine, by QEMU's emulation and on a host made of namespaces: there is nothing to compare with.
pub(super) fn on_qemu(rounds: &Rounds) -> Result<Comparison> {
    let title = "Throughput from guest to host, QEMU";
    let Some(host) = NetworkHost::new("the throughput of networks") else {
        return Ok(Comparison::nothing(title));
    };
    host.install_helper();
    // `user` looks for the host's way out.
    let _world = host.peer("wan0");
    host.run(&format!("ip address add {HOST}/24 dev wan0"));
    host.run("ip route add default via 203.0.113.9");
    let banger = Banger::on(&host)?;
    let listening = |port| Side::listening(host.command(aid()), port);
    let (mut nat, mut user) = (listening(NAT_PORT)?, listening(USER_PORT)?);
    start_guests(&banger, &aid(), HOST)?;
    take_turns(&mut [&mut nat, &mut user], rounds).with_context(|| last_words(&banger))?;
    end_guests(&banger)?;
    Ok(Comparison {
        title: title.to_owned(),
        method: format!(
            "One TCP connection at a time, {} s each, to the bridge's address or to another of the host's, with `--allow-host`, in turns. The guest's \
             processor is emulated, and that is most of what this costs.",
            rounds.send_seconds
        ),
        rows: vec![Row::of("`nat`, QEMU", nat.rates), Row::of("`user`, QEMU", user.rates)],
    })
}

/// Starts a guest in each of banger's networks, which sends when it is asked to: to its bridge's address, or to `host`, which is
/// another of the host's.
fn start_guests(banger: &Banger, aid: &Path, host: &str) -> Result<()> {
    for mode in MODES {
        banger.run(&[&["vm", "create", mode, "--net", mode, "--allow-host"], &SIZES[..]].concat())?;
    }
    let gateway = gateway(&fs_err::read_to_string(banger.directory("nat")?.join("place.json"))?)?;
    let aid = aid.to_str().context("a path in UTF-8")?;
    let receivers = [format!("{gateway}:{NAT_PORT}"), format!("{host}:{USER_PORT}")];
    for (mode, receiver) in MODES.into_iter().zip(receivers) {
        banger.run(&["cp", aid, &format!("{mode}:{AID_IN_GUEST}")])?;
        let send = format!(
            "chmod 755 {AID_IN_GUEST} && setsid {AID_IN_GUEST} send {receiver} > {SAID_IN_GUEST} 2>&1 < /dev/null &"
        );
        banger.run(&["exec", "-u", "root", mode, "--", "sh", "-c", &send])?;
    }
    Ok(())
}

/// Returns what senders that do not come have said of it.
fn last_words(banger: &Banger) -> String {
    let said =
        MODES.map(|mode| match banger.run(&["exec", "-u", "root", mode, "--", "cat", SAID_IN_GUEST]) {
            Ok(run) => format!("{mode}: {}", run.output),
            Err(error) => format!("{mode}: {error:#}"),
        });
    said.join("\n")
}

fn end_guests(banger: &Banger) -> Result<()> {
    MODES.into_iter().try_for_each(|mode| banger.remove(mode).map(drop))
}

/// Returns the host's address in a VM's network, from what its daemon has noted of its place.
fn gateway(place: &str) -> Result<Ipv4Addr> {
    let place: VmPlace = serde_json::from_str(place)?;
    Ok(place.network.gateway)
}
