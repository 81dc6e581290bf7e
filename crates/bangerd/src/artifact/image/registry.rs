//! Images from registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use banger_configuration::RegistrySettings;
use banger_core::work::Work as _;
use banger_download::registry::credentials::{self, CredentialsError};
use banger_download::registry::{Credentials, Places, Repository};
use banger_download::{Client, DownloadError, Patience};
use banger_image::oci::document::{DocumentError, LARGEST_MANIFEST, MANIFEST_TYPES};
use banger_image::oci::{Got, Layer, OciError, OciImage, Resolved, resolve};
use banger_image::source::{BuildError, BuiltRootfs, Content};
use banger_types::reference::DockerReference;
use banger_types::{ApiError, ImageId};
use tokio::runtime;

use super::super::Artifacts;
use super::super::layers::Flight;
use crate::failure::work_failed;
use crate::operation::Handle;
use crate::vm::blocking;

/// Where Docker's registry answers.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Why an image did not come from a registry.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("cannot find out who asks {registry}")]
    Credentials { registry: String, source: CredentialsError },
    #[error("cannot read the certificates of {registry}")]
    Certificates { registry: String, source: std::io::Error },
}

impl PullError {
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Download(error) => matches!(error, DownloadError::Cancelled(_)),
            Self::Credentials { source, .. } => source.is_cancelled(),
            Self::Oci(_) | Self::Document(_) | Self::Certificates { .. } => false,
        }
    }

    fn fix(&self) -> Option<String> {
        match self {
            Self::Download(error) => error.fix(),
            Self::Oci(error) => error.fix(),
            Self::Document(_) => None,
            Self::Credentials { .. } => Some("correct that file, or log in again".to_owned()),
            Self::Certificates { registry, .. } => {
                Some(format!("correct `ca_file` of [registry.\"{registry}\"] in the configuration file"))
            }
        }
    }
}

/// An image that a registry has, and where it has it.
pub(super) struct Remote {
    pub(super) resolved: Resolved,
    places: Arc<Places>,
}

impl Artifacts {
    /// Finds out what a registry has of this name.
    pub(super) async fn look_up(
        &self,
        what: &str,
        reference: &DockerReference,
        operation: &Arc<Handle>,
    ) -> Result<Remote, ApiError> {
        operation.stage(&format!("image: ask {}", reference.registry()));
        let failed = |error: PullError| work_failed(what, error.is_cancelled(), error.fix(), &error);
        let settings = self.settings()?;
        let registries = &settings.configuration.registry;
        let places = self.places(registries, reference, operation).await.map_err(failed)?;
        let places = Arc::new(places);
        let (asked, work, version) = (Arc::clone(&places), Arc::clone(operation), reference.version());
        let resolved = blocking(what, move || {
            let runtime = runtime::Handle::current();
            let manifest = asked.manifest(&version, &MANIFEST_TYPES, LARGEST_MANIFEST, work.as_ref());
            let first = runtime.block_on(manifest)?;
            let got = Got { bytes: first.bytes, media_type: first.media_type, digest: first.digest };
            resolve::<PullError>(got, |at, kind, limit| {
                let fetched = if kind == "manifest" {
                    let version = at.digest.to_string();
                    runtime.block_on(asked.manifest(&version, &MANIFEST_TYPES, limit, work.as_ref()))
                } else {
                    runtime.block_on(asked.small_blob(at.digest, limit, work.as_ref()))
                };
                Ok(fetched?.bytes)
            })
        })
        .await?
        .map_err(failed)?;
        Ok(Remote { resolved, places })
    }

    /// Returns all places that have a repository.
    async fn places(
        &self,
        registries: &BTreeMap<String, RegistrySettings>,
        reference: &DockerReference,
        operation: &Arc<Handle>,
    ) -> Result<Places, PullError> {
        let registry = reference.registry();
        let settings = registries.get(registry).cloned().unwrap_or_default();
        let mut mirrors = Vec::new();
        for mirror in &settings.mirrors {
            let settings = registries.get(mirror).cloned().unwrap_or_default();
            mirrors.push(self.place(mirror, mirror, &settings, reference, operation).await?);
        }
        let host = if registry == "docker.io" { DOCKER_HUB } else { registry };
        let registry = self.place(registry, host, &settings, reference, operation).await?;
        Ok(Places::new(mirrors, registry))
    }

