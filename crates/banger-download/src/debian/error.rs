//! What goes wrong with Debian archives.

use std::io;
use std::path::PathBuf;

use banger_types::source::INSTALL_DEBIAN_KEYRING;
use jiff::Timestamp;

use super::{KeyringError, PackagesError, ReleaseError, SignatureError};
use crate::DownloadError;

/// Why an archive did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There are no keys to verify it with.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// It was not reached, or does not give it.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// What it says is not signed by Debian.
    #[error("'{url}' is not to be believed")]
    Untrusted {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// What it says makes no sense, although Debian signed it.
    #[error("'{url}' does not describe a suite")]
    Release {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// It describes another suite.
    #[error("'{url}' describes another suite than '{wanted}': {found}")]
    OtherSuite {
        /// What was asked for.
        url: String,
        /// The suite.
        wanted: String,
        /// The one that it describes, by its names.
        found: String,
    },
    /// Its time is over.
    #[error("'{url}' has expired: it was good until {until}")]
    Expired {
        /// What was asked for.
        url: String,
        /// Until when it was good.
        until: Timestamp,
    },
    /// It was made later than now.
    #[error("'{url}' is from the future: from {date}")]
    FromTheFuture {
        /// What was asked for.
        url: String,
        /// When it was made.
        date: Timestamp,
    },
    /// It is older than one that the same archive had before.
    #[error("'{url}' is from {date}, and older than what was there before, from {seen}")]
    Older {
        /// What was asked for.
        url: String,
        /// When it was made.
        date: Timestamp,
        /// When the one before was.
        seen: Timestamp,
    },
    /// It has no packages for this platform.
    #[error("'{distribution}' has no packages for amd64 in '{component}'")]
    NoIndex {
        /// The suite's address.
        distribution: String,
        /// The component.
        component: &'static str,
    },
    /// Its index makes no sense.
    #[error("'{url}' is not to be understood")]
    Packages {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: PackagesError,
    },
    /// What is kept of it cannot be read or written.
    #[error("cannot use '{}'", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program ends.
    #[error("the search in an index was interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Returns whether somebody's cancel is the reason.
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Download(DownloadError::Cancelled(_)))
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Download(error) => return error.fix(),
            Self::Keyring(_) => INSTALL_DEBIAN_KEYRING,
            Self::Untrusted { source: SignatureError::UnknownKey(_), .. } => {
                "a newer package of Debian's keys may have this one; if it has not, use another mirror"
            }
            Self::Untrusted { .. }
            | Self::Release { .. }
            | Self::OtherSuite { .. }
            | Self::NoIndex { .. } => {
                "use another mirror: `mirror` in the section [debian] of the configuration file"
            }
            Self::Expired { .. } | Self::Older { .. } => {
                "try again later or use another mirror: this one is not up to date; or this host's clock is wrong"
            }
            Self::FromTheFuture { .. } => "set this host's clock",
            Self::Packages { .. } | Self::File { .. } | Self::Interrupted => return None,
        };
        Some(fix.to_owned())
    }
}
