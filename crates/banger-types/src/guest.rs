//! What host and guest say to each other.
//!
//! Three things cross the border:
//!
//! 1. The **configuration drive**: the fourth block device, read-only. It holds one
//!    [`GuestConfig`] as JSON, padded with NUL bytes to a multiple of 512. Block devices are
//!    readable by root alone in the guest, so the keys on it are, too.
//! 2. The **control channel**: one byte stream (virtio-serial under QEMU), multiplexed by
//!    `banger-channel`. The host opens streams to a [`Service`] of the guest; the guest opens none.
//! 3. On a stream to [`Service::Agent`]: JSON lines, [`GuestMessage`] one way, [`HostMessage`] the
//!    other. The guest speaks first, with the protocol versions it knows; the host chooses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::image::{FoundRoot, ImageConfig};

/// The block devices of every guest, in the order in which every engine must attach them.
pub mod drive {
    /// The image's root file system, read-only and shared.
    pub const BASE: &str = "/dev/vda";
    /// The VM's private disk, ext4.
    pub const PRIVATE: &str = "/dev/vdb";
    /// The kernel's modules, ext4, read-only and shared; its root is `/lib/modules/RELEASE`.
    pub const MODULES: &str = "/dev/vdc";
    /// The configuration drive.
    pub const CONFIG: &str = "/dev/vdd";
}

/// The name of the virtio-serial port that carries the control channel.
pub const CONTROL_PORT_NAME: &str = "banger.control";

/// The vsock port of the control channel, where there is a socket device. Below 1024: only the guest's root can listen
/// on it.
pub const CONTROL_SOCKET_PORT: u32 = 1;

/// A word of the kernel's command line: the guest is only to show that guests boot here. It prints [`PROBE_WORDS`] and
/// resets the machine.
pub const PROBE_PARAMETER: &str = "banger.probe";
/// What such a guest prints.
pub const PROBE_WORDS: &str = "guests boot here";

/// A word of the kernel's command line: the guest is only to look at its first drive, read-only. It prints
/// [`INSPECTION_PREFIX`] and an [`Inspection`] as JSON on one line, and resets the machine.
pub const INSPECT_PARAMETER: &str = "banger.inspect";
/// What the line begins with.
pub const INSPECTION_PREFIX: &str = "inspection: ";

/// A word of the kernel's command line: the guest is only to give the blocks of its first drive back that nobody uses, an ext4.
/// It prints [`TRIMMED_PREFIX`] and how many bytes they had, or why it could not, as JSON on one line, and resets the machine.
pub const TRIM_PARAMETER: &str = "banger.trim";
/// What the line begins with.
pub const TRIMMED_PREFIX: &str = "trimmed: ";

/// What a guest says of its kernel and its first drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The kernel's release, as `uname -r`.
    pub kernel_release: String,
    /// What the kernel has of that which guests need, with the modules that it was given.
    pub features: Vec<KernelFeature>,
    /// The root file system, or why there is none, as a clause.
    pub root: Result<FoundRoot, String>,
}

/// What a guest may need of its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KernelFeature {
    /// `CONFIG_OVERLAY_FS`: the image and the private disk as one.
    Overlay,
    /// `CONFIG_EXT4_FS`: the private disk.
    Ext4,
    /// `CONFIG_VIRTIO_BLK`: drives.
    Block,
    /// `CONFIG_VIRTIO_CONSOLE`: the control channel under QEMU.
    Console,
    /// `CONFIG_VIRTIO_VSOCKETS`: the control channel under Firecracker.
    Socket,
    /// `CONFIG_VIRTIO_NET`: a network card.
    Network,
    /// `CONFIG_SQUASHFS`: images that are on it.
    Squashfs,
    /// `CONFIG_EROFS_FS`: images that are on it.
    Erofs,
    /// What Docker and its like need: namespaces, control groups, and a network for containers, which is bridges, pairs of
    /// cards and address translation.
    Containers,
}

impl KernelFeature {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Overlay,
        Self::Ext4,
        Self::Block,
        Self::Console,
        Self::Socket,
        Self::Network,
        Self::Squashfs,
        Self::Erofs,
        Self::Containers,
    ];

    /// Returns what people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlayfs",
            Self::Ext4 => "ext4",
            Self::Block => "virtio-blk",
            Self::Console => "virtio-console",
            Self::Socket => "vsock",
            Self::Network => "virtio-net",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Containers => "containers",
        }
    }

    /// Returns the feature of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl std::fmt::Display for KernelFeature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a module of the initramfs is loaded for. `/modules/list` has a line for each, in the order in which they must be
