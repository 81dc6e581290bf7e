//! What `docker save` writes (Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format").

use std::io::Read;
use std::path::Path;

use banger_types::digest::Digest;
use banger_types::reference::DockerReference;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::document::{Config, DocumentError, LARGEST_CONFIG, LARGEST_MANIFEST, MOST_LAYERS, Platform};
use super::packed::Packed;
use super::{OciError, OciImage, read_at_most};
use crate::encoding::printable;

/// One image of an archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Opens an image in an archive: the one of this name, or the only one. What is packed is unpacked into `scratch` first.
pub fn open(path: &Path, name: Option<&DockerReference>, scratch: &Path) -> Result<OciImage, OciError> {
    let packed = Packed::open(path, scratch)?;
    let item = choose(&packed, name)?;
    if item.layers.len() > MOST_LAYERS {
        return Err(DocumentError::TooMany { what: "manifest", limit: MOST_LAYERS, items: "layers" }.into());
    }
    let bytes = read_at_most(packed.file(&item.config)?, "configuration", LARGEST_CONFIG)?;
    let config = Config::parse(&bytes, &Platform::of_this_host(), item.layers.len())?;
    let layers = config.layers(std::iter::repeat(None));
    let open = move |at: usize| {
        let part = packed.file(&item.layers[at])?;
        Ok(Box::new(part) as Box<dyn Read + Send>)
    };
    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(OciImage { digest, config: config.config, layers, is_verified: false, open: Box::new(open) })
}

fn choose(packed: &Packed, name: Option<&DockerReference>) -> Result<Item, OciError> {
    let bytes = read_at_most(packed.file("manifest.json")?, "manifest", LARGEST_MANIFEST)?;
    let mut items: Vec<Item> =
        serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json { what: "manifest", source })?;
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let is_called = |item: &Item, name: &DockerReference| {
        tags(item).iter().any(|tag| tag.parse::<DockerReference>().is_ok_and(|tag| tag == *name))
    };
    let mut available: Vec<_> = items.iter().flat_map(tags).map(|tag| printable(tag.as_bytes())).collect();
    available.truncate(20);
    let available = if available.is_empty() { "one without a name".to_owned() } else { available.join(", ") };
    let path = packed.path().to_owned();
    match name {
        Some(name) => {
            let found = items.iter().position(|item| is_called(item, name));
            let found =
                found.ok_or_else(|| OciError::NoSuchImage { path, wanted: name.to_string(), available })?;
            Ok(items.swap_remove(found))
        }
        None if items.len() == 1 => Ok(items.remove(0)),
        None if items.is_empty() => {
            Err(OciError::NoSuchImage { path, wanted: "at all".to_owned(), available: "none".to_owned() })
        }
        None => Err(OciError::Several { path, available }),
    }
}
