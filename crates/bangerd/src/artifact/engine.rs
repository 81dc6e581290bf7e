//! Engines: which ones there are, and installing one.

use std::path::Path;
use std::sync::Arc;

use banger_api::request::EngineInstallRequest;
use banger_core::engine::{Engine, EngineProgram, Installer};
use banger_core::work::Work as _;
use banger_download::{DownloadError, Downloader, Source};
use banger_image::publish::Staging;
use banger_types::engine::EngineStatus;
use banger_types::{ApiError, ErrorKind};

use super::Artifacts;
use crate::failure::{cancelled, failed, work_failed};
use crate::operation::Handle;
use crate::vm::blocking;

/// Most bytes that an archive may have whose length is not known.
const LIMIT: u64 = 256 << 20;

impl Artifacts {
    /// Returns all engines, as they are on this host.
    pub(crate) async fn engines(&self) -> Result<Vec<EngineStatus>, ApiError> {
        let engines = self.context().engines.all();
        blocking("look for engines", move || engines.map(|engine| status(engine.as_ref())).into()).await
    }

    /// Downloads a release of an engine and installs it into banger's own directory, under its version.
    pub(crate) async fn install_engine(
        &self,
        request: EngineInstallRequest,
        operation: &Arc<Handle>,
    ) -> Result<(), ApiError> {
        let engine = Arc::clone(self.context().engines.get(request.engine));
        let what = format!("install {}", engine.kind());
        let source = source(&what, request, installer(engine.as_ref())?)?;
        let _turn = self.turn(&what, operation).await?;
        let archive = self.context().layout.downloads().join(format!("{}.archive", engine.kind()));
        operation.stage(&format!("download {}", engine.kind()));
        let downloader = Downloader::new().map_err(|error| not_downloaded(&what, &error))?;
        let downloaded = downloader.download(&source, &archive, operation.as_ref()).await;
        downloaded.map_err(|error| not_downloaded(&what, &error))?;
        operation.stage("unpack it");
        let (from, engines, work) = (archive.clone(), self.context().layout.engines(), Arc::clone(operation));
        let unpacked = blocking(&what, move || unpack(&from, &engines, engine.as_ref(), &work)).await;
        // It has served, or it is of no use.
        if let Err(error) = fs_err::remove_file(&archive) {
            tracing::warn!(%error, "a download stays");
        }
        unpacked?
    }
}

fn installer(engine: &dyn Engine) -> Result<&dyn Installer, ApiError> {
    engine.installer().ok_or_else(|| {
        let error = ApiError::new(ErrorKind::Usage, format!("cannot install {}", engine.kind()));
        error.because("banger does not install it").fix("install it with your distribution's package manager")
    })
}

fn status(engine: &dyn Engine) -> EngineStatus {
    let found = engine.program();
    let problem = found.as_ref().err();
    EngineStatus {
        kind: engine.kind(),
        problem: problem.map(ToString::to_string),
        fix: problem.and_then(|error| error.fix().map(str::to_owned)),
        program: found.as_ref().ok().map(|program| program.path.clone()),
        version: found.as_ref().ok().map(|program| program.version.clone()),
    }
}

/// Unpacks an archive into a directory of engines, under the version that the program in it says to be.
fn unpack(archive: &Path, engines: &Path, engine: &dyn Engine, operation: &Handle) -> Result<(), ApiError> {
    let cannot = format!("cannot install {}", engine.kind());
    let failed = |error: &(dyn std::error::Error + 'static)| failed(cannot.as_str(), error);
    let installer = installer(engine)?;
    let staging = Staging::within(engines).map_err(|error| failed(&error))?;
    let unpacked = installer.unpack(archive, staging.path()).map_err(|error| failed(&error))?;
    operation.check().map_err(|_| cancelled(cannot.as_str()))?;
    let destination = engines.join(format!("{}-{}", engine.kind(), unpacked.version));
    // VMs may be started again from a directory of that name at any time.
    let is_there = |program: &EngineProgram| is_same(&unpacked.path, &program.path);
    if !installer.examine(&destination).is_ok_and(|program| is_there(&program)) {
        staging.publish_in_place(&destination).map_err(|error| failed(&error))?;
    }
    operation.log(&format!("{} {} is in {}", engine.kind(), unpacked.version, destination.display()));
    // What is installed may not be what is run.
    if let Some(other) = instead(engine, &destination) {
        let installed =
            format!("{} {} is installed in {}", engine.kind(), unpacked.version, destination.display());
        operation.warn(format!("{installed}, but VMs get {other}"));
    }
    Ok(())
}

/// Returns what VMs get in the place of the engine in a directory, if they do not get that.
fn instead(engine: &dyn Engine, directory: &Path) -> Option<String> {
    match engine.program() {
        Ok(run) if run.path.parent() == Some(directory) => None,
        Ok(run) => Some(format!("{} {} in {}", engine.kind(), run.version, run.path.display())),
        Err(error) => Some(format!("none: {error}")),
    }
}

/// Whether two programs are the same, byte by byte: two builds may say the same version.
fn is_same(one: &Path, other: &Path) -> bool {
    let content = |path: &Path| fs_err::read(path).ok();
    content(one).is_some_and(|one| content(other) == Some(one))
}

/// Returns what is downloaded: what was asked for, else the release that banger knows.
fn source(what: &str, request: EngineInstallRequest, installer: &dyn Installer) -> Result<Source, ApiError> {
    match (request.url, request.digest) {
        (Some(url), Some(digest)) => Ok(Source { url, digest, limit: LIMIT }),
        (None, None) => {
            let release = installer.release().ok_or_else(|| {
                ApiError::new(ErrorKind::Failed, format!("cannot {what}"))
                    .because("no release for this processor is known to this version of banger")
                    .fix("name one that you trust, with --url and --sha256")
            })?;
            Ok(Source { url: release.url, digest: release.digest, limit: release.size })
        }
        _ => Err(ApiError::new(ErrorKind::Usage, format!("cannot {what}"))
            .because("an address needs the digest of what is there, and a digest an address")),
    }
}

fn not_downloaded(what: &str, error: &DownloadError) -> ApiError {
    let is_cancelled = matches!(error, DownloadError::Cancelled(_));
    work_failed(what, is_cancelled, error.fix(), error)
}
