//! What the daemon asks of `banger-helper`, which is root.
//!
//! One request, a JSON document on standard input; one answer, a JSON line on standard output. A request is a closed enumeration
//! of verbs whose fields are valid by construction: ids, names, numbers and addresses. No path, no command and no text of another
//! kind crosses this border. What is made belongs to the user who asks, who is known by `sudo` (its `SUDO_UID`, sudo(8)) and never
//! by the request.
//!
//! Each verb may be asked again, with the same result; what one makes another takes away.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::name::{VmId, VmName};
use crate::size::Mebibytes;

/// The version of this protocol. A helper answers no other.
pub const HELPER_PROTOCOL: u32 = 1;

/// Where the copy of the helper is that belongs to root; the version of banger follows.
pub const HELPER_PREFIX: &str = "/usr/libexec/banger/banger-helper-";

/// The domain in which names of VMs are.
pub const DOMAIN: &str = "banger";

/// Most bytes of a request.
pub const LONGEST_REQUEST: usize = 16 << 10;

/// Whether the helper can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum HelperReadiness {
    /// It can.
    Ready,
    /// sudo wants a password before it runs it.
    NeedsPassword,
    /// There is none, or no sudo.
    NotInstalled(String),
    /// There is one of another version of banger.
    WrongVersion(String),
    /// There is one that somebody other than root could have made, or could change: it is never run.
    Insecure(String),
}

impl std::fmt::Display for HelperReadiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::NeedsPassword => f.write_str("needs a password"),
            Self::NotInstalled(why) => write!(f, "not installed: {why}"),
            Self::WrongVersion(why) => write!(f, "of another version: {why}"),
            Self::Insecure(why) => write!(f, "insecure: {why}"),
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperRequest {
    /// [`HELPER_PROTOCOL`] of who asks.
    pub protocol: u32,
    /// What is asked.
    pub verb: HelperVerb,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HelperVerb {
    /// Nothing; whether it can be asked.
    Hello,
    /// Give a VM a place in the caller's network, which is made with the first: a device, addresses, rules, a name that the host
    /// resolves. Answered by [`HelperAnswer::Place`].
    VmAdd(VmTerms),
    /// Take these VMs' places away, as far as there are some; the network goes with the last.
    VmsRemove(BTreeSet<VmId>),
    /// Put all of the caller's network in force as it is meant to be, should somebody have ended or flushed some of it. Answered by
    /// [`HelperAnswer::Network`], or by [`HelperAnswer::Done`] where there is none.
    NetworkRestore,
}

/// What a VM's place is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmTerms {
    /// Whose it is.
    pub vm: VmId,
    /// The VM's name.
    pub name: VmName,
    /// Whether it has addresses of IPv6 as well, on a host that has. Its other addresses are of a block that root has named, and
    /// that no route leads to. What the network's first VM has, all have.
    pub v6: bool,
    /// Whether it reaches the host's own addresses, but for the loopback.
    pub allow_host: bool,
    /// Whether it reaches the caller's other VMs.
    pub reaches_others: bool,
    /// What its VMM may take of the host, if that is to be in a jail: then the device is the jail's to open.
    #[serde(default)]
    pub jail: Option<JailTerms>,
}

