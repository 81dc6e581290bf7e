//! A repository at all the places that have it: mirrors first, then its own registry.

use std::path::Path;

use banger_core::work::Work;
use banger_types::digest::Digest;

use super::{Fetched, Repository};
use crate::DownloadError;

/// A repository at one or more places. What one does not give is asked of the next.
#[derive(Debug)]
pub struct Places {
    mirrors: Vec<Repository>,
    registry: Repository,
}

impl Places {
    /// Returns a repository that `mirrors` have, as far as they do, and `registry` in any case.
    pub const fn new(mirrors: Vec<Repository>, registry: Repository) -> Self {
        Self { mirrors, registry }
    }

    /// As [`Repository::manifest`].
    pub async fn manifest(
        &self,
        version: &str,
        accept: &[&str],
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        for mirror in &self.mirrors {
            match mirror.manifest(version, accept, limit, work).await {
                Err(error) if !error.is_ours() => mirror.left_out(&error, work),
                outcome => return outcome,
            }
        }
        self.registry.manifest(version, accept, limit, work).await
    }

    /// As [`Repository::small_blob`].
    pub async fn small_blob(
        &self,
        digest: Digest,
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        for mirror in &self.mirrors {
            match mirror.small_blob(digest, limit, work).await {
                Err(error) if !error.is_ours() => mirror.left_out(&error, work),
                outcome => return outcome,
            }
        }
        self.registry.small_blob(digest, limit, work).await
    }

    /// As [`Repository::blob`]. What has come from one place is gone on with at the next.
    pub async fn blob(
        &self,
        digest: Digest,
        size: u64,
        destination: &Path,
        work: &dyn Work,
    ) -> Result<(), DownloadError> {
        for mirror in &self.mirrors {
            match mirror.blob(digest, size, destination, work).await {
                Err(error) if !error.is_ours() => mirror.left_out(&error, work),
                outcome => return outcome,
            }
        }
        self.registry.blob(digest, size, destination, work).await
    }
}

impl Repository {
    /// Says that this mirror does not have it.
    fn left_out(&self, error: &DownloadError, work: &dyn Work) {
        work.log(&format!("{error}; the mirror {} is left out", self.base));
    }
}