    async fn place(
        &self,
        registry: &str,
        host: &str,
        settings: &RegistrySettings,
        reference: &DockerReference,
        operation: &Arc<Handle>,
    ) -> Result<Repository, PullError> {
        let authority = settings.ca_file.as_ref().map(fs_err::read).transpose();
        let authority =
            authority.map_err(|source| PullError::Certificates { registry: registry.to_owned(), source })?;
        let has_authority = authority.is_some();
        let client = Client::new(&authority.into_iter().collect::<Vec<_>>(), Patience::default())?;
        let is_plain = settings.plain_http
            || !has_authority
                && is_loopback(host)
                && client.speaks_plain_http(host, operation.as_ref()).await?;
        let base = format!("{}://{host}", if is_plain { "http" } else { "https" });
        let credentials = self.credentials(registry, reference.repository(), operation).await?;
        Ok(Repository::new(client, registry, &base, reference.repository(), credentials))
    }

    async fn credentials(
        &self,
        registry: &str,
        repository: &str,
        operation: &Arc<Handle>,
    ) -> Result<Option<Credentials>, PullError> {
        let (commands, work) = (Arc::clone(&self.context().commands), Arc::clone(operation));
        let (name, repository) = (registry.to_owned(), repository.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let files = credentials::files(|variable| std::env::var_os(variable).map(PathBuf::from));
            credentials::find(&files, &name, &repository, commands.as_ref(), work.as_ref())
        });
        let failed = |source| PullError::Credentials { registry: registry.to_owned(), source };
        match found.await {
            Ok(found) => found.map_err(failed),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Makes an image of what a registry has. Layers are written while they come.
    pub(super) async fn build_remote(
        &self,
        what: &str,
        id: &ImageId,
        remote: &Remote,
        operation: &Arc<Handle>,
    ) -> Result<BuiltRootfs, ApiError> {
        let mut tries = 0;
        loop {
            let layers = remote.resolved.layers();
            let flights: Vec<_> = layers
                .iter()
                .filter_map(|layer| Some(self.layers.get(layer, layer.stored?, &remote.places, operation)))
                .collect();
            let content = Content::Layers(Box::new(image(remote, &layers, &flights, operation)));
            match self.write_rootfs(what, id, content, self.build_options()?, operation).await? {
                Ok(mut built) => {
                    built.stored_as(&layers);
                    for (layer, flight) in layers.iter().zip(&flights) {
                        if let Some((digest, _)) = layer.stored.filter(|_| flight.is_as_stored()) {
                            self.layers.remember(layer, digest);
                        }
                    }
                    return Ok(built);
                }
                Err(error) => {
                    // What was read while it came may have been wrong: whether it was is known when all of it is here.
                    if let BuildError::Layer { number, .. } = &error {
                        tokio::select! {
                            () = flights[number - 1].ended() => {}
                            () = operation.cancelled() => {}
                        }
                    }
                    let of_size = |layer: &Layer| layer.stored.map_or(0, |(_, size)| size);
                    let misled = layers.iter().zip(&flights).any(|(layer, it)| it.was_misled(of_size(layer)));
                    if misled && tries == 0 {
                        tries += 1;
                        continue;
                    }
                    if let Some(cause) = flights.iter().find_map(|flight| flight.failure()) {
                        let cancelled = matches!(*cause, DownloadError::Cancelled(_));
                        return Err(work_failed(what, cancelled, cause.fix(), cause.as_ref()));
                    }
                    // What was here may have been spoiled, and what came may have been put right in between.
                    tries += 1;
                    let doubtful = flights.iter().any(|flight| flight.is_doubtful());
                    if error.is_cancelled() || !doubtful || tries > 1 {
                        return Err(work_failed(what, error.is_cancelled(), error.fix(), &error));
                    }
                    operation.log(&format!("{error}; once more"));
                    for flight in &flights {
                        flight.distrust();
                    }
                }
            }
        }
    }
}

/// Returns an image whose layers are read while they come.
fn image(remote: &Remote, layers: &[Layer], flights: &[Arc<Flight>], operation: &Arc<Handle>) -> OciImage {
    let (flights, operation) = (flights.to_vec(), Arc::clone(operation));
    let as_read = |(layer, flight): (&Layer, &Arc<Flight>)| Layer {
        stored: layer.stored.filter(|_| flight.is_as_stored()),
        ..layer.clone()
    };
    OciImage {
        digest: remote.resolved.digest,
        config: remote.resolved.config.config.clone(),
        layers: layers.iter().zip(&flights).map(as_read).collect(),
        // As it came; what it unpacks to is compared with the configuration all the same.
        is_verified: true,
        open: Box::new(move |at| Ok(Box::new(flights[at].read(Arc::clone(&operation))))),
    }
}

/// Whether a registry is on this host, so that what is said to it stays here.
fn is_loopback(host: &str) -> bool {
    let name = host.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let name = name.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_spoken_to_in_the_open() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["docker.io", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]:1", ""]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
