//! Kernels that are not as this version makes them, or whose files are other ones now: made anew in their place.

use std::path::Path;
use std::sync::Arc;

use banger_core::work::Work as _;
use banger_image::kernel::{self, Ingredients, KernelBundle};
use banger_image::publish::{self, PARTIAL_PREFIX};
use banger_types::event::Change;
use banger_types::image::RegisteredFile;
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::{ApiError, ErrorKind};

use super::features::NeedsAGuest as _;
use super::unknown_kernel;
use crate::artifact::files::file_of;
use crate::artifact::{Artifacts, disk_usage};
use crate::failure::{cancelled, failed};
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::vm::remove_files;

impl Artifacts {
    /// Returns a kernel that is as this version makes them, made anew where it is not.
    pub(super) async fn current(&self, kernel: Kernel, operation: &Arc<Handle>) -> Result<Kernel, ApiError> {
        if self.is_current(&kernel) { Ok(kernel) } else { self.remake(kernel, operation).await }
    }

    /// Whether a kernel is one that this version makes, of what is there now. One whose files are not as they should be is
    /// not, either, nor is one of which nothing is known.
    pub(in crate::artifact) fn is_current(&self, kernel: &Kernel) -> bool {
        kernel.problem.is_none()
            && !kernel.features.is_empty()
            && kernel::is_current(&self.context().layout.kernel(&kernel.id)).unwrap_or(false)
    }

    /// Makes a kernel anew that another version has made.
    pub(in crate::artifact) async fn remake_kernel(
        &self,
        kernel: Kernel,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let _turn = self.turn(&format!("kernel {}", kernel.name), operation).await?;
        // Somebody else may have made it while we waited.
        let kernel = self.shown_kernel(kernel.id.as_str()).await?.unwrap_or(kernel);
        self.current(kernel, operation).await
    }

    /// Puts a new bundle in the place of an old one: its VMs have it under its id. None of them can be started from the old
    /// one meanwhile, so that only those are in the way that run since before.
    async fn remake(&self, kernel: Kernel, operation: &Arc<Handle>) -> Result<Kernel, ApiError> {
        let what = format!("make the kernel '{}' anew", kernel.name);
        let Some(_held) = self.hold(kernel.id.as_str()).await? else {
            return Err(ApiError::not_found("kernel", &kernel.name).because("it was just deleted"));
        };
        let kernel = with_files_of_now(&what, kernel)?;
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
        let (ingredients, turn) = if let Some(files) = &kernel.registered {
            (Ingredients::from(files), None)
        } else {
            let source = kernel.source.parse().map_err(|error| unknown_kernel(&kernel.source, &error))?;
            let (ingredients, turn) = self.ingredients(&what, &source, operation).await?;
            (ingredients, Some(turn))
        };
        let built = self.build_kernel(&what, ingredients, &fresh, operation).await?;
        drop(turn);
        let by_configuration = built.features.clone();
        let result = self.replace(&what, &place, &fresh, kernel, built, operation).await;
        remove_files(&fresh).await?;
        let kernel = Kernel { features: by_configuration, ..result? };
        if !kernel.needs_a_guest() {
            return Ok(kernel);
        }
        let kernel = self.with_features(&what, kernel, operation).await?;
        self.remember_kernel(&what, &kernel).await?;
        Ok(kernel)
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
        let disk_usage = disk_usage(fresh);
        // What a guest will say of it is not known yet, and one of which nothing is known is not current.
        let features = if kernel.needs_a_guest() { Vec::new() } else { built.features };
        // An ELF file does not say its release; the guest did that looked at it.
        let release = if built.release.is_empty() { kernel.release } else { built.release };
        let kernel = Kernel { release, version: built.version, disk_usage, features, ..kernel };
        let remember = self.remember_kernel(what, &kernel);
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

    async fn remember_kernel(&self, what: &str, kernel: &Kernel) -> Result<(), ApiError> {
        let row = kernel.clone();
        self.context().store(what, move |store| store.update_kernel(&row)).await?;
        self.context().tell(Change::Kernel { kernel: Box::new(kernel.clone()) });
        Ok(())
    }
}

/// Returns a kernel with its own files as they are now.
fn with_files_of_now(what: &str, kernel: Kernel) -> Result<Kernel, ApiError> {
    let Some(files) = &kernel.registered else { return Ok(kernel) };
    let now = |file: &RegisteredFile| {
        let again = "`banger image register` or `banger kernel register` the files again, under the same name: VMs keep what they \
                     have";
        file_of(what, file.path.clone()).map_err(|error| error.fix(again))
    };
    let files =
        RegisteredKernel { kernel: now(&files.kernel)?, initrd: files.initrd.as_ref().map(now).transpose()? };
    Ok(Kernel { registered: Some(files), problem: None, ..kernel })
}
