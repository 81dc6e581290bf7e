//! Why an image could not be made.

use std::path::PathBuf;

use banger_core::command::CommandError;
use banger_core::work::Cancelled;
use banger_types::digest::Digest;

use super::debian::DebianError;
use super::tools::ToolError;
use crate::archive::ArchiveError;
use crate::oci::OciError;
use crate::publish::PublishError;
use crate::rootfs::WriteError;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A relative path, which would be relative to whatever directory the daemon is in.
    #[error("the path '{0}' is relative; give an absolute one")]
    RelativePath(PathBuf),
    /// Whoever fetches it from there has not.
    #[error("it has to be fetched from a registry or a daemon first")]
    NotFetched,
    /// The archive could not be opened.
    #[error("cannot open the archive")]
    Open(#[source] std::io::Error),
    /// The archive could not be used.
    #[error("cannot use the archive '{path}'")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The image could not be taken from where it is.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// One of its layers could not be used.
    #[error("cannot use layer {number} of {count}")]
    Layer {
        /// Its place, from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// mmdebstrap cannot run here, or failed.
    #[error("cannot make a Debian root file system")]
    Debian(#[from] DebianError),
    /// Another program that is needed cannot run here, or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The image could not be made.
    #[error("cannot make the image file")]
    Create(#[source] std::io::Error),
    /// The end of the file system could not be written.
    #[error("cannot finish the file system")]
    Finish(#[source] WriteError),
    /// It could not be published.
    #[error("cannot keep the image")]
    Publish(#[from] PublishError),
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Why a layer could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OciError),
    /// It could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file system takes no more.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What is stored is not what the manifest says.
    #[error("its digest is {found}, not {expected}, as the manifest has it")]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// What it unpacks to is not what the configuration says.
    #[error("it unpacks to what has the digest {found}, not {expected}, as the configuration has it")]
    DiffId {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
}

impl BuildError {
    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_)
            | Self::Archive { source: ArchiveError::Cancelled(_), .. }
            | Self::Layer { source: LayerError::Archive(ArchiveError::Cancelled(_)), .. } => true,
            Self::Debian(error) => error.is_cancelled(),
            Self::Tool(error) => error.is_cancelled(),
            _ => false,
        }
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Debian(error) => error.fix(),
            Self::Tool(error) => error.fix(),
            Self::Oci(error) | Self::Layer { source: LayerError::Open(error), .. } => error.fix(),
            Self::Archive { path, source: ArchiveError::Compressed { command, .. } } => {
                Some(command.replace("FILE", &format!("'{}'", path.display())))
            }
            Self::Archive { source: ArchiveError::NotATar, .. } => {
                Some("make one of a directory: tar -cf FILE.tar -C DIRECTORY .".to_owned())
            }
            Self::Archive {
                source: ArchiveError::Truncated | ArchiveError::Malformed(_) | ArchiveError::Packing(..),
                ..
            } => Some("get or make the archive anew; `tar -tvf` shows how far it is whole".to_owned()),
            Self::Archive { source: ArchiveError::Path(_) | ArchiveError::UnknownType { .. }, .. } => Some(
                "make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')"
                    .to_owned(),
            ),
            Self::Archive { source: ArchiveError::TooLarge { .. }, .. }
            | Self::Layer { source: LayerError::Archive(ArchiveError::TooLarge { .. }), .. } => {
                Some("if that is what you want, raise `largest` of [image] in the configuration file".to_owned())
            }
            Self::Layer { source: LayerError::Digest { .. } | LayerError::DiffId { .. }, .. } => {
                Some("do not use it: whoever gave it has given something else".to_owned())
            }
            Self::RelativePath(_) | Self::Open(_) | Self::Archive { source: ArchiveError::Read(_), .. } => {
                Some("see that the path is that of a file which you may read".to_owned())
            }
            _ => None,
        }
    }
}

/// Returns the cancel behind a command's error, if that is what it was.
pub(crate) fn was_cancelled(error: &CommandError) -> bool {
    match error {
        CommandError::Cancelled(_) => true,
        CommandError::Consumer { source, .. } => {
            matches!(source.downcast_ref(), Some(ArchiveError::Cancelled(_))) || source.is::<Cancelled>()
        }
        _ => false,
    }
}
