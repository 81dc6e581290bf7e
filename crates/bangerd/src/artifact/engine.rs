//! Engines: which ones there are, and installing one.

use std::path::Path;
use std::sync::Arc;

use banger_api::request::EngineInstallRequest;
use banger_core::command::Commands;
use banger_core::work::Work as _;
use banger_download::{DownloadError, Downloader, Source};
use banger_engine::Release;
use banger_image::publish::Staging;
use banger_types::engine::EngineStatus;
use banger_types::vm::EngineKind;
use banger_types::{ApiError, ErrorKind};

use super::Artifacts;
use super::image::build_failure;
use crate::failure::{cancelled, failed};
use crate::operation::Handle;
use crate::vm::blocking;

/// What cannot be done, when it cannot.
const WHAT: &str = "install Firecracker";
/// Most bytes that an archive may have whose length is not known: releases have some 7 MiB.
const LIMIT: u64 = 256 << 20;
/// The program.
const PROGRAM: &str = "firecracker";

impl Artifacts {
    /// Returns all engines, as they are on this host.
    pub(crate) async fn engines(&self) -> Result<Vec<EngineStatus>, ApiError> {
        let engines = [EngineKind::Firecracker, EngineKind::Qemu]
            .map(|kind| Arc::clone(self.context().engines.get(kind)));
        blocking("look for engines", move || {
            engines.map(|engine| {
                let (kind, found) = (engine.kind(), engine.program());
                let problem = found.as_ref().err();
                EngineStatus {
                    kind,
                    problem: problem.map(ToString::to_string),
                    fix: problem.and_then(|error| error.fix().map(str::to_owned)),
                    program: found.as_ref().ok().map(|program| program.path.clone()),
                    version: found.as_ref().ok().map(|program| program.version.clone()),
                }
            })
        })
        .await
        .map(Vec::from)
    }

    /// Downloads a release of Firecracker and installs it into banger's own directory, under its version.
    pub(crate) async fn install_engine(
        &self,
        request: EngineInstallRequest,
        operation: &Arc<Handle>,
    ) -> Result<(), ApiError> {
        let source = source(request)?;
        let _turn = self.pulls.enter("engine firecracker").await;
        let archive = self.context().layout.downloads().join("firecracker.tgz");
        operation.stage("download Firecracker");
        let downloader = Downloader::new().map_err(|error| not_downloaded(&error))?;
        let downloaded = downloader.download(&source, &archive, operation.as_ref()).await;
        downloaded.map_err(|error| not_downloaded(&error))?;
        operation.stage("unpack it");
        let (from, engines, work) = (archive.clone(), self.context().layout.engines(), Arc::clone(operation));
        let commands: Arc<dyn Commands> = Arc::new(self.commands);
        let unpacked = blocking(WHAT, move || unpack(&from, &engines, &commands, &work)).await;
        // It has served, or it is of no use.
        if let Err(error) = fs_err::remove_file(&archive) {
            tracing::warn!(%error, "a download stays");
        }
        unpacked?
    }
}

/// Unpacks an archive into a directory of engines, under the version that the program in it says to be.
fn unpack(
    archive: &Path,
    engines: &Path,
    commands: &Arc<dyn Commands>,
    operation: &Handle,
) -> Result<(), ApiError> {
    let cannot = format!("cannot {WHAT}");
    let failed = |error: &dyn std::error::Error| failed(cannot.as_str(), error);
    let staging = Staging::within(engines).map_err(|error| failed(&error))?;
    Release::unpack(archive, staging.path()).map_err(|error| failed(&error))?;
    let unpacked =
        Release::examine(commands, &staging.path().join(PROGRAM)).map_err(|error| failed(&error))?;
    operation.check().map_err(|_| cancelled(cannot.as_str()))?;
    let destination = engines.join(Release::directory_name(&unpacked.version));
    // VMs may be started again from a directory of that name: it stays, if what is in it can be run.
    if Release::examine(commands, &destination.join(PROGRAM)).is_err() {
        if destination.exists() {
            fs_err::remove_dir_all(&destination).map_err(|error| failed(&error))?;
        }
        staging.publish_as(&destination).map_err(|error| failed(&error))?;
    }
    operation.log(&format!("Firecracker {} is in {}", unpacked.version, destination.display()));
    Ok(())
}

/// Returns what is downloaded: what was asked for, else the release that banger knows.
fn source(request: EngineInstallRequest) -> Result<Source, ApiError> {
    let cannot = || format!("cannot {WHAT}");
    match (request.url, request.digest) {
        (Some(url), Some(digest)) => Ok(Source { url, digest, limit: LIMIT }),
        (None, None) => {
            let known = Release::official().and_then(|release| Some((release, release.digest()?)));
            let (release, digest) = known.ok_or_else(|| {
                ApiError::new(ErrorKind::Failed, cannot())
                    .because("no release for this processor is known to this version of banger")
                    .fix("name one that you trust, with --url and --sha256")
            })?;
            Ok(Source { url: release.url.to_owned(), digest, limit: release.size })
        }
        _ => Err(ApiError::new(ErrorKind::Usage, cannot())
            .because("an address needs the digest of what is there, and a digest an address")),
    }
}

fn not_downloaded(error: &DownloadError) -> ApiError {
    let is_cancelled = matches!(error, DownloadError::Cancelled(_));
    build_failure(WHAT, is_cancelled, error.fix().map(str::to_owned), error)
}
