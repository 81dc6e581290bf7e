//! What listens in a VM, and how it is reached.

use serde::{Deserialize, Serialize};

use crate::address::HostPort;
use crate::guest::ListeningSocket;

/// Answer to `GET /v1/vms/NAME/ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VmPorts {
    /// What listens, in order.
    pub ports: Vec<VmPort>,
    /// There is more than a guest tells of.
    pub more: bool,
    /// The guest's kernel tells of TCP sockets that come and go: they are forwarded by themselves, and events tell of them.
    /// Where it does not, they are found when somebody looks.
    pub told: bool,
}

/// A socket that listens in a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VmPort {
    /// The socket.
    #[serde(flatten)]
    pub socket: ListeningSocket,
    /// The port of the host that leads to it.
    pub forward: Option<HostPort>,
    /// Whether that came by itself, and goes with the socket.
    pub automatic: bool,
    /// What it was found to speak, if it was one of those.
    pub speaks: Option<Scheme>,
    /// What reaches it from the host: for a browser, if it speaks HTTP.
    pub url: Option<String>,
}

/// What a browser can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HTTP/1: RFC 9112.
    Http,
    /// TLS: RFC 8446. What is within is not looked at.
    Https,
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}
