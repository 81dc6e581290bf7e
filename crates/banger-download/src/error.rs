//! What goes wrong with downloads.

use std::io;
use std::path::PathBuf;

use banger_core::work::Cancelled;
use banger_types::digest::Digest;

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There can be no client on this host.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The server was not reached, or broke off each time.
    #[error("cannot download {url}")]
    Transport {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server does not give it.
    #[error("cannot download {url}: the server answers {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// What it answered.
        status: reqwest::StatusCode,
    },
    /// The server ended before it had sent what it had promised, each time.
    #[error("cannot download {url}: the connection was cut after {received} of {promised} bytes")]
    Cut {
        /// What was asked for.
        url: String,
        /// What has come of it, bytes.
        received: u64,
        /// What it has, bytes.
        promised: u64,
    },
    /// Next to nothing came for a long time.
    #[error("cannot download {url}: no more than {bytes} bytes came in {seconds} seconds")]
    TooSlow {
        /// What was asked for.
        url: String,
        /// What has come in that time, bytes.
        bytes: u64,
        /// For how long, seconds.
        seconds: u64,
    },
    /// The server sent another part than was asked for, and when all of it was asked for, too.
    #[error("cannot download {url}: the server sends another part of it than was asked for")]
    OtherPart {
        /// What was asked for.
        url: String,
    },
    /// It is not what was asked for.
    #[error("{url} is not what it should be: its digest is {found}, not {expected}")]
    Digest {
        /// What was asked for.
        url: String,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// It is longer than it can be.
    #[error("{url} is longer than the {limit} bytes that it may have")]
    TooLong {
        /// What was asked for.
        url: String,
        /// What it may have, bytes.
        limit: u64,
    },
    /// It cannot be kept.
    #[error("cannot write {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A Docker daemon does not give it.
    #[error(transparent)]
    Docker(#[from] crate::docker::DockerError),
    /// A registry does not give it.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DownloadError {
    /// Whether no other server would help.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::File { .. } | Self::Client(_))
    }

    /// Whether the same request may do better a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Transport { source, .. } => !source.is_builder() && !source.is_redirect(),
            Self::Cut { .. } | Self::OtherPart { .. } | Self::TooSlow { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == reqwest::StatusCode::TOO_MANY_REQUESTS
            }
            Self::Registry(error) => error.may_pass(),
            _ => false,
        }
    }

    /// Returns what the user can do.
    pub fn fix(&self) -> Option<String> {
        let fixed = match self {
            Self::Docker(error) => return Some(error.fix()),
            Self::Registry(error) => return error.fix(),
            Self::Transport { .. } | Self::Cut { .. } | Self::TooSlow { .. } => {
                "try again when the network is there: it goes on where it was cut; a proxy is taken from HTTPS_PROXY"
            }
            Self::Refused { .. } | Self::OtherPart { .. } => "look whether the address is right",
            Self::Digest { .. } | Self::TooLong { .. } => {
                "do not use it: whoever answered has sent another file"
            }
            Self::Client(_) | Self::File { .. } | Self::Cancelled(_) => return None,
        };
        Some(fixed.to_owned())
    }
}
