//! What comes from Debian's archive.

use std::sync::Arc;

use banger_core::work::Work as _;
use banger_download::debian::{ArchiveError, Archives, Distribution, Package};
use banger_download::{Client, Patience};
use banger_image::kernel::KernelPackage;
use banger_image::kernel::debian::{METAPACKAGE, dependency, is_of_interest};
use banger_image::source::debian::{DebianMirror, DebianOptions, proxies};
use banger_types::source::Suite;
use banger_types::{ApiError, ErrorKind};

use super::Artifacts;
use super::single_flight::Turn;
use crate::failure::work_failed;
use crate::operation::Handle;
use crate::vm::blocking;

impl Artifacts {
    /// Returns how Debian's packages of a suite are had: from the mirror of the configuration, or from the host's own, or
    /// from Debian's.
    pub(super) async fn debian_options(
        &self,
        what: &str,
        suite: &Suite,
        operation: &Arc<Handle>,
    ) -> Result<DebianOptions, ApiError> {
        let usual = DebianOptions::default();
        let settings = self.settings()?;
        let keyring = settings.configuration.debian.keyring.clone().unwrap_or(usual.keyring);
        Ok(DebianOptions { mirror: self.debian_mirror(what, suite, operation).await?, keyring, ..usual })
    }

    async fn debian_mirror(
        &self,
        what: &str,
        suite: &Suite,
        operation: &Arc<Handle>,
    ) -> Result<DebianMirror, ApiError> {
        let settings = self.settings()?;
        let configured = &settings.configuration.debian;
        let debians = DebianMirror::default();
        if let Some(archive) = configured.mirror.clone() {
            let security = configured.security_mirror.clone().unwrap_or(debians.security);
            return Ok(DebianMirror { archive, security });
        }
        let Some(hosts) = DebianMirror::of_host().filter(|hosts| *hosts != debians) else {
            return Ok(debians);
        };
        // It has what this host is; whether it has other suites, nobody has said. What it once had it has still: who says
        // otherwise may want an older state of another mirror to be believed.
        let state = self.context().layout.debian();
        let client = self.debian_client(what, operation).await?;
        let unknown = |distribution: &Distribution| !distribution.was_seen(&state);
        for distribution in distributions(&hosts, suite).into_iter().filter(unknown) {
            let there = distribution.is_there(&client, operation.as_ref()).await;
            if !there.map_err(|error| archive_failed(what, &error.into()))? {
                let Distribution { archive, suite } = distribution;
                operation.warn(format!(
                    "'{archive}', where this host's own packages come from, does not have '{suite}': '{}' is asked",
                    debians.archive
                ));
                return Ok(debians);
            }
        }
        Ok(hosts)
    }

    /// Returns a client that asks as this host's apt does.
    async fn debian_client(&self, what: &str, operation: &Arc<Handle>) -> Result<Client, ApiError> {
        let proxies = self.proxies(what, operation).await?;
        Client::through(&proxies, Patience::default()).map_err(|error| archive_failed(what, &error.into()))
    }

    /// Returns the proxies that this host's apt uses, by scheme.
    async fn proxies(&self, what: &str, operation: &Arc<Handle>) -> Result<Vec<(String, String)>, ApiError> {
        let (commands, work) = (Arc::clone(&self.context().commands), Arc::clone(operation));
        let proxies = blocking(what, move || proxies(commands.as_ref(), work.as_ref())).await?;
        proxies.map_err(|error| work_failed(what, error.is_cancelled(), error.fix(), &error))
    }

    /// Downloads the newest kernel for virtual machines of a suite. Whoever has used the file removes it, and ends the turn
    /// then.
    pub(super) async fn debian_kernel(
        &self,
        what: &str,
        suite: &Suite,
        operation: &Arc<Handle>,
    ) -> Result<(KernelPackage, Turn), ApiError> {
        let failed = |error: ArchiveError| archive_failed(what, &error);
        let options = self.debian_options(what, suite, operation).await?;
        let client = self.debian_client(what, operation).await?;
        let archives = Archives::new(client, options.keyring, self.context().layout.debian());
        // What is kept of the archive is the same for all.
        let turn = self.turn("Debian's archive", operation).await?;
        operation.stage("kernel: read the package lists");
        let mut packages = Vec::new();
        for distribution in distributions(&options.mirror, suite) {
            let found = archives.packages(&distribution, is_of_interest, operation.as_ref()).await;
            packages.extend(found.map_err(failed)?);
        }
        let kernel = newest_kernel(&packages).ok_or_else(|| {
            ApiError::new(ErrorKind::Failed, format!("cannot {what}"))
                .because(format!("the Debian suite '{suite}' has no kernel '{METAPACKAGE}'"))
        })?;
        operation.stage("kernel: fetch the package");
        operation.log(&format!("{} {}", kernel.name, kernel.version));
        let version = kernel.version.to_string();
        let path = self.context().layout.downloads().join(format!("{}.deb", kernel.name));
        archives.download(kernel, &path, operation.as_ref()).await.map_err(failed)?;
        Ok((KernelPackage { path, version }, turn))
    }
}

fn archive_failed(what: &str, error: &ArchiveError) -> ApiError {
    work_failed(what, error.is_cancelled(), error.fix(), error)
}

/// Returns where a mirror has the packages of a suite.
fn distributions(mirror: &DebianMirror, suite: &Suite) -> Vec<Distribution> {
    let all = mirror.distributions(suite).into_iter();
    all.map(|(archive, suite)| Distribution { archive: archive.to_owned(), suite }).collect()
}

/// Finds what the newest metapackage depends on.
fn newest_kernel(packages: &[Package]) -> Option<&Package> {
    let metapackages = packages.iter().filter(|package| package.name == METAPACKAGE);
    let newest = metapackages.max_by(|one, other| one.version.cmp(&other.version))?;
    let (name, version) = dependency(&newest.depends)?;
    packages.iter().find(|package| package.name == name && package.version.to_string() == version)
}
