//! Kernels that are files of the user's own, used where they are.

use std::path::PathBuf;
use std::sync::Arc;

use banger_api::request::KernelRegisterRequest;
use banger_core::journal::Step;
use banger_core::work::Work as _;
use banger_image::kernel::Ingredients;
use banger_types::event::Change;
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::{ApiError, ErrorKind};

use crate::artifact::files::file_of;
use crate::artifact::{Artifacts, disk_usage};
use crate::failure::cancelled;
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::random;

/// A request whose files were looked at.
pub(crate) struct KernelRegistration {
    pub(crate) name: String,
    files: RegisteredKernel,
}

impl KernelRegistration {
    /// Looks at a request before anything is done for it.
    pub(crate) fn of(request: KernelRegisterRequest) -> Result<Self, ApiError> {
        let of_file = request.kernel.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = request.name.or(of_file).unwrap_or_default();
        let what = format!("register '{}'", request.kernel.display());
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(ApiError::new(ErrorKind::Usage, format!("cannot {what}"))
                .because("a kernel needs a name without control characters"));
        }
        Ok(Self { name, files: kernel_files(&what, request.kernel, request.initrd)? })
    }
}

/// Looks at files that somebody wants to register.
pub(in crate::artifact) fn kernel_files(
    what: &str,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
) -> Result<RegisteredKernel, ApiError> {
    let initrd = initrd.map(|initrd| file_of(what, initrd)).transpose()?;
    Ok(RegisteredKernel { kernel: file_of(what, kernel)?, initrd })
}

impl Artifacts {
    /// Registers files as a kernel, once a guest has booted from them. If the name is another one's of the user's own, it is a
    /// new version of it.
    pub(crate) async fn register_kernel(
        &self,
        registration: KernelRegistration,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let KernelRegistration { name, files } = registration;
        let what = format!("register the kernel '{name}'");
        let _turn = self.turn(&format!("kernel {name}"), operation).await?;
        let registered = self.boot_and_keep(&what, &name, files, operation).await;
        if registered.is_err() {
            self.undo(operation.id()).await;
        }
        registered
    }

    async fn boot_and_keep(
        &self,
        what: &str,
        name: &str,
        files: RegisteredKernel,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let kernel = self.make_registered_kernel(what, name, files, operation).await?;
        let kernel = self.with_features(what, kernel, operation).await?;
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        FaultPoint::RegisterChecked.reach();
        let (row, id) = (kernel.clone(), operation.id().clone());
        let kept = self.context().store(what, move |store| store.insert_kernel(&row, &id)).await;
        kept.map_err(another_name)?;
        self.context().tell(Change::Kernel { kernel: Box::new(kernel.clone()) });
        FaultPoint::RegisterSettled.reach();
        Ok(kernel)
    }

    /// Makes the bundle of a kernel of the user's own.
    pub(in crate::artifact) async fn make_registered_kernel(
        &self,
        what: &str,
        name: &str,
        files: RegisteredKernel,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let id = random::kernel_id();
        self.journal(operation, Step::MakeKernelDirectory(id.clone()), what).await?;
        let place = self.context().layout.kernel(&id);
        let built = self.build_kernel(what, Ingredients::from(&files), &place, operation).await?;
        Ok(Kernel {
            name: name.to_owned(),
            source: files.kernel.path.display().to_string(),
            release: built.release,
            version: built.version,
            disk_usage: disk_usage(&place),
            created_at: jiff::Timestamp::now(),
            features: built.features,
            registered: Some(files),
            problem: None,
            id,
        })
    }
}

/// Says what to do about a name that a kernel has which is not the user's own.
pub(in crate::artifact) fn another_name(error: ApiError) -> ApiError {
    if error.kind == ErrorKind::Conflict {
        error.fix("choose another name with --name: there is a kernel of that name")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_kernel_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("vmlinuz-6.1.0");
        fs_err::write(&file, "x").unwrap();
        let request = |kernel: PathBuf| KernelRegisterRequest { kernel, initrd: None, name: None };
        assert_eq!(KernelRegistration::of(request(file.clone())).unwrap().name, "vmlinuz-6.1.0");
        let why = |request| KernelRegistration::of(request).map(drop).unwrap_err().why.join("; ");
        assert!(why(request("vmlinuz".into())).contains("relative"));
        assert!(why(request(directory.path().to_owned())).contains("no regular file"));
        let initrd =
            KernelRegisterRequest { initrd: Some("/nowhere/initrd".into()), ..request(file.clone()) };
        assert!(why(initrd).contains("No such file"));
        let nameless = KernelRegisterRequest { name: Some(String::new()), ..request(file) };
        assert!(why(nameless).contains("needs a name"));
    }
}
