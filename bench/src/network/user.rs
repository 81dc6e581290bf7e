//! A user-mode network without a VM: its programs as a monitor starts them, and a guest's question.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use banger_types::monitor::{LaunchSpec, Program, file};
use command_fds::{CommandFdExt as _, FdMapping};

/// The pair between the VMM and the filter (see `banger-net`).
const GUEST_PAIR: &str = "guest";
/// Has the filter take its guest's frames from a socket of packets.
const PACKETS: &str = "--packets";
/// How long the network may take to answer.
const LIMIT: Duration = Duration::from_mins(1);
/// The guest's address in every user-mode network, its hardware address, and its gateway.
const GUEST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const GUEST_MAC: [u8; 6] = [0x02, 0x62, 0x6e, 0x67, 0x00, 0x01];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// An Ethernet header's type of ARP (RFC 826); and the beginning of such a packet for IPv4 over Ethernet.
const ARP: [u8; 2] = [0x08, 0x06];
const V4_OVER_ETHERNET: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const QUESTION: [u8; 2] = [0, 1];
const ANSWER: [u8; 2] = [0, 2];

/// The programs of a VM's network.
#[derive(Debug)]
pub(super) struct Programs(Vec<Program>);

/// They run. They end with this, for the filter's guest has gone then.
#[derive(Debug)]
struct Running {
    children: Vec<Child>,
    guest: UnixStream,
}

impl Programs {
    /// Returns those of a VM that runs.
    pub(super) fn of(vm: &Path) -> Result<Self> {
        let launch: LaunchSpec = serde_json::from_slice(&fs_err::read(vm.join(file::LAUNCH))?)?;
        ensure!(launch.helpers.len() > 1, "a network of {:?}", launch.helpers);
        Ok(Self(launch.helpers.into_iter().map(with_stream).collect()))
    }

    /// Starts them, and returns how long it takes until the gateway has answered.
    pub(super) fn time(&self) -> Result<Duration> {
        let begin = Instant::now();
        let mut running = self.start()?;
        running.ask()?;
        Ok(begin.elapsed())
    }

    fn start(&self) -> Result<Running> {
        let mut ends: BTreeMap<&str, Vec<UnixStream>> = BTreeMap::new();
        for descriptor in self.0.iter().flat_map(|program| &program.descriptors) {
            if let Entry::Vacant(free) = ends.entry(&descriptor.pair) {
                free.insert(UnixStream::pair().map(|(one, other)| vec![one, other])?);
            }
        }
        let mut take = |pair: &str| ends.get_mut(pair).and_then(Vec::pop).context("a pair of three");
        let guest = take(GUEST_PAIR)?;
        let mut running = Running { children: Vec::new(), guest };
        for program in &self.0 {
            let mut command = Command::new(&program.path);
            command.args(&program.arguments).stdin(Stdio::null()).stdout(Stdio::null());
            let mut mappings = Vec::new();
            for descriptor in &program.descriptors {
                let parent_fd = take(&descriptor.pair)?.into();
                mappings.push(FdMapping { parent_fd, child_fd: descriptor.number });
            }
            command.fd_mappings(mappings)?;
            running.children.push(command.spawn().with_context(|| format!("cannot run {}", program.name))?);
        }
        Ok(running)
    }
}

/// Returns the program, which if it is the filter takes its guest's frames from the pair itself.
fn with_stream(program: Program) -> Program {
    let arguments = program.arguments.into_iter().filter(|argument| argument != PACKETS).collect();
    Program { arguments, ..program }
}

impl Running {
    /// Asks for the gateway's hardware address until it is told.
    fn ask(&mut self) -> Result<()> {
        self.guest.set_read_timeout(Some(LIMIT))?;
        let question = question();
        let length = u32::try_from(question.len())?.to_be_bytes();
        self.guest.write_all(&[&length, &question[..]].concat())?;
        loop {
            let mut length = [0; 4];
            self.guest.read_exact(&mut length).context("the network has not answered")?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.guest.read_exact(&mut frame)?;
            if is_answer(&frame) {
                return Ok(());
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already: its neighbour has.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Returns the frame with which a guest asks who the gateway is.
fn question() -> Vec<u8> {
    let (everybody, nobody) = ([0xff; 6], [0; 6]);
    [
        &everybody[..],
        &GUEST_MAC,
        &ARP,
        &V4_OVER_ETHERNET,
        &QUESTION,
        &GUEST_MAC,
        &GUEST.octets(),
        &nobody,
        &GATEWAY.octets(),
    ]
    .concat()
}

/// Whether a frame says who the gateway is.
fn is_answer(frame: &[u8]) -> bool {
    let begin = [&ARP[..], &V4_OVER_ETHERNET, &ANSWER].concat();
    frame.get(12..22) == Some(&begin[..]) && frame.get(28..32) == Some(&GATEWAY.octets()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_no_answer_and_an_answer_is() {
        let asked = question();
        assert_eq!(asked.len(), 42);
        assert!(!is_answer(&asked) && !is_answer(&[]));
        let mut told = asked;
        told[20..22].copy_from_slice(&ANSWER);
        assert!(!is_answer(&told), "it is the guest that says so");
        told[28..32].copy_from_slice(&GATEWAY.octets());
        assert!(is_answer(&told));
    }

    #[test]
    fn the_filter_gets_frames_from_a_stream() {
        let program = Program {
            name: "banger-filter".to_owned(),
            path: "/lib/banger-filter".into(),
            arguments: ["198.18.0.2/24", PACKETS, "--allow-host"].map(str::to_owned).to_vec(),
            descriptors: Vec::new(),
        };
        assert_eq!(with_stream(program).arguments, ["198.18.0.2/24", "--allow-host"]);
    }
}