/// What a VMM may take that is in a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailTerms {
    /// Memory, the guest's and its own.
    pub memory: Mebibytes,
    /// Processors' time, as so many processors have it.
    pub processors: u32,
    /// Threads.
    pub tasks: u32,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperAnswer {
    /// To [`HelperVerb::Hello`].
    Hello {
        /// Version of the helper.
        version: String,
    },
    /// The place as it is.
    Place(VmPlace),
    /// The network as it is.
    Network {
        /// The network.
        network: UserNetwork,
        /// What the user should know, as clauses.
        warnings: Vec<String>,
    },
    /// It is done, or was.
    Done,
    /// It is not.
    Refused(HelperRefusal),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperRefusal {
    /// The kind of reason.
    pub kind: HelperRefusalKind,
    /// One sentence.
    pub message: String,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperRefusalKind {
    /// The request is none, or of another protocol.
    Request,
    /// The caller may not have it: it is another user's, or there is too much of it.
    NotPermitted,
    /// What it needs is not there.
    Missing,
    /// The host would not let it be done.
    Failed,
}

/// A VM's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPlace {
    /// The network.
    pub network: UserNetwork,
    /// Its device there.
    pub device: VmDevice,
    /// The name that the host resolves: `web.banger`, or `web.alice.banger` where another user has that.
    pub name: String,
    /// Its VMM's jail, if it is to be in one.
    #[serde(default)]
    pub jail: Option<VmJail>,
    /// What the user should know, as clauses.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A VMM's jail. What is run in it is in the directory [`JAIL`] of the directory that [`RUN_VMM`] is begun in: see there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmJail {
    /// Whom it runs as: a user of its own, which nobody else is.
    pub uid: u32,
    /// The directory of its control group, whose `cgroup.kill` and `cgroup.freeze` are the caller's to write (the kernel's `cgroup-v2`).
    pub control_group: PathBuf,
}

/// With this argument and a VM's id the helper runs that VM's VMM, in the jail that [`HelperVerb::VmAdd`] was asked for, until it has
/// ended or its own standard input has, whose end is the VMM's as well. It opens
/// what is to be there in [`JAIL`] of its working directory, with its caller's rights and no more: so no path is told to it.
pub const RUN_VMM: &str = "run-vmm";
/// With this argument after the id it does all of that but run the VMM.
pub const RUN_VMM_CHECK: &str = "--check";
/// The directory for that.
pub const JAIL: &str = "jail";
/// What is in it, by the names that the VMM knows it by, below its root.
pub mod jail_file {
    /// The VMM's program.
    pub const VMM: &str = "vmm";
    /// What the VMM is told: the file that its option `--config-file` names.
    pub const MACHINE: &str = "machine.json";
    /// Files that it reads, as far as there are such: the kernel, the initramfs, the image, modules, the configuration drive.
    pub const READ: [&str; 5] = ["vmlinux", "initramfs", "base", "modules", "configuration"];
    /// The private disk, which it writes.
    pub const DISK: &str = "disk";
    /// The directory in which it makes its sockets.
    pub const RUN: &str = "run";
    /// The socket of its API, there.
    pub const API_SOCKET: &str = "run/api.sock";
}

/// A user's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// The bridge's name.
    pub bridge: String,
    /// The addresses of the network.
    pub block: Ipv4Block,
    /// The bridge's own address: its VMs' gateway, and where they ask for names.
    pub gateway: Ipv4Addr,
    /// The same by IPv6, and the length of its network's prefix.
    pub gateway_v6: Option<(Ipv6Addr, u8)>,
    /// The process id of its name server, which is the caller's process; `None` where there is none.
    #[serde(default)]
    pub name_server: Option<u32>,
}

/// A VM's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDevice {
    /// Its name on the host. The caller may open it.
    pub device: String,
    /// The guest's hardware address.
    pub mac: String,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Its address of IPv6, if the network has that.
    pub address_v6: Option<Ipv6Addr>,
}

/// A block of addresses of IPv4: `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Block {
    first: Ipv4Addr,
    prefix: u8,
}

/// The text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no block of addresses, as 10.0.0.0/8")]
pub struct NoBlock(pub String);

impl Ipv4Block {
    /// Returns the block with this first address, whose bits beyond the prefix are zero.
    pub fn new(first: Ipv4Addr, prefix: u8) -> Option<Self> {
        let block = Self { first, prefix };
        (prefix <= 32 && first.to_bits() & !block.mask() == 0).then_some(block)
    }

