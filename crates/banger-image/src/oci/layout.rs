//! OCI image layouts (OCI image-spec, image-layout.md), as directories and in archives, and skopeo's `dir:`.

use std::io::Read;
use std::path::{Path, PathBuf};

use banger_types::digest::Digest;
use sha2::{Digest as _, Sha256};

use super::document::{Descriptor, Document, LARGEST_MANIFEST, MANIFEST_TYPES};
use super::packed::Packed;
use super::{Blobs, OciError, OciImage, image, open_file, read_at_most};

/// The entry of every layout.
const INDEX: &str = "index.json";
/// The name of an image in a layout (OCI image-spec, annotations.md).
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// Opens an image in the layout that is the directory `path`: the one of this name, or the only one.
pub fn open_layout(path: &Path, name: Option<&str>) -> Result<OciImage, OciError> {
    let index = open_file(path, Path::new(INDEX), "index")?;
    let at = entry(path, index, name)?;
    image(Directory { path: path.to_owned(), prefix: "blobs/sha256/" }, &at)
}

/// The same with a layout in a tar archive. What is packed is unpacked into `scratch` first.
pub fn open_archive(path: &Path, name: Option<&str>, scratch: &Path) -> Result<OciImage, OciError> {
    let packed = Packed::open(path, scratch)?;
    let at = entry(path, packed.file(INDEX)?, name)?;
    image(Archived(packed), &at)
}

/// Opens the image in a directory that skopeo has written.
pub fn open_directory(path: &Path) -> Result<OciImage, OciError> {
    let manifest = open_file(path, Path::new("manifest.json"), "manifest")?;
    let bytes = read_at_most(manifest, "manifest", LARGEST_MANIFEST)?;
    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
    // Nothing vouches for it: it is its own digest that it is known by.
    let at = Descriptor {
        media_type: String::new(),
        digest,
        size: bytes.len() as u64,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    };
    image(
        SkopeoDirectory { blobs: Directory { path: path.to_owned(), prefix: "" }, digest, manifest: bytes },
        &at,
    )
}

/// Reads the index of a layout and returns what it has of this name, or all that it has.
fn entry(path: &Path, index: impl Read, name: Option<&str>) -> Result<Descriptor, OciError> {
    let bytes = read_at_most(index, "index", LARGEST_MANIFEST)?;
    let Document::Index(manifests) = Document::parse(&bytes, Some(MANIFEST_TYPES[0]))? else {
        return Err(OciError::Missing { path: path.to_owned(), name: "manifests".to_owned() });
    };
    let name_of = |descriptor: &Descriptor| descriptor.annotations.get(REFERENCE_NAME).cloned();
    let available = || {
        let mut names: Vec<_> =
            manifests.iter().map(|it| name_of(it).unwrap_or("one without a name".into())).collect();
        names.truncate(20);
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let path = path.to_owned();
    match (name, &manifests[..]) {
        (None, [only]) => Ok(only.clone()),
        // One image for several platforms.
        (None, [_, ..]) if manifests.iter().all(|it| it.platform.is_some() && name_of(it).is_none()) => {
            Ok(super::document::choose(manifests, &super::document::Platform::of_this_host())?)
        }
        (None, [_, ..]) => Err(OciError::Several { path, available: available() }),
        (None, []) => {
            Err(OciError::NoSuchImage { path, wanted: "at all".to_owned(), available: available() })
        }
        (Some(wanted), _) => {
            let found = manifests.iter().find(|it| name_of(it).as_deref() == Some(wanted)).cloned();
            found.ok_or_else(|| OciError::NoSuchImage {
                path,
                wanted: wanted.to_owned(),
                available: available(),
            })
        }
    }
}

/// Files named by their digests.
struct Directory {
    path: PathBuf,
    prefix: &'static str,
}

impl Blobs for Directory {
    fn open(&self, descriptor: &Descriptor, what: &'static str) -> Result<Box<dyn Read + Send>, OciError> {
        let name = format!("{}{}", self.prefix, descriptor.digest.digits());
        Ok(Box::new(open_file(&self.path, Path::new(&name), what)?))
    }
}

/// The same in an archive.
struct Archived(Packed);

impl Blobs for Archived {
    fn open(&self, descriptor: &Descriptor, _what: &'static str) -> Result<Box<dyn Read + Send>, OciError> {
        Ok(Box::new(self.0.file(&format!("blobs/sha256/{}", descriptor.digest.digits()))?))
    }
}

/// The same beside a manifest that has another name; further ones, of an index, are named after their digests.
struct SkopeoDirectory {
    blobs: Directory,
    digest: Digest,
    manifest: Vec<u8>,
}

impl Blobs for SkopeoDirectory {
    fn open(&self, descriptor: &Descriptor, what: &'static str) -> Result<Box<dyn Read + Send>, OciError> {
        if descriptor.digest == self.digest {
            return Ok(Box::new(std::io::Cursor::new(self.manifest.clone())));
        }
        let manifest = format!("{}.manifest.json", descriptor.digest.digits());
        match self.blobs.open(descriptor, what) {
            Err(OciError::Missing { .. }) if what == "manifest" => {
                Ok(Box::new(open_file(&self.blobs.path, Path::new(&manifest), what)?))
            }
            other => other,
        }
    }
}
