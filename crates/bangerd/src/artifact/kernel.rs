//! Making kernels.

use std::path::Path;
use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::work::Work as _;
use banger_image::kernel::{self, KernelBundle, KernelSource};
use banger_image::publish::{self, PARTIAL_PREFIX};
use banger_types::image::RegisteredFile;
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::{ApiError, ErrorKind};

use super::files::file_of;
use super::image::taken;
use super::{Artifacts, Named as _};
use crate::catalog;
use crate::failure::{cancelled, failed, work_failed};
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::random;
use crate::vm::{blocking, remove_files};

impl Artifacts {
    /// Makes a kernel and gives it a name: the one asked for, else what was typed.
    pub(crate) async fn pull_kernel(
        &self,
        typed: &str,
        name: Option<&str>,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let name = name.unwrap_or(typed).to_owned();
        let _turn = self.pulls.enter(&format!("kernel {name}")).await;
        let present = self.shown_kernel(&name).await?;
        let source = catalog::kernel_source(typed).unwrap_or(typed);
        if let Some(kernel) = present {
            // One of the user's own has no other source than its files.
            let same = kernel.source == source || kernel.registered.is_some() && typed == name;
            return match same {
                true if self.is_current(&kernel) => Ok(kernel),
                true => self.remake(kernel, operation).await,
                false => Err(taken("kernel", &name)),
            };
        }
        let parsed: KernelSource = source.parse().map_err(|error| unknown_kernel(typed, &error))?;
        let result = self.make_kernel(name, source, parsed, operation).await;
        if result.is_err() {
            self.undo(operation.id()).await;
        }
        result
    }

    /// Whether a kernel is one that this version makes, of what is there now. One whose files are not as they should be is
    /// not, either.
    pub(super) fn is_current(&self, kernel: &Kernel) -> bool {
        kernel.problem.is_none()
            && kernel::is_current(&self.context().layout.kernel(&kernel.id)).unwrap_or(false)
    }

    /// Makes a kernel anew that another version has made.
    pub(super) async fn remake_kernel(
        &self,
        kernel: Kernel,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let _turn = self.pulls.enter(&format!("kernel {}", kernel.name)).await;
        // Somebody else may have made it while we waited.
        if self.is_current(&kernel) {
            return Ok(kernel);
        }
        self.remake(kernel, operation).await
    }

    /// Puts a new bundle in the place of an old one: its VMs have it under its id. None of them can be started from the old
    /// one meanwhile, so that only those are in the way that run since before.
    async fn remake(&self, kernel: Kernel, operation: &Arc<Handle>) -> Result<Kernel, ApiError> {
        let what = format!("make the kernel '{}' anew", kernel.name);
        let (kernel, source) = source_of(&what, kernel)?;
        let vms = self.context().vms.list();
        if let Some(vm) = vms.iter().find(|vm| vm.spec.kernel == kernel.id && vm.state.is_alive()) {
            return Err(ApiError::new(ErrorKind::Conflict, format!("cannot {what}"))
                .because(format!("VM '{}' runs from it", vm.name))
                .fix(format!("`banger vm stop {}` first", vm.name)));
        }
        let place = self.context().layout.kernel(&kernel.id);
        // A name that goes at the next start, should this daemon end now.
        let fresh = self.context().layout.kernels().join(format!("{PARTIAL_PREFIX}{}", kernel.id));
        remove_files(&fresh).await?;
        let built = self.build_kernel(&what, source, &fresh, operation).await?;
        let result = self.replace(&what, &place, &fresh, kernel, built, operation).await;
        remove_files(&fresh).await?;
        result
    }

