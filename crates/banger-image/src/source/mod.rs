//! Where images come from, and how they become root file systems.

pub mod debian;
mod error;
mod open;
mod tools;

use std::path::{Path, PathBuf};

use banger_core::command::Commands;
use banger_core::work::Work;
use banger_types::ImageId;
use banger_types::digest::Digest;
use banger_types::image::{ImageConfig, ImageLayer};
use banger_types::source::{ImageSource, Layout, PackageName, Suite};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::archive::{self, ArchiveError, Meaning, Reading};
use crate::oci::{self, Layer, OciImage};
use crate::publish::Staging;
use crate::rootfs::RootfsWriter;
use crate::rootfs::ext4::{self, Ext4Writer};
use debian::DebianOptions;
pub(crate) use error::was_cancelled;
pub use error::{BuildError, LayerError};
pub use tools::ToolError;

/// Files of a published image's directory.
pub mod file {
    /// The root file system.
    pub const BASE: &str = "base.ext4";
    /// [`super::BuiltRootfs`] as JSON.
    pub const CONFIG: &str = "config.json";
}

/// How images are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Where Debian's packages come from.
    pub debian: DebianOptions,
    /// Most bytes that an image may unpack to, all layers together.
    pub largest: u64,
    /// Most entries that it may have.
    pub most_entries: usize,
    /// A directory for what is needed on the way, on the file system of the images.
    pub scratch: PathBuf,
    /// What is built is called so in the store of its builder, until it has been handed over.
    pub build_tag: String,
}

impl BuildOptions {
    /// Bytes that an image may unpack to, unless something else is asked for: 64 GiB.
    pub const LARGEST: u64 = 64 << 30;
    /// Entries that it may have.
    pub const MOST_ENTRIES: usize = ext4::MOST_ENTRIES;

    /// Returns the usual ones.
    pub fn new(scratch: PathBuf) -> Self {
        Self {
            debian: DebianOptions::default(),
            largest: Self::LARGEST,
            most_entries: Self::MOST_ENTRIES,
            scratch,
            build_tag: format!("{}:latest", tools::REPOSITORY),
        }
    }
}

/// Returns what the image is called in the store of who builds it, and nothing else is.
pub fn build_tag(image: &ImageId) -> String {
    format!("{}:{image}", tools::REPOSITORY)
}

/// Lets whoever has built an image forget it; by that name there may be none.
pub fn forget_built(image: &ImageId, commands: &dyn Commands) {
    tools::forget(&build_tag(image), commands);
}

/// An image as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltRootfs {
    /// Size of the root file system, bytes.
    pub size: u64,
    /// Digest of what it was made of: the archive or the manifest.
    pub digest: Digest,
    /// How its programs want to run.
    pub config: ImageConfig,
    /// The layers that it was made of, the lowest first.
    pub layers: Vec<ImageLayer>,
}

impl BuiltRootfs {
    /// Says what is stored of the layers where they came from, where they were read from elsewhere.
    pub fn stored_as(&mut self, layers: &[Layer]) {
        for (built, layer) in self.layers.iter_mut().zip(layers) {
            (built.digest, built.stored_size) = layer.stored.unzip();
        }
    }
}

/// What an image is made of.
#[derive(Debug)]
pub enum Content {
    /// Debian's packages.
    Debian {
        /// The suite.
        suite: Suite,
        /// Packages beside the usual ones.
        packages: Vec<PackageName>,
    },
    /// A tar archive of a whole tree.
    Tar(PathBuf),
    /// Layers.
    Layers(Box<OciImage>),
}

impl Content {
    /// Returns what a source has, where that is on this host; other programs may have to hand it over first.
    pub fn of(
        source: &ImageSource,
        options: &BuildOptions,
        commands: &dyn Commands,
        work: &dyn Work,
    ) -> Result<Self, BuildError> {
        if let Some(path) = source.path().filter(|path| !path.is_absolute()) {
            return Err(BuildError::RelativePath(path.to_owned()));
        }
        let scratch = &options.scratch;
        let image = match source {
            ImageSource::Debian { suite, packages } => {
                return Ok(Self::Debian { suite: suite.clone(), packages: packages.clone() });
            }
            ImageSource::Tar(path) => return Ok(Self::Tar(path.clone())),
            ImageSource::Docker(_) | ImageSource::DockerDaemon(_) => return Err(BuildError::NotFetched),
            ImageSource::Oci(Layout { path, tag }) => oci::open_layout(path, tag.as_deref())?,
            ImageSource::OciArchive(Layout { path, tag }) => {
                oci::open_archive(path, tag.as_deref(), scratch)?
            }
            ImageSource::DockerArchive { path, reference } => {
                oci::open_docker_archive(path, reference.as_ref(), scratch)?
            }
            ImageSource::Dir(path) => oci::open_directory(path)?,
            ImageSource::ContainersStorage(name) => tools::from_storage(name, scratch, commands, work)?,
            ImageSource::Dockerfile(dockerfile) => tools::build(dockerfile, options, commands, work)?,
        };
        Ok(Self::Layers(Box::new(image)))
    }
}

