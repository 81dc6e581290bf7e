//! Making kernels.

mod features;
mod register;
mod remake;

use std::path::Path;
use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::work::Work as _;
use banger_download::{DownloadError, Downloader, Source};
use banger_image::kernel::{self, Ingredients, KernelBundle, KernelPackage, KernelSource};
use banger_types::digest::Digest;
use banger_types::event::Change;
use banger_types::kernel::Kernel;
use banger_types::{ApiError, ErrorKind};

pub(super) use self::features::{NEEDED, judge, merged};
pub(crate) use self::register::KernelRegistration;
pub(super) use self::register::{another_name, kernel_files};
use super::Artifacts;
use super::image::taken;
use super::single_flight::Turn;
use super::tried::Tried;
use crate::failure::{cancelled, work_failed};
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::random;
use crate::vm::blocking;

impl Artifacts {
    /// Makes a kernel and gives it a name: the one asked for, else what was typed.
    pub(crate) async fn pull_kernel(
        &self,
        typed: &str,
        name: Option<&str>,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let name = name.unwrap_or(typed).to_owned();
        let _turn = self.turn(&format!("kernel {name}"), operation).await?;
        let present = self.shown_kernel(&name).await?;
        // One of the user's own has no other source than its files.
        if let Some(kernel) = present.as_ref().filter(|kernel| kernel.registered.is_some() && typed == name) {
            return self.current(kernel.clone(), operation).await;
        }
        let sources = match (self.kernel_sources(typed, operation).await, &present) {
            // Nothing else is called so: it is meant itself.
            (Err(error), Some(kernel)) if error.kind == ErrorKind::NotFound && typed == name => {
                return self.current(kernel.clone(), operation).await;
            }
            (sources, _) => sources?,
        };
        if let Some(kernel) = present {
            return if sources.iter().any(|source| source.to_string() == kernel.source) {
                self.current(kernel, operation).await
            } else {
                Err(taken("kernel", &name))
            };
        }
        let what = format!("make the kernel '{name}'");
        let is_choice = sources.len() > 1;
        let mut tried = Tried::default();
        for source in sources {
            let made = self.make_kernel(&what, &name, &source, operation).await;
            let Err(error) = made else { return made };
            self.undo(operation.id()).await;
            if operation.check().is_err() {
                return Err(error);
            }
            tried.note(source.to_string(), error, is_choice.then_some(operation));
        }
        Err(tried.into_error(&what))
    }

    /// Returns where a kernel can be had that a user calls so: what the catalog has under that name, else what it says itself.
    async fn kernel_sources(
        &self,
        typed: &str,
        operation: &Arc<Handle>,
    ) -> Result<Vec<KernelSource>, ApiError> {
        // What has a transport means nothing else.
        let unknown = match typed.parse() {
            Ok(source) => return Ok(vec![source]),
            Err(error) => unknown_kernel(typed, &error),
        };
        let catalog = self.catalogs.read(operation.as_ref()).await?;
        for problem in &catalog.problems {
            operation.warn(problem.clone());
        }
        catalog.kernel(typed).map(|entry| entry.sources.clone()).ok_or(unknown)
    }

    /// Gets what a kernel is made of. Others who want the same files have their turn when the kernel is built.
    async fn ingredients(
        &self,
        what: &str,
        source: &KernelSource,
        operation: &Arc<Handle>,
    ) -> Result<(Ingredients, Turn), ApiError> {
        match source {
            KernelSource::Debian(suite) => {
                let (package, turn) = self.debian_kernel(what, suite, operation).await?;
                Ok((Ingredients::Package(package), turn))
            }
            KernelSource::Address { url, digest } => {
                self.download_kernel(what, url, *digest, operation).await
            }
        }
    }

    /// Downloads a kernel. Whoever has used the file removes it, and ends the turn then.
    async fn download_kernel(
        &self,
        what: &str,
        url: &str,
        digest: Digest,
        operation: &Arc<Handle>,
    ) -> Result<(Ingredients, Turn), ApiError> {
        let failed = |error: DownloadError| {
            let cancelled = matches!(error, DownloadError::Cancelled(_));
            work_failed(what, cancelled, error.fix(), &error)
        };
        // Under its digest: two that want the same one take turns, and what has come of it serves the next.
        let turn = self.turn(&digest.to_string(), operation).await?;
        operation.stage("kernel: download it");
        let path = self.context().layout.downloads().join(format!("{}.kernel", digest.digits()));
        let source = Source { url: url.to_owned(), digest, limit: kernel::LARGEST };
        let downloader = Downloader::new().map_err(failed)?;
        downloader.download(&source, &path, operation.as_ref()).await.map_err(failed)?;
        Ok((Ingredients::Download(path), turn))
    }

    pub(super) async fn build_kernel(
        &self,
        what: &str,
        ingredients: Ingredients,
        destination: &Path,
        operation: &Arc<Handle>,
    ) -> Result<KernelBundle, ApiError> {
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let destination = destination.to_owned();
        let build = move || {
            let built = kernel::build(&ingredients, &destination, commands.as_ref(), work.as_ref());
            banger_host::give_back_memory();
            // It has served, or it is of no use. What stays is swept when it is old.
            match &ingredients {
                Ingredients::Package(KernelPackage { path, .. }) | Ingredients::Download(path) => {
                    fs_err::remove_file(path).ok();
                }
                Ingredients::Files { .. } => {}
            }
            built
        };
        let built = blocking(what, build).await?;
        built.map_err(|error| work_failed(what, error.is_cancelled(), error.fix(), &error))
    }

    async fn make_kernel(
        &self,
        what: &str,
        name: &str,
        source: &KernelSource,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let id = random::kernel_id();
        self.journal(operation, Step::MakeKernelDirectory(id.clone()), what).await?;
        FaultPoint::PullJournaled.reach();
        let (ingredients, turn) = self.ingredients(what, source, operation).await?;
        let place = self.context().layout.kernel(&id);
        let built = self.build_kernel(what, ingredients, &place, operation).await?;
        drop(turn);
        FaultPoint::PullPublished.reach();
        let kernel = Kernel {
            name: name.to_owned(),
            source: source.to_string(),
            release: built.release,
            version: built.version,
            disk_usage: super::disk_usage(&place),
            created_at: jiff::Timestamp::now(),
            features: built.features,
            registered: None,
            problem: None,
            id,
        };
        let kernel = self.with_features(what, kernel, operation).await?;
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let (row, operation_id) = (kernel.clone(), operation.id().clone());
        self.context().store(what, move |store| store.insert_kernel(&row, &operation_id)).await?;
        self.context().tell(Change::Kernel { kernel: Box::new(kernel.clone()) });
        FaultPoint::PullSettled.reach();
        Ok(kernel)
    }
}

fn unknown_kernel(typed: &str, error: &dyn std::error::Error) -> ApiError {
    let kind = if typed.contains(':') { ErrorKind::Usage } else { ErrorKind::NotFound };
    ApiError::caused_by(kind, format!("there is no kernel named '{typed}'"), error).fix(
        "`banger kernel ls` shows those that are here, `banger kernel catalog` those that can be had by name",
    )
}
