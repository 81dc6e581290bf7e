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
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DownloadError {
    /// Returns what the user can do.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Transport { .. } | Self::Cut { .. } => Some(
                "try again when the network is there: it goes on where it was cut; a proxy is taken from HTTPS_PROXY",
            ),
            Self::Refused { .. } | Self::OtherPart { .. } => Some("look whether the address is right"),
            Self::Digest { .. } | Self::TooLong { .. } => {
                Some("do not use it: whoever answered has sent another file")
            }
            Self::Client(_) | Self::File { .. } | Self::Cancelled(_) => None,
        }
    }
}