/// loaded: the file's name, a space, and the purpose's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModulePurpose {
    /// Every guest's root.
    Root,
    /// A console with ports: the control channel, under some VMMs.
    Console,
    /// A socket device: the control channel, under other VMMs.
    Socket,
    /// A network card.
    Network,
    /// An image that is on another file system than the private disk.
    Image,
}

impl ModulePurpose {
    /// All.
    pub const ALL: [Self; 5] = [Self::Root, Self::Console, Self::Socket, Self::Network, Self::Image];

    /// Returns its name, as in the list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Console => "console",
            Self::Socket => "socket",
            Self::Network => "network",
            Self::Image => "image",
        }
    }

    /// Returns the purpose of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// The oldest agent protocol that this build understands.
pub const PROTOCOL_OLDEST: u32 = 1;
/// The newest agent protocol that this build understands.
pub const PROTOCOL_NEWEST: u32 = 3;
/// The first protocol with [`GuestRequest::Trim`].
pub const PROTOCOL_WITH_TRIM: u32 = 2;
/// The first protocol with [`GuestRequest::Sockets`] and [`GuestMessage::Sockets`].
pub const PROTOCOL_WITH_SOCKETS: u32 = 3;

/// The version of [`GuestConfig`] that this build writes.
pub const CONFIG_VERSION: u32 = 1;

/// Everything a guest is told before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// [`CONFIG_VERSION`] of the writer.
    pub version: u32,
    /// The VM's name; becomes the host name.
    pub hostname: String,
    /// The SSH server's keys.
    pub ssh: SshKeys,
    /// The network card's addresses; `None` when the VM has no card.
    pub network: Option<GuestNetwork>,
    /// The image's configuration: user, environment, working directory, entrypoint.
    pub image: ImageConfig,
    /// Whether the image's entrypoint and command run from boot on, supervised.
    #[serde(default)]
    pub service: bool,
    /// Host time when the configuration was written, nanoseconds since the epoch.
    pub unix_time_ns: u64,
}

/// Keys of the guest's SSH server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKeys {
    /// The server's private Ed25519 key, in OpenSSH's PEM form.
    pub host_private_key: String,
    /// Public keys that may log in as any user, each a line as in `authorized_keys`.
    pub authorized_keys: Vec<String>,
}

impl fmt::Debug for SshKeys {
    /// Leaves the private key out, so that no log ever has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshKeys").field("authorized_keys", &self.authorized_keys).finish_non_exhaustive()
    }
}

/// Addresses of the guest's one network card, set before any of the image's programs run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The card's hardware address, as `02:00:00:00:00:01`; the card is found by it.
    pub mac: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Addresses with prefix length, as `10.0.2.15/24` or `fd00::2/64`.
    pub addresses: Vec<String>,
    /// Default gateways, at most one for each family.
    pub gateways: Vec<String>,
    /// Name servers for `/etc/resolv.conf`.
    pub nameservers: Vec<String>,
    /// Search domains for `/etc/resolv.conf`.
    pub search: Vec<String>,
}

/// What a stream of the control channel can be opened to. In an OPEN frame it is its `Display` text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Service {
    /// `agent`: JSON lines, see [`GuestMessage`].
    Agent,
    /// `ssh`: the guest's SSH server.
    Ssh,
    /// `tcp:PORT`: a TCP connection to that port of the guest's loopback address; where nobody listens there, to whatever
    /// address of the guest's somebody does.
    Tcp(u16),
    /// `udp:PORT`: datagrams to that port, from one port of the guest's, and those that come back; reached as by [`Self::Tcp`].
    /// On the stream each comes behind its length (`banger_channel::Datagrams`).
    Udp(u16),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Ssh => f.write_str("ssh"),
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Udp(port) => write!(f, "udp:{port}"),
        }
    }
}

