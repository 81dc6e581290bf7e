//! Where images come from.

pub mod debian;
pub mod tar;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use banger_core::command::{CommandError, Commands};
use banger_core::work::{Cancelled, Work};
use banger_types::image::ImageConfig;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::publish::{PublishError, Staging};
use crate::rootfs::ext4::Ext4Writer;
use crate::rootfs::{RootfsWriter, WriteError};
use debian::{DebianOptions, PackageName, Suite};
use tar::TarError;

/// Files of a published image's directory.
pub mod file {
    /// The root file system.
    pub const BASE: &str = "base.ext4";
    /// [`super::BuiltRootfs`] as JSON.
    pub const CONFIG: &str = "config.json";
}

/// A source of images, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// `debian:SUITE` or `debian:SUITE+PACKAGE+PACKAGE`: made of Debian's packages.
    Debian {
        /// The suite.
        suite: Suite,
        /// Packages beside the usual ones.
        packages: Vec<PackageName>,
    },
    /// `tar:PATH`: a root file system in an unpacked tar archive.
    Tar(PathBuf),
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageSourceError {
    /// No transport that we know.
    #[error("'{0}' is not an image source; write debian:SUITE, debian:SUITE+PACKAGE or tar:PATH")]
    Transport(String),
    /// The suite.
    #[error("'{0}' is not the name of a Debian suite; write bookworm or trixie, for example")]
    Suite(String),
    /// A package.
    #[error(
        "'{0}' is not the name of a Debian package: at least two lower-case letters, digits, '+', '-' \
         and '.', the first a letter or digit"
    )]
    Package(String),
    /// No path.
    #[error("a tar: source needs the path of an archive, as in tar:/home/me/rootfs.tar")]
    NoPath,
}

impl FromStr for ImageSource {
    type Err = ImageSourceError;

    fn from_str(text: &str) -> Result<Self, ImageSourceError> {
        match text.split_once(':') {
            Some(("debian", rest)) => {
                let (suite, packages) = rest.split_once('+').unwrap_or((rest, ""));
                let packages = debian::split_packages(packages);
                let packages = packages.into_iter().map(str::parse).collect::<Result<_, _>>()?;
                // `debian:bookworm+` names nothing after its plus.
                if rest.ends_with('+') && suite.len() + 1 == rest.len() {
                    return Err(ImageSourceError::Package(String::new()));
                }
                Ok(Self::Debian { suite: suite.parse()?, packages })
            }
            Some(("tar", "")) => Err(ImageSourceError::NoPath),
            Some(("tar", path)) => Ok(Self::Tar(path.into())),
            _ => Err(ImageSourceError::Transport(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { suite, packages } => {
                write!(f, "debian:{suite}")?;
                packages.iter().try_for_each(|package| write!(f, "+{package}"))
            }
            Self::Tar(path) => write!(f, "tar:{}", path.display()),
        }
    }
}

/// An image as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltRootfs {
    /// Size of the root file system, bytes.
    pub size: u64,
    /// Digest of the archive that it was made of, as `sha256:…`.
    pub digest: String,
    /// How its programs want to run.
    pub config: ImageConfig,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A relative path, which would be relative to whatever directory the daemon is in.
    #[error("the path '{0}' of the archive is relative; give an absolute one")]
    RelativePath(PathBuf),
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
        source: TarError,
    },
    /// mmdebstrap cannot run here, or failed.
    #[error("cannot make a Debian root file system")]
    Debian(#[from] debian::DebianError),
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

impl BuildError {
    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) | Self::Archive { source: TarError::Cancelled(_), .. } => true,
            Self::Debian(error) => error.is_cancelled(),
            _ => false,
        }
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Debian(error) => error.fix(),
            Self::Archive { path, source: TarError::Compressed { command, .. } } => {
                Some(command.replace("FILE", &format!("'{}'", path.display())))
            }
            Self::Archive { source: TarError::NotATar, .. } => {
                Some("make one of a directory: tar -cf FILE.tar -C DIRECTORY .".to_owned())
            }
            Self::Archive { source: TarError::Truncated | TarError::Malformed(_), .. } => {
                Some("get or make the archive anew; `tar -tvf` shows how far it is whole".to_owned())
            }
            Self::Archive { source: TarError::Path(_) | TarError::UnknownType { .. }, .. } => Some(
                "make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')"
                    .to_owned(),
            ),
            Self::RelativePath(_) | Self::Open(_) | Self::Archive { source: TarError::Read(_), .. } => {
                Some("see that the path is that of a file which you may read".to_owned())
            }
            _ => None,
        }
    }
}

