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
    /// Returns where Debian's packages come from: the mirror of the configuration, or the host's own, or Debian's.
    pub(super) fn debian_options(&self) -> DebianOptions {
        let configured = &self.configuration.debian;
        let standard = DebianMirror::default();
        let mirror = match &configured.mirror {
            Some(archive) => DebianMirror {
                archive: archive.clone(),
                security: configured.security_mirror.clone().unwrap_or(standard.security),
            },
            None => DebianMirror::of_host().unwrap_or(standard),
        };
        let usual = DebianOptions::default();
        DebianOptions { mirror, keyring: configured.keyring.clone().unwrap_or(usual.keyring), ..usual }
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
        let failed = |error: ArchiveError| work_failed(what, error.is_cancelled(), error.fix(), &error);
        let options = self.debian_options();
        let proxies = self.proxies(what, operation).await?;
        let client = Client::through(&proxies, Patience::default()).map_err(|error| failed(error.into()))?;
        let archives = Archives::new(client, options.keyring, self.context().layout.debian());
        // What is kept of the archive is the same for all.
        let turn = self.pulls.enter("Debian's archive").await;
        operation.stage("kernel: read the package lists");
        let mut packages = Vec::new();
        for (archive, suite) in options.mirror.distributions(suite) {
            let distribution = Distribution { archive: archive.to_owned(), suite };
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

/// Finds what the newest metapackage depends on.
fn newest_kernel(packages: &[Package]) -> Option<&Package> {
    let metapackages = packages.iter().filter(|package| package.name == METAPACKAGE);
    let newest = metapackages.max_by(|one, other| one.version.cmp(&other.version))?;
    let (name, version) = dependency(&newest.depends)?;
    packages.iter().find(|package| package.name == name && package.version.to_string() == version)
}
