//! Why something is not done.

use std::io;
use std::path::PathBuf;

use banger_types::error::chain;
use banger_types::helper::{HelperRefusal, HelperRefusalKind};

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is none.
    #[error("the request is none of this helper's")]
    Request(#[source] serde_json::Error),
    /// It cannot be read.
    #[error("the request cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is longer than any.
    #[error("the request is longer than {0} bytes")]
    TooLong(usize),
    /// It is of another version of banger.
    #[error("the request is of protocol {0}, and this helper speaks {1}")]
    Protocol(u32, u32),
    /// Who asks is not known, or this is not root.
    #[error("{0}")]
    Caller(&'static str),
    /// The caller may not have it.
    #[error("{0}")]
    NotPermitted(String),
    /// There is no such network, device or room.
    #[error("{0}")]
    Missing(String),
    /// Others have had it for too long.
    #[error("{path} has been in use for {seconds} s", path = .path.display())]
    Busy {
        /// What they have.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A program is not there.
    #[error("the program '{0}' is not installed")]
    NoTool(&'static str),
    /// A program did not do it.
    #[error("'{tool}' failed: {reason}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What it said.
        reason: String,
    },
    /// A file could not be used.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was to be done: "cannot read".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not as only root can have made it.
    #[error("{path} {why}", path = path.display())]
    Planted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Refusal {
    /// Returns what makes an error of this file's.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    const fn kind(&self) -> HelperRefusalKind {
        match self {
            Self::Request(_) | Self::Unreadable(_) | Self::TooLong(_) | Self::Protocol(..) => {
                HelperRefusalKind::Request
            }
            Self::Caller(_) | Self::NotPermitted(_) => HelperRefusalKind::NotPermitted,
            Self::Missing(_) | Self::NoTool(_) => HelperRefusalKind::Missing,
            Self::Busy { .. } | Self::Tool { .. } | Self::File { .. } | Self::Planted { .. } => {
                HelperRefusalKind::Failed
            }
        }
    }
}

impl From<Refusal> for HelperRefusal {
    fn from(refusal: Refusal) -> Self {
        Self { kind: refusal.kind(), message: chain(&refusal) }
    }
}
