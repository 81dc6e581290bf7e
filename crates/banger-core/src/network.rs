//! The port to networks, and what an engine is told of one.

use banger_types::guest::GuestNetwork;
use banger_types::helper::VmPlace;
use banger_types::monitor::Program;

/// A VM's network: the programs that carry it, and how the VMM meets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Started before the VMM.
    pub helpers: Vec<Program>,
    /// Where the VMM sends and receives frames.
    pub attachment: Attachment,
    /// What the VMM itself opens sockets of the host for, if no helper does.
    pub own_stack: Option<OwnStack>,
    /// What the guest is told.
    pub guest: GuestNetwork,
}

/// A network stack in a VMM, which is at the other end of the filter as another program would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStack {
    /// The pair of the launch's through which its frames come and go, as with [`Attachment::StreamPair`].
    pub pair: String,
    /// The network, as `198.18.0.0/24`.
    pub network: String,
    /// Its router's address.
    pub gateway: std::net::Ipv4Addr,
    /// Where it takes questions for names.
    pub nameserver: std::net::Ipv4Addr,
    /// The network of IPv6 and its router, if there is one.
    pub v6: Option<(String, std::net::Ipv6Addr)>,
}

/// Where a VMM sends and receives Ethernet frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A connected stream socket, one end of this pair of the launch's, on which each frame comes
    /// after its length as 32 bits in network byte order.
    StreamPair(String),
    /// A TAP device of the host's, by its name, which this user may open.
    Device(String),
    /// A TAP device. The VMM is started through a program that makes the device and becomes what is named by its
    /// further arguments.
    Tap {
        /// The device's name.
        device: String,
        /// The program.
        through: Program,
    },
}

/// What a VMM can do with Ethernet frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardKind {
    /// [`Attachment::StreamPair`].
    Stream,
    /// [`Attachment::Tap`].
    Tap,
}

/// The port to networks.
pub trait Networks: Send + Sync {
    /// Makes sure that VMMs can be attached in this way on this host. Blocks for some milliseconds, at least until it has once
    /// been so.
    fn check(&self, card: CardKind) -> Result<(), NetworkError>;

    /// Returns the plan of a user-mode network, which needs no root.
    fn user(&self, terms: &UserNetworkTerms) -> Result<NetworkPlan, NetworkError>;

    /// Returns the plan of a VM that has a place in a network of the root helper's.
    fn placed(&self, place: &VmPlace) -> NetworkPlan;
}

/// What a user-mode network is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNetworkTerms {
    /// How the VMM is attached to it.
    pub card: CardKind,
    /// Whether the VMM has a network stack, for a host that has no program that is one.
    pub own_stack: bool,
    /// Whether the guest reaches the host's own addresses, but for its loopback.
    pub allow_host: bool,
    /// The host's ways out, now.
    pub routes: DefaultRoutes,
}

/// The interfaces by which a host's default routes lead out, one for each family of addresses that has such a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefaultRoutes {
    /// That of IPv4.
    pub v4: Option<String>,
    /// That of IPv6.
    pub v6: Option<String>,
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Its program is not installed.
    #[error("the program '{program}' is not installed")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The host does not let this user make what VMMs are attached to.
    #[error("{reason}")]
    Forbidden {
        /// What was tried and failed, as a clause.
        reason: String,
        /// What can be done about it.
        fix: &'static str,
    },
}

impl NetworkError {
    /// Returns what a person can do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::NotInstalled { package, .. } => {
                format!("`sudo apt install {package}`, or create the VM with `--net none`")
            }
            Self::Forbidden { fix, .. } => format!("{fix}, or create the VM with `--net none`"),
        }
    }
}
