//! What the daemon, the command line and a VM's monitor say to each other.
//!
//! `banger-monitor DIRECTORY` reads [`LaunchSpec`] from `launch.json` in the VM's directory, starts
//! what it says, and listens on `monitor.sock` there (mode 0600, peer's uid checked). A client sends
//! one [`MonitorRequest`] as a JSON line and gets one [`MonitorReply`] as a JSON line; the
//! connection then goes on in lines, except after
//!
//! - [`MonitorRequest::Watch`]: each later line is a [`MonitorStatus`], one at each change;
//! - [`MonitorRequest::Connect`]: after the reply [`MonitorReply::Connected`] the connection *is*
//!   the stream to the guest's service;
//! - [`MonitorRequest::Console`]: after the same reply it *is* the guest's serial console.
//!
//! New requests and fields may be added; a monitor answers a request that it does not know with
//! [`MonitorReply::Failed`], and both sides ignore unknown fields: a newer daemon talks to older
//! monitors.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::address::HostPort;
use crate::guest::{GuestHello, GuestReply, GuestRequest, ListeningSocket, Service, ShutdownAction};

/// Files that a monitor reads or writes in the VM's directory.
pub mod file {
    /// [`super::LaunchSpec`], written by the daemon.
    pub const LAUNCH: &str = "launch.json";
    /// The control socket.
    pub const SOCKET: &str = "monitor.sock";
    /// [`super::MonitorStatus`], replaced at each change of phase; the last one stays.
    pub const STATUS: &str = "status.json";
    /// What the guest printed on its serial console. Rotated to `serial.log.1`.
    pub const SERIAL_LOG: &str = "serial.log";
    /// The beginning of what the guest printed since its VMM was last started.
    pub const BOOT_LOG: &str = "boot.log";
    /// What the VMM and its helpers printed on standard error. Rotated to `engine.log.1`.
    pub const ENGINE_LOG: &str = "engine.log";
    /// The monitor's own words.
    pub const MONITOR_LOG: &str = "monitor.log";
    /// Locked (flock) for as long as the monitor lives.
    pub const LOCK: &str = "monitor.lock";
}

/// What a monitor starts and owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Started before the VMM, in order; ended after it. The VMM does not outlive a helper.
    pub helpers: Vec<Program>,
    /// The VMM. Its standard input and output, two pipes, are the guest's serial console.
    pub vmm: Program,
    /// Where the control channel's byte stream comes from.
    pub channel: ChannelSource,
    /// Sockets that the VMM makes in the VM's directory, and would not make where there is something: removed before
    /// each start.
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
    /// What lets the guest's processors go on where they were made to stand still.
    #[serde(default)]
    pub resume: Option<SocketRequest>,
    /// How the VMM is asked whether the guest's processors stand still: such a guest is not dead, however silent it is.
    #[serde(default)]
    pub standing: Option<SocketQuestion>,
    /// The directory of the VMM's control group (the kernel's `cgroup-v2`), where it runs as another user: it is ended, and made to stand
    /// still and to go on, by the files [`control_group::KILL`] and [`control_group::FREEZE`] there.
    #[serde(default)]
    pub control_group: Option<PathBuf>,
    /// Most bytes of a log before it is rotated; one older file is kept.
    pub log_limit: u64,
}

/// Files of a control group's directory (the kernel's `cgroup-v2`, "Core Interface Files").
pub mod control_group {
    /// A `1` that is written to it kills every process in the group.
    pub const KILL: &str = "cgroup.kill";
    /// A `1` that is written to it makes all of them stand still, and a `0` lets them go on.
    pub const FREEZE: &str = "cgroup.freeze";
    /// Says whether there are any, and whether they stand still: `populated 1`, `frozen 0`.
    pub const EVENTS: &str = "cgroup.events";
    /// Their numbers, a line each.
    pub const PROCESSES: &str = "cgroup.procs";
    /// What they have of memory: `anon 4096`, bytes.
    pub const MEMORY: &str = "memory.stat";
}

/// Something to be written to a unix socket of the VMM's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketRequest {
    /// The socket, in the VM's directory.
    pub socket: PathBuf,
    /// What is written. The answer is of no concern.
    pub request: String,
}

/// Something to be asked of the VMM on a unix socket. Blanks and line ends of the answer count for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketQuestion {
    /// The question.
    pub ask: SocketRequest,
    /// An answer with one of these says yes.
    pub yes: Vec<String>,
    /// An answer with one of these says no.
    pub no: Vec<String>,
}

/// A program to start, in the VM's directory, with no more of the environment than `PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Shown in logs and in reasons: `qemu`, `passt`.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments, without the program's own name.
    pub arguments: Vec<String>,
    /// Ends of socket pairs that it finds open under a fixed number.
    #[serde(default)]
    pub descriptors: Vec<InheritedDescriptor>,
}

/// One end of a connected pair of unix stream sockets that the monitor makes before it starts
/// anything. Two programs that name the same pair are connected to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedDescriptor {
    /// The number in the program; 3 or more.
    pub number: i32,
    /// The pair's name.
    pub pair: String,
}

