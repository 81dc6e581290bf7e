//! Images as they are kept and passed on: documents that name layers, in layouts, archives and directories.
//!
//! What comes from a registry is the same documents and layers; only how they are fetched is another crate's.

mod docker_archive;
pub mod document;
mod layout;
mod packed;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use banger_types::digest::Digest;
use banger_types::image::ImageConfig;
use fs_err as fs;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::archive::ArchiveError;
pub use docker_archive::open as open_docker_archive;
use document::{
    Config, Descriptor, Document, DocumentError, LARGEST_CONFIG, LARGEST_MANIFEST, Manifest, Platform,
};
pub use layout::{open_archive, open_directory, open_layout};

/// How many indexes may stand within each other.
const DEEPEST: usize = 4;

/// Why an image cannot be taken from where it is.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A document is of no use.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file could not be read.
    #[error("cannot read the {what}")]
    Read {
        /// Which part of the image.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive that holds it could not be read.
    #[error("cannot read the archive '{path}'")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A part is missing.
    #[error("there is no '{name}' in '{path}'")]
    Missing {
        /// The directory or archive.
        path: PathBuf,
        /// The part's name in it, printable.
        name: String,
    },
    /// It is not what was asked for.
    #[error("the {what} is not what it should be: its digest is {found}, not {expected}")]
    Digest {
        /// Which part.
        what: &'static str,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// It is longer than it can be.
    #[error("the {what} has more than {limit} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Most bytes.
        limit: u64,
    },
    /// Indexes within indexes.
    #[error("indexes stand within each other more than {DEEPEST} deep")]
    TooDeep,
    /// There are several images, or none of this name.
    #[error("there is no image '{wanted}' in '{path}'; there is {available}")]
    NoSuchImage {
        /// The directory or archive.
        path: PathBuf,
        /// The name that was asked for.
        wanted: String,
        /// The names of those that are there.
        available: String,
    },
    /// There are several images.
    #[error("there is more than one image in '{path}': {available}")]
    Several {
        /// The directory or archive.
        path: PathBuf,
        /// Their names.
        available: String,
    },
}

impl OciError {
    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::NoSuchImage { .. } | Self::Several { .. } => {
                Some("name one of them after the path, as in PATH:NAME".to_owned())
            }
            Self::Document(DocumentError::Platform { .. } | DocumentError::OtherPlatform { .. }) => {
                Some("take one that is built for this machine".to_owned())
            }
            Self::Digest { .. } | Self::Missing { .. } => {
                Some("get or make it anew: it is damaged".to_owned())
            }
            _ => None,
        }
    }
}

/// An image and where its layers are.
pub struct OciImage {
    /// Digest of its manifest; of its configuration where there is no manifest.
    pub digest: Digest,
    /// How its programs want to run.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Whether somebody else sees to it that the layers have their digests as they are stored, before they end.
    pub is_verified: bool,
    /// Opens one of them by its place in the list. Called once for each, in order.
    pub open: Box<OpenLayer>,
}

/// Opens a layer by its place.
pub type OpenLayer = dyn Fn(usize) -> Result<Box<dyn Read + Send>, OciError> + Send + Sync;

impl std::fmt::Debug for OciImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OciImage")
            .field("digest", &self.digest)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of what it unpacks to.
    pub diff_id: Digest,
    /// Digest and length in bytes of what is stored, where that is known.
    pub stored: Option<(Digest, u64)>,
    /// The command that made it, as far as the image says it.
    pub created_by: Option<String>,
}

impl Config {
    /// Returns the layers, the lowest first, of which this is `stored`.
    fn layers(&self, stored: impl Iterator<Item = Option<(Digest, u64)>>) -> Vec<Layer> {
        let created_by = self.created_by.iter().cloned().map(Some).chain(std::iter::repeat(None));
        let parts = self.diff_ids.iter().copied().zip(stored).zip(created_by);
        parts.map(|((diff_id, stored), created_by)| Layer { diff_id, stored, created_by }).collect()
    }
}