/// Makes the image of `source` and publishes it as the directory `destination`, with the files of
/// [`file`]. Nothing is left of it on failure.
pub fn build(
    source: &ImageSource,
    options: &DebianOptions,
    destination: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<BuiltRootfs, BuildError> {
    let staging = Staging::beside(destination)?;
    let base = staging.path().join(file::BASE);
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&base).map_err(BuildError::Create)?;
    let mut writer = Box::new(Ext4Writer::new(file, "banger-base"));
    let (digest, config) = match source {
        ImageSource::Debian { suite, packages } => {
            let digest = debian::read(suite, packages, options, writer.as_mut(), commands, work)?;
            (digest, debian::config())
        }
        ImageSource::Tar(path) => (read_tar(path, writer.as_mut(), work)?, ImageConfig::default()),
    };
    work.stage("image: finish the file system");
    let size = writer.finish().map_err(BuildError::Finish)?;
    let built = BuiltRootfs { size, digest, config };
    let json = serde_json::to_vec_pretty(&built).map_err(|error| BuildError::Create(error.into()))?;
    fs::write(staging.path().join(file::CONFIG), json).map_err(BuildError::Create)?;
    work.check()?;
    staging.publish()?;
    Ok(built)
}

fn read_tar(path: &Path, writer: &mut dyn RootfsWriter, work: &dyn Work) -> Result<String, BuildError> {
    if !path.is_absolute() {
        return Err(BuildError::RelativePath(path.to_owned()));
    }
    work.stage("image: read the archive");
    let file = fs::File::open(path).map_err(BuildError::Open)?;
    let total = file.metadata().map_err(BuildError::Open)?;
    let total = total.is_file().then_some(total.len());
    let summary = tar::read(file, total, writer, work)
        .map_err(|source| BuildError::Archive { path: path.to_owned(), source })?;
    Ok(summary.digest)
}

/// Returns the cancel behind a command's error, if that is what it was.
pub(crate) fn was_cancelled(error: &CommandError) -> bool {
    match error {
        CommandError::Cancelled(_) => true,
        CommandError::Consumer { source, .. } => {
            matches!(source.downcast_ref(), Some(TarError::Cancelled(_))) || source.is::<Cancelled>()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_reads_back_as_it_prints() {
        for text in [
            "debian:bookworm",
            "debian:trixie+nodejs",
            "debian:sid+g+++golang-go+libstdc++-12-dev",
            "tar:/x y",
        ] {
            assert_eq!(text.parse::<ImageSource>().unwrap().to_string(), text);
        }
        let Ok(ImageSource::Debian { packages, .. }) = "debian:sid+g+++golang".parse() else { panic!() };
        assert_eq!(packages.iter().map(ToString::to_string).collect::<Vec<_>>(), ["g++", "golang"]);
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "bookworm",
            "oci:x",
            "debian:",
            "debian:-x",
            "debian:a b",
            "debian:x/../y",
            "debian:bookworm+",
            "debian:bookworm+A",
            "debian:bookworm+x",
            "debian:bookworm+a;b",
            "debian:bookworm+$(x)",
            "tar:",
            "debian:BOOKWORM",
            "debian:[x]",
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text}");
        }
    }
}