/// Makes an image of `content` and publishes it as the directory `destination`, with the files of
/// [`file`]. Nothing is left of it on failure.
pub fn build(
    content: &Content,
    options: &BuildOptions,
    destination: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<BuiltRootfs, BuildError> {
    let staging = Staging::beside(destination)?;
    let base = staging.path().join(file::BASE);
    let writer = Ext4Writer::create(&base, "banger-base").map_err(BuildError::Create)?;
    let mut writer = Box::new(writer.with_most_entries(options.most_entries));
    let (digest, config, layers) = match content {
        Content::Debian { suite, packages } => {
            let digest = debian::read(suite, packages, &options.debian, writer.as_mut(), commands, work)?;
            (digest, debian::config(), Vec::new())
        }
        Content::Tar(path) => {
            (read_tar(path, options, writer.as_mut(), work)?, ImageConfig::default(), Vec::new())
        }
        Content::Layers(image) => {
            let layers = read_layers(image, options, writer.as_mut(), work)?;
            (image.digest, image.config.clone(), layers)
        }
    };
    work.stage("image: finish the file system");
    let size = writer.finish().map_err(BuildError::Finish)?;
    let built = BuiltRootfs { size, digest, config, layers };
    let json = serde_json::to_vec_pretty(&built).map_err(|error| BuildError::Create(error.into()))?;
    fs::write(staging.path().join(file::CONFIG), json).map_err(BuildError::Create)?;
    work.check()?;
    staging.publish()?;
    Ok(built)
}

fn read_tar(
    path: &Path,
    options: &BuildOptions,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<Digest, BuildError> {
    work.stage("image: read the archive");
    let (file, total) = open::open(path, work).map_err(BuildError::Open)?;
    let reading = Reading { total, limit: options.largest, ..Reading::default() };
    let summary = archive::read(file, &reading, writer, work)
        .map_err(|source| BuildError::Archive { path: path.to_owned(), source })?;
    Ok(summary.digest.unwrap_or(summary.unpacked))
}

/// Reads layers onto each other, the lowest first, and returns what each was.
fn read_layers(
    image: &OciImage,
    options: &BuildOptions,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<Vec<ImageLayer>, BuildError> {
    let count = image.layers.len();
    let mut layers = Vec::with_capacity(count);
    let mut left = options.largest;
    for (at, layer) in image.layers.iter().enumerate() {
        let number = at + 1;
        work.stage(&format!("image: write layer {number} of {count}"));
        let mut read = || -> Result<u64, LayerError> {
            if at > 0 {
                writer.next_layer()?;
            }
            let total = layer.stored.map(|(_, length)| length);
            let hash_stored = !image.is_verified;
            let reading = Reading { meaning: Meaning::Layer, total, limit: left, hash_stored };
            let summary =
                archive::read((image.open)(at)?, &reading, writer, work).map_err(|error| match error {
                    // The limit is that of all layers together.
                    ArchiveError::TooLarge { .. } => ArchiveError::TooLarge { limit: options.largest },
                    other => other,
                })?;
            match (layer.stored, summary.digest) {
                (Some((expected, _)), Some(found)) if found != expected => {
                    Err(LayerError::Digest { expected, found })
                }
                _ if summary.unpacked != layer.diff_id => {
                    Err(LayerError::DiffId { expected: layer.diff_id, found: summary.unpacked })
                }
                _ => Ok(summary.unpacked_length),
            }
        };
        let size = read().map_err(|source| BuildError::Layer { number, count, source })?;
        left -= size;
        let (digest, stored_size) = layer.stored.unzip();
        let created_by = layer.created_by.clone();
        layers.push(ImageLayer { diff_id: layer.diff_id, size, digest, stored_size, created_by });
    }
    Ok(layers)
}