/// A place that keeps documents and layers by their digests.
trait Blobs: Send + Sync {
    /// Opens one.
    fn open(&self, descriptor: &Descriptor, what: &'static str) -> Result<Box<dyn Read + Send>, OciError>;
}

/// An index or a manifest, as it was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The media type that it came with.
    pub media_type: Option<String>,
    /// Its digest.
    pub digest: Digest,
}

/// What the documents of an image say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: Config,
}

impl Resolved {
    /// Returns the layers: those of the manifest, with the digests of the configuration.
    pub fn layers(&self) -> Vec<Layer> {
        self.config.layers(self.manifest.layers.iter().map(|layer| Some((layer.digest, layer.size))))
    }
}

/// Goes from an index or a manifest to the image for this machine. `get` gets a document by its descriptor, which it has
/// seen to be what that says: of this kind, with at most so many bytes.
pub fn resolve<E: From<OciError> + From<DocumentError>>(
    mut got: Got,
    mut get: impl FnMut(&Descriptor, &'static str, u64) -> Result<Vec<u8>, E>,
) -> Result<Resolved, E> {
    let wanted = Platform::of_this_host();
    for _ in 0..DEEPEST {
        match Document::parse(&got.bytes, got.media_type.as_deref())? {
            Document::Index(manifests) => {
                let at = document::choose(manifests, &wanted)?;
                let bytes = get(&at, "manifest", LARGEST_MANIFEST)?;
                let media_type = Some(at.media_type).filter(|it| !it.is_empty());
                got = Got { bytes, media_type, digest: at.digest };
            }
            Document::Manifest(manifest) => {
                let bytes = get(&manifest.config, "configuration", LARGEST_CONFIG)?;
                let config = Config::parse(&bytes, &wanted, manifest.layers.len())?;
                return Ok(Resolved { digest: got.digest, manifest, config });
            }
        }
    }
    Err(OciError::TooDeep.into())
}

/// The same from a descriptor in a place.
fn image(blobs: impl Blobs + 'static, at: &Descriptor) -> Result<OciImage, OciError> {
    let get = |at: &Descriptor, what, limit| document(&blobs, at, what, limit);
    let bytes = get(at, "manifest", LARGEST_MANIFEST)?;
    let media_type = Some(at.media_type.clone()).filter(|it| !it.is_empty());
    let resolved = resolve(Got { bytes, media_type, digest: at.digest }, get)?;
    let (digest, layers) = (resolved.digest, resolved.layers());
    let Resolved { manifest, config, .. } = resolved;
    let open = move |at: usize| blobs.open(&manifest.layers[at], "layer");
    Ok(OciImage { digest, config: config.config, layers, is_verified: false, open: Box::new(open) })
}

/// Reads a document whose digest is known.
fn document(blobs: &dyn Blobs, at: &Descriptor, what: &'static str, limit: u64) -> Result<Vec<u8>, OciError> {
    if at.size > limit {
        return Err(OciError::TooLarge { what, limit });
    }
    let bytes = read_at_most(blobs.open(at, what)?, what, limit)?;
    let found = Digest::from_bytes(Sha256::digest(&bytes).into());
    if found == at.digest { Ok(bytes) } else { Err(OciError::Digest { what, expected: at.digest, found }) }
}

/// Reads all of something that should be short.
fn read_at_most(reader: impl Read, what: &'static str, limit: u64) -> Result<Vec<u8>, OciError> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|source| OciError::Read { what, source })?;
    if bytes.len() as u64 > limit { Err(OciError::TooLarge { what, limit }) } else { Ok(bytes) }
}

/// Opens a file that has to be a regular one: opening a pipe would wait for somebody to write into it.
fn open_file(directory: &Path, name: &Path, what: &'static str) -> Result<fs::File, OciError> {
    let read = |source| OciError::Read { what, source };
    let path = directory.join(name);
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options.read(true),
        OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OciError::Missing {
            path: directory.to_owned(),
            name: crate::encoding::printable(name.as_os_str().as_encoded_bytes()),
        },
        _ => read(error),
    })?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(read(io::Error::other("it is no regular file")));
    }
    Ok(fs::File::from_parts(file, path))
}