    /// Puts the bundle in `fresh` in the place of an old one, which is in `fresh` then.
    async fn replace(
        &self,
        what: &str,
        place: &Path,
        fresh: &Path,
        kernel: Kernel,
        built: KernelBundle,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let disk_usage = super::disk_usage(fresh);
        // An ELF file does not say its release; the guest did that looked at it.
        let release = if built.release.is_empty() { kernel.release } else { built.release };
        let kernel = Kernel { release, version: built.version, disk_usage, ..kernel };
        let row = kernel.clone();
        let remember = self.context().store(what, move |store| store.update_kernel(&row));
        let exchange =
            || publish::exchange(fresh, place).map_err(|error| failed(format!("cannot {what}"), &error));
        // An end in between leaves one that is not current, so that the next one to ask makes it anew: by its bundle, which
        // is of another recipe; or by its row, which has other files of the user's than there are.
        if kernel.registered.is_some() {
            exchange()?;
            FaultPoint::KernelExchanged.reach();
            remember.await?;
        } else {
            remember.await?;
            exchange()?;
        }
        Ok(kernel)
    }

    pub(super) async fn build_kernel(
        &self,
        what: &str,
        source: KernelSource,
        destination: &Path,
        operation: &Arc<Handle>,
    ) -> Result<KernelBundle, ApiError> {
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let (destination, mirror) = (destination.to_owned(), self.debian_options().mirror);
        let build = move || {
            let built = kernel::build(&source, &mirror, &destination, commands.as_ref(), work.as_ref());
            banger_host::give_back_memory();
            built
        };
        let built = blocking(what, build).await?;
        built.map_err(|error| work_failed(what, error.is_cancelled(), error.fix(), &error))
    }

    async fn make_kernel(
        &self,
        name: String,
        source: &str,
        parsed: KernelSource,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let what = format!("make the kernel '{name}'");
        let id = random::kernel_id();
        self.journal(operation, Step::MakeKernelDirectory(id.clone()), &what).await?;
        FaultPoint::PullJournaled.reach();
        let built = self.build_kernel(&what, parsed, &self.context().layout.kernel(&id), operation).await?;
        FaultPoint::PullPublished.reach();
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let kernel = Kernel {
            name,
            source: source.to_owned(),
            release: built.release,
            version: built.version,
            disk_usage: super::disk_usage(&self.context().layout.kernel(&id)),
            created_at: jiff::Timestamp::now(),
            registered: None,
            problem: None,
            id,
        };
        let (row, operation_id) = (kernel.clone(), operation.id().clone());
        self.context().store(&what, move |store| store.insert_kernel(&row, &operation_id)).await?;
        FaultPoint::PullSettled.reach();
        Ok(kernel)
    }

    /// Deletes a kernel that no VM uses, and no registered image.
    pub(crate) async fn delete_kernel(&self, name: &str) -> Result<(), ApiError> {
        let kernel = self.kernels().await?.into_iter().find(|kernel| kernel.is_called(name));
        let kernel = kernel.ok_or_else(|| ApiError::not_found("kernel", name))?;
        let id = kernel.id.clone();
        let what = format!("delete the kernel '{name}'");
        self.context()
            .store(&what, move |store| store.delete_kernel(&id))
            .await
            .map_err(|error| error.fix("delete those first, with `banger vm rm` and `banger image rm`"))?;
        crate::vm::remove_files(&self.context().layout.kernel(&kernel.id)).await
    }
}

/// Returns what a kernel is made of, and the kernel with its own files as they are now.
fn source_of(what: &str, kernel: Kernel) -> Result<(Kernel, KernelSource), ApiError> {
    let Some(files) = &kernel.registered else {
        let source = kernel.source.parse().map_err(|error| unknown_kernel(&kernel.source, &error))?;
        return Ok((kernel, source));
    };
    let now = |file: &RegisteredFile| {
        let again = "`banger image register` the files again, under the same name: VMs keep what they have";
        file_of(what, file.path.clone()).map_err(|error| error.fix(again))
    };
    let files = RegisteredKernel {
        kernel: now(&files.kernel)?,
        initrd: files.initrd.as_ref().map(now).transpose()?,
        features: files.features.clone(),
    };
    let source = KernelSource::from(&files);
    Ok((Kernel { registered: Some(files), problem: None, ..kernel }, source))
}

fn unknown_kernel(typed: &str, error: &dyn std::error::Error) -> ApiError {
    let kind = if typed.contains(':') { ErrorKind::Usage } else { ErrorKind::NotFound };
    ApiError::caused_by(kind, format!("there is no kernel named '{typed}'"), error)
        .fix("`banger kernel ls` shows those that are here; the catalog has 'debian'")
}
