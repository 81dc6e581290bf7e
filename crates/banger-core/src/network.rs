//! The port to networks, and what an engine is told of one.

use banger_types::guest::GuestNetwork;
use banger_types::monitor::Program;

/// A VM's network: the programs that carry it, and how the VMM meets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Started before the VMM.
    pub helpers: Vec<Program>,
    /// Where the VMM sends and receives frames.
    pub attachment: Attachment,
    /// What the guest is told.
    pub guest: GuestNetwork,
}

/// Where a VMM sends and receives Ethernet frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A connected stream socket, one end of this pair of the launch's, on which each frame comes
    /// after its length as 32 bits in network byte order.
    StreamPair(String),
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

    /// Returns the plan of a user-mode network, which needs no root, for a VMM that is attached in this way.
    ///
    /// `nameservers` are the host's own; those on its loopback are reached through the network
    /// itself, never directly.
    fn user(&self, nameservers: &[std::net::IpAddr], card: CardKind) -> Result<NetworkPlan, NetworkError>;
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