    /// Returns its first address.
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Returns the length of its prefix, bits.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns its last address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !self.mask())
    }

    /// Returns the address so many after the first, if it is one of the block's.
    pub fn address(self, number: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from_bits(self.first.to_bits().checked_add(number)?);
        self.contains(address).then_some(address)
    }

    /// Whether an address is one of the block's.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.first.to_bits()
    }

    /// Whether two blocks have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Returns the blocks with this longer prefix that it consists of.
    pub fn parts(self, prefix: u8) -> impl Iterator<Item = Self> {
        let count = prefix.checked_sub(self.prefix).filter(|_| prefix <= 32).map_or(0, |bits| 1_u64 << bits);
        let step = 1_u64 << (32 - u32::from(prefix.min(32)));
        (0..count).filter_map(move |index| {
            let first = u32::try_from(u64::from(self.first.to_bits()) + index * step).ok()?;
            Self::new(Ipv4Addr::from_bits(first), prefix)
        })
    }

    /// Whether all of it is set aside for private use: RFC 1918, or RFC 6598.
    pub fn is_private(self) -> bool {
        let blocks =
            [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16), ([100, 64, 0, 0], 10)];
        blocks.iter().any(|(first, prefix)| {
            Self { first: (*first).into(), prefix: *prefix }.contains(self.first) && self.prefix >= *prefix
        })
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl std::fmt::Display for Ipv4Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl std::str::FromStr for Ipv4Block {
    type Err = NoBlock;

    fn from_str(text: &str) -> Result<Self, NoBlock> {
        let parse = || {
            let (first, prefix) = text.split_once('/')?;
            Self::new(first.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| NoBlock(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Ipv4Block {
    type Error = NoBlock;

    fn try_from(text: String) -> Result<Self, NoBlock> {
        text.parse()
    }
}

impl From<Ipv4Block> for String {
    fn from(block: Ipv4Block) -> Self {
        block.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Ipv4Block {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_is_read_as_it_is_written() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "192.168.7.0/24", "1.2.3.4/32"] {
            assert_eq!(block(text).to_string(), text);
        }
        for text in
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "10.0.0.0/8/8", "::/0"]
        {
            assert_eq!(text.parse::<Ipv4Block>(), Err(NoBlock(text.to_owned())));
        }
    }

    #[test]
    fn what_is_in_a_block() {
        let net = block("10.1.2.0/24");
        assert_eq!((net.address(0), net.address(255)), (Some(net.first()), Some(net.last())));
        assert_eq!((net.address(256), block("255.255.255.0/24").address(256)), (None, None));
        assert!(net.overlaps(block("10.0.0.0/8")) && block("10.0.0.0/8").overlaps(net) && net.overlaps(net));
        assert!(!net.overlaps(block("10.1.3.0/24")) && block("0.0.0.0/0").overlaps(net));
        let parts: Vec<String> = block("10.1.0.0/22").parts(24).map(String::from).collect();
        assert_eq!(parts, ["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
        assert_eq!((net.parts(24).count(), net.parts(16).count(), net.parts(33).count()), (1, 0, 0));
        assert_eq!(block("255.255.255.0/24").parts(26).count(), 4);
    }

    #[test]
    fn private_is_what_is_private_as_a_whole() {
        for text in ["10.0.0.0/8", "10.200.0.0/16", "172.31.0.0/16", "192.168.0.0/16", "100.64.0.0/10"] {
            assert!(block(text).is_private(), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "8.0.0.0/8",
            "172.0.0.0/8",
            "172.32.0.0/16",
            "192.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
        ] {
            assert!(!block(text).is_private(), "{text}");
        }
    }

    #[test]
    fn a_request_with_more_than_there_is_is_none() {
        let parse = |text: &str| serde_json::from_str::<HelperRequest>(text);
        let request = HelperRequest { protocol: 1, verb: HelperVerb::Hello };
        assert_eq!(parse(&serde_json::to_string(&request).unwrap()).unwrap(), request);
        for text in [
            r#"{"protocol":1,"verb":"hello","uid":0}"#,
            r#"{"protocol":1,"verb":{"vms_remove":["../../etc"]}}"#,
            r#"{"protocol":1,"verb":{"vm_add":{"vm":"0123456789ab","name":"a","v6":true,"allow_host":false,"reaches_others":true,"device":"eth0"}}}"#,
            r#"{"protocol":1,"verb":{"vm_add":{"vm":"0123456789ab","name":"a;reboot","v6":true,"allow_host":false,"reaches_others":true}}}"#,
            r#"{"protocol":1,"verb":{"run":"reboot"}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
