//! Downloads over HTTP(S) of files whose digest is known, and what registries have.
//!
//! A file gets its name when all of it is there and its digest is right. Until then it stands under another name, and a
//! download that was cut, by the network or by the end of the program, goes on there.
//!
//! - [`Downloader`]: files at an address.
//! - [`debian`]: packages in a Debian archive.
//! - [`docker`]: what a Docker daemon of this host has.
//! - [`registry`]: manifests and blobs of the images in a registry.

mod client;
pub mod debian;
pub mod docker;
mod error;
mod partial;
pub mod registry;
mod transfer;

use std::io;
use std::path::Path;
use std::time::Duration;

use banger_core::work::Work;
use banger_types::digest::Digest;
pub use client::{Client, Patience};
pub use error::DownloadError;
pub use partial::place as partial_place;
use transfer::Transfer;

/// What is downloaded.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its address: `https:`, or `http:`, which the digest makes as good.
    pub url: String,
    /// The digest of all of it.
    pub digest: Digest,
    /// Most bytes that it may have.
    pub limit: u64,
}

/// What [`sweep`] came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many files are gone.
    pub removed: usize,
    /// What could not be looked at or removed.
    pub errors: Vec<io::Error>,
}

/// Removes what was downloaded to a directory and not touched for so long: nobody goes on with it. To be called when
/// nobody downloads to it. What was learned of a mirror (see [`debian`]) stays. Goes on after errors.
pub fn sweep(directory: &Path, age: Duration) -> Swept {
    let mut swept = Swept::default();
    let remove = |entry: io::Result<fs_err::DirEntry>| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let is_old = metadata.modified()?.elapsed().is_ok_and(|elapsed| elapsed > age);
        let goes = metadata.is_file() && is_old && !debian::is_remembered(&entry.path());
        if goes {
            fs_err::remove_file(entry.path())?;
        }
        Ok(goes)
    };
    match fs_err::read_dir(directory) {
        Err(error) => swept.errors.push(error),
        Ok(entries) => {
            for removed in entries.map(remove) {
                match removed {
                    Ok(removed) => swept.removed += usize::from(removed),
                    Err(error) => swept.errors.push(error),
                }
            }
        }
    }
    swept
}

/// Downloads files.
#[derive(Debug, Clone)]
pub struct Downloader {
    client: Client,
}

impl Downloader {
    /// Returns a downloader that trusts the certificates that this host trusts, and uses the proxies that the environment
    /// names (`HTTPS_PROXY`, `NO_PROXY`).
    pub fn new() -> Result<Self, DownloadError> {
        Ok(Self { client: Client::new(&[], Patience::default())? })
    }

    /// Downloads `source` to `destination`, whose directory must be there. What of it was downloaded before is not
    /// downloaded again.
    ///
    /// A cancel, and a server that has another file, leave nothing behind; whatever else fails leaves what has come, if
    /// anything has, for the next time.
    pub async fn download(
        &self,
        source: &Source,
        destination: &Path,
        work: &dyn Work,
    ) -> Result<(), DownloadError> {
        Transfer { server: &self.client, patience: self.client.patience, source, destination, work }
            .run()
            .await
    }
}
