//! Making kernels.

use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::work::Work as _;
use banger_image::kernel::{self, KernelSource};
use banger_types::kernel::Kernel;
use banger_types::{ApiError, ErrorKind};

use super::image::taken;
use super::{Artifacts, Named as _};
use crate::catalog;
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
        let source = catalog::kernel_source(typed).unwrap_or(typed);
        let parsed: KernelSource = source.parse().map_err(|error| unknown_kernel(typed, &error))?;
        let _turn = self.pulls.enter(&format!("kernel {name}")).await;
        if let Some(kernel) = self.kernels().await?.into_iter().find(|kernel| kernel.is_called(&name)) {
            return if kernel.source == source { Ok(kernel) } else { Err(taken("kernel", &name)) };
        }
        let result = self.make_kernel(name, source, parsed, operation).await;
        if result.is_err() {
            self.undo(operation.id()).await;
        }
        result
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
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let (destination, mirror) = (self.context().layout.kernel(&id), self.debian_options().mirror);
        let built = blocking(&what, move || {
            kernel::build(&parsed, &mirror, &destination, commands.as_ref(), work.as_ref())
        })
        .await?;
        let built = built.map_err(|error| work_failed(&what, error.is_cancelled(), error.fix(), &error))?;
        FaultPoint::PullPublished.reach();
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let kernel = Kernel {
            name,
            source: source.to_owned(),
            release: built.release,
            version: built.version,
            disk_usage: super::disk_usage(&self.context().layout.kernel(&id)),
            created_at: jiff::Timestamp::now(),
            id,
        };
        let (row, operation_id) = (kernel.clone(), operation.id().clone());
        self.context()
            .store(&what, move |store| {
                store.insert_kernel(&row)?;
                store.settle(&operation_id)
            })
            .await?;
        FaultPoint::PullSettled.reach();
        Ok(kernel)
    }

    /// Deletes a kernel that no VM uses.
    pub(crate) async fn delete_kernel(&self, name: &str) -> Result<(), ApiError> {
        let kernel = self.kernels().await?.into_iter().find(|kernel| kernel.is_called(name));
        let kernel = kernel.ok_or_else(|| ApiError::not_found("kernel", name))?;
        let id = kernel.id.clone();
        let what = format!("delete the kernel '{name}'");
        self.context()
            .store(&what, move |store| store.delete_kernel(&id))
            .await
            .map_err(|error| error.fix("delete those VMs first, with `banger vm rm`"))?;
        crate::vm::remove_files(&self.context().layout.kernel(&kernel.id)).await
    }
}

fn unknown_kernel(typed: &str, error: &dyn std::error::Error) -> ApiError {
    let kind = if typed.contains(':') { ErrorKind::Usage } else { ErrorKind::NotFound };
    ApiError::caused_by(kind, format!("there is no kernel named '{typed}'"), error)
        .fix("`banger kernel ls` shows those that are here; the catalog has 'debian'")
}