/// The text names no service of the guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no guest service '{0}'; there are agent, ssh, tcp:PORT and udp:PORT")]
pub struct UnknownService(pub String);

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, UnknownService> {
        let unknown = || UnknownService(text.to_owned());
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(unknown);
        match text.split_once(':') {
            None if text == "agent" => Ok(Self::Agent),
            None if text == "ssh" => Ok(Self::Ssh),
            Some(("tcp", text)) => port(text).map(Self::Tcp),
            Some(("udp", text)) => port(text).map(Self::Udp),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Service {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A line from the guest's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestMessage {
    /// The first line.
    Hello(GuestHello),
    /// Sessions are served from now on. Sent once for each connection, after the host's welcome.
    Ready,
    /// The guest is about to go down by its own will or the host's request.
    Stopping(ShutdownAction),
    /// The TCP sockets that listen. Sent after [`Self::Ready`] and whenever they have changed, where the kernel tells of that.
    Sockets(ListeningSockets),
    /// The answer to the request of this id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it; an error is one sentence.
        result: Result<GuestReply, String>,
    },
}

/// How a guest introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestHello {
    /// Oldest agent protocol that the guest understands.
    pub protocol_oldest: u32,
    /// Newest agent protocol that the guest understands.
    pub protocol_newest: u32,
    /// Version of `banger-guest`.
    pub version: String,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`), new at each boot.
    pub boot_id: String,
    /// The kernel's release, as `uname -r`.
    pub kernel_release: String,
    /// Whether the image's init is systemd.
    pub systemd: bool,
}

/// A line to the guest's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostMessage {
    /// The first line, in answer to the guest's hello.
    Welcome {
        /// The protocol that both will speak: the newest that both know.
        protocol: u32,
        /// Host time, nanoseconds since the epoch; the guest sets its clock by it.
        unix_time_ns: u64,
    },
    /// A request, answered by a reply with the same id.
    Request {
        /// Chosen by the host, never reused on a connection.
        id: u64,
        /// What to do.
        request: GuestRequest,
    },
}

/// What a host may ask of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestRequest {
    /// Go down in order. Answered at once; then [`GuestMessage::Stopping`] and the end.
    Shutdown(ShutdownAction),
    /// Write everything to disk. Answered when it is there.
    Sync,
    /// Set the clock to this host time, in nanoseconds since the epoch.
    SetClock(u64),
    /// What the guest's kernel says of uptime and memory.
    Stats,
    /// Give the private disk's blocks back that nobody uses.
    Trim,
    /// The sockets that listen, UDP's as well.
    Sockets,
}

impl GuestRequest {
    /// Returns the first protocol that has it.
    pub const fn protocol(&self) -> u32 {
        match self {
            Self::Shutdown(_) | Self::Sync | Self::SetClock(_) | Self::Stats => PROTOCOL_OLDEST,
            Self::Trim => PROTOCOL_WITH_TRIM,
            Self::Sockets => PROTOCOL_WITH_SOCKETS,
        }
    }
}

/// What a guest answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestReply {
    /// It is done, or begun for a shutdown.
    Done,
    /// Answer to [`GuestRequest::Stats`].
    Stats(GuestStats),
    /// Answer to [`GuestRequest::Trim`]: how many bytes were given back, many of which may have been before.
    Trimmed(u64),
    /// Answer to [`GuestRequest::Sockets`].
    Sockets(ListeningSockets),
}

/// Most sockets that a guest tells of at once: they fit into a line.
pub const MOST_SOCKETS: usize = 256;
/// Longest name of a process that is told, characters. A kernel's own are 15 bytes (`proc_pid_comm(5)`).
pub const LONGEST_PROCESS_NAME: usize = 32;

/// The sockets of a guest that listen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListeningSockets {
    /// At most [`MOST_SOCKETS`] of them, in order.
    pub sockets: Vec<ListeningSocket>,
    /// There are more.
    pub more: bool,
    /// The kernel tells of TCP sockets that come and go. Where it does not, who wants to know has to ask.
    pub told: bool,
}

/// A socket that listens: a TCP socket in that state, or a UDP socket that is connected to nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListeningSocket {
    /// Its protocol.
    pub protocol: Transport,
    /// Its port.
    pub port: u16,
    /// Its address; all zeros for all of them.
    pub address: std::net::IpAddr,
    /// The name of a process that has it, in the process's own words.
    #[serde(default)]
    pub process: Option<String>,
    /// That process's id in the guest.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The socket's own number in the guest's kernel.
    #[serde(default)]
    pub inode: u64,
}

impl ListeningSocket {
    /// Returns whether a forward reaches it: on all of the guest's addresses, on `127.0.0.1` or `::1`, or on one that others
    /// would reach it by. There are more loopback addresses, and what listens on one of those alone is for the guest alone;
    /// and a link-local address (RFC 4291 section 2.5.6) says nothing without its link.
    pub fn is_reached_by_forwards(&self) -> bool {
        let is_for_the_guest = |address: Ipv4Addr| address.is_loopback() && address != Ipv4Addr::LOCALHOST;
        match self.address.to_canonical() {
            IpAddr::V4(address) => !is_for_the_guest(address) && !address.is_multicast(),
            IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_multicast(),
        }
    }
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The guest's own view of its resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GuestStats {
    /// Time since boot, milliseconds.
    pub uptime_ms: u64,
    /// Memory in all, bytes.
    pub memory_total: u64,
    /// Memory that programs could still get, bytes (`MemAvailable`).
    pub memory_available: u64,
    /// Memory that nobody uses for anything, bytes (`MemFree`). This and what follows is of newer guests.
    #[serde(default)]
    pub memory_free: Option<u64>,
    /// Memory that holds what is on disks, bytes (`Buffers`, `Cached` and `SReclaimable`).
    #[serde(default)]
    pub memory_cached: Option<u64>,
    /// Time that its processors have worked since it was booted, all of them together, milliseconds.
    #[serde(default)]
    pub cpu_busy_ms: Option<u64>,
    /// The same with the time that they had nothing to do, milliseconds.
    #[serde(default)]
    pub cpu_total_ms: Option<u64>,
    /// Load averages over 1, 5 and 15 minutes, in hundredths.
    #[serde(default)]
    pub load_hundredths: Option<[u32; 3]>,
    /// Of its root file system, bytes.
    #[serde(default)]
    pub disk_total: Option<u64>,
    /// What is used of that, bytes.
    #[serde(default)]
    pub disk_used: Option<u64>,
    /// What has come through its network cards, bytes.
    #[serde(default)]
    pub network_received: Option<u64>,
    /// What has gone out through them, bytes.
    #[serde(default)]
    pub network_sent: Option<u64>,
}

/// How to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShutdownAction {
    /// Stop, for good.
    Poweroff,
    /// Stop and start again.
    Reboot,
}

/// The SSH subsystem that runs a command given as an array.
///
/// `exec` requests of SSH (RFC 4254 section 6.5) are one string, for a shell to take apart. This
/// subsystem needs no shell: after the subsystem request (and `pty-req` before it, if wanted) the
/// client sends one line, an [`ExecRequest`] as JSON, and everything after its newline is the
/// command's standard input. Standard error is extended data 1; signals, `window-change`,
/// `exit-status` and `exit-signal` are those of any session.
pub const EXEC_SUBSYSTEM: &str = "banger-exec";

/// Longest line that the exec subsystem reads, bytes.
pub const EXEC_REQUEST_LIMIT: usize = 4 << 20;

/// A command for [`EXEC_SUBSYSTEM`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments. Empty: the image's entrypoint and command. The program is looked up
    /// in the resulting environment's `PATH` when it has no slash.
    pub argv: Vec<ByteString>,
    /// Variables on top of the image's, as `(name, value)`.
    #[serde(default)]
    pub environment: Vec<(ByteString, ByteString)>,
    /// Working directory; `None` is the image's, else the user's home.
    #[serde(default)]
    pub directory: Option<ByteString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_reads_back_as_it_prints() {
        for service in [Service::Agent, Service::Ssh, Service::Tcp(8080), Service::Udp(53)] {
            assert_eq!(service.to_string().parse(), Ok(service));
        }
        for bad in ["", "tcp", "tcp:", "tcp:0", "tcp:70000", "udp:0", "ssh:1", "../x"] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_that_are_not_text_survive() {
        let request = ExecRequest {
            argv: vec![ByteString(b"a b\n'\"\xff".to_vec())],
            environment: Vec::new(),
            directory: None,
        };
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<ExecRequest>(&json).unwrap(), request);
    }
}