/// Where the monitor gets the control channel's byte stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelSource {
    /// The monitor keeps the other end of this pair, which the VMM inherits.
    Pair(String),
    /// The monitor connects to the VMM, whenever the guest has knocked.
    Dial(DialTerms),
}

/// How a monitor connects to a port of the guest through its VMM, as some VMMs have it (Firecracker,
/// docs/vsock.md, "Host-Initiated Connections").
///
/// Any program in the guest can connect to the host, but only its root can listen on a port below 1024. So the guest
/// listens there, and its connection to the host is but a knock, whoever it is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialTerms {
    /// The monitor listens here, in the VM's directory. What connects is a knock, and closed.
    pub knock: PathBuf,
    /// The VMM's socket, and what asks it for the port.
    pub ask: SocketRequest,
    /// How the line begins with which the VMM says that the guest has accepted.
    pub accepted: String,
}

/// Where a VM stands in the monitor's eyes.
///
/// A guest that reboots by itself goes from [`Self::Stopping`] to [`Self::Booting`], or from where it stood if only
/// its kernel said so (`reboot -f`): its monitor starts the same
/// programs again, with the forwards as they are. It does not after [`MonitorRequest::Kill`], nor after a shutdown
/// that a client has asked for, nor when the host goes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorPhase {
    /// The VMM runs; the guest has not said that it is ready.
    Booting,
    /// The guest serves sessions.
    Ready,
    /// The guest said that it goes down.
    Stopping(ShutdownAction),
    /// The VMM has ended.
    Ended(EndReason),
}

/// How a VMM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReason {
    /// The VMM's exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// What the guest had announced before: its kernel on the console, or else its agent. Nothing if it panicked, or
    /// if it rebooted and could not be started again.
    pub announced: Option<ShutdownAction>,
    /// Whether somebody had asked the monitor to kill it.
    pub killed: bool,
    /// Whether the monitor had been told by SIGTERM that the host goes down, and had told the guest.
    #[serde(default)]
    pub host_shutdown: bool,
    /// One sentence for people: "qemu exited with code 1", "killed on request".
    pub message: String,
}

/// A monitor's whole public state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Version of `banger-monitor`.
    pub version: String,
    /// The monitor's process id.
    pub monitor_pid: u32,
    /// The VMM's process id.
    pub vmm_pid: u32,
    /// The host's boot in which this is so (`/proc/sys/kernel/random/boot_id`); empty from older monitors.
    #[serde(default)]
    pub host_boot_id: String,
    /// When the VMM was started, nanoseconds since the epoch.
    pub started_at_ns: u64,
    /// Where the VM stands.
    pub phase: MonitorPhase,
    /// What the guest said of itself; `None` before it did.
    pub guest: Option<GuestHello>,
    /// Forwards in force that somebody asked for.
    pub forwards: Vec<Forward>,
    /// Forwards to ports that the guest listens on, made and ended by the monitor itself.
    #[serde(default)]
    pub automatic: Vec<Forward>,
    /// The guest's TCP sockets that listen, as far as its kernel tells of them or somebody has asked.
    #[serde(default)]
    pub sockets: Vec<ListeningSocket>,
}

/// Most forwards that somebody may ask for, for one VM.
pub const MOST_FORWARDS: usize = 256;

/// A port of the host that leads to a port of the guest, through the control channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forward {
    /// Where the host listens: `127.0.0.1:8080`, or `127.0.0.1:53/udp` for datagrams.
    pub listen: HostPort,
    /// The port of the guest, of the same protocol: on its loopback address, or where nobody listens there, on another of its own.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub guest_port: u16,
}

/// A line to a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorRequest {
    /// Answered by [`MonitorReply::Status`].
    Status,
    /// Answered by [`MonitorReply::Status`], then a status line at each change.
    Watch,
    /// Become a stream to the service. Refused while the guest is not connected.
    Connect(Service),
    /// Become the guest's serial console: what it prints from now on, and what is typed there. There may be several at
    /// a time. What a client does not read in time is left out, and said. It stays when the guest reboots.
    Console,
    /// Pass a request to the guest's agent; answered by [`MonitorReply::Guest`].
    Guest(GuestRequest),
    /// Kill the VMM at once. Answered by [`MonitorReply::Done`] when it has ended.
    Kill,
    /// Start a forward. Port 0 takes a free one; answered by [`MonitorReply::Forward`].
    ForwardAdd(Forward),
    /// End the forward that listens here. Open connections go on; datagrams do not.
    ForwardRemove(HostPort),
    /// From now on, forward to what the guest listens on, or do not. Answered by [`MonitorReply::Done`].
    ForwardAutomatically(bool),
    /// Leave this address to somebody else, if an automatic forward has it. Answered by [`MonitorReply::Done`].
    ForwardYield(HostPort),
}

/// A line from a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorReply {
    /// The state.
    Status(MonitorStatus),
    /// The stream begins with the next byte.
    Connected,
    /// The agent's answer.
    Guest(GuestReply),
    /// The forward as it stands, with the port that was taken.
    Forward(Forward),
    /// It is done.
    Done,
    /// It is not; one sentence.
    Failed(String),
}
