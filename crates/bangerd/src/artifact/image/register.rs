//! Images that are files of the user's own, used where they are.

use std::path::Path;
use std::sync::Arc;

use banger_api::request::RegisterRequest;
use banger_core::work::Work as _;
use banger_types::guest::KernelFeature;
use banger_types::image::{FoundRoot, Image, ImageConfig, RegisteredFile, RegisteredRootfs};
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::{ApiError, ErrorKind, KernelId};

use crate::artifact::Artifacts;
use crate::artifact::files::{file_of, usage};
use crate::artifact::kernel::{NEEDED, another_name, judge, kernel_files, merged};
use crate::failure::cancelled;
use crate::fault::FaultPoint;
use crate::operation::{Handle, Part};
use crate::random;

/// A request whose files were looked at.
pub(crate) struct Registration {
    pub(crate) name: String,
    rootfs: RegisteredFile,
    kernel: Option<RegisteredKernel>,
}

impl Registration {
    /// Looks at a request before anything is done for it.
    pub(crate) fn of(request: RegisterRequest) -> Result<Self, ApiError> {
        let stem = request.rootfs.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        let name = request.name.or(stem).unwrap_or_default();
        let what = format!("register '{}'", request.rootfs.display());
        let refuse = |why: &str| Err(ApiError::new(ErrorKind::Usage, format!("cannot {what}")).because(why));
        if name.is_empty() || name.chars().any(char::is_control) {
            return refuse("an image needs a name without control characters");
        }
        if request.kernel.is_none() && request.initrd.is_some() {
            return refuse("an initramfs is of no use without the kernel whose modules are in it");
        }
        let kernel = request.kernel.map(|kernel| kernel_files(&what, kernel, request.initrd)).transpose()?;
        Ok(Self { name, rootfs: file_of(&what, request.rootfs)?, kernel })
    }
}

impl Artifacts {
    /// Registers files as an image, when a kernel has found a root file system in them: the one that comes with it, else the
    /// default one. If the name is another image's, it is a new version of it.
    pub(crate) async fn register_image(
        &self,
        registration: Registration,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let what = format!("register the image '{}'", registration.name);
        let _turn = self.turn(&format!("image {}", registration.name), operation).await?;
        let registered = self.check_and_keep(&what, registration, operation).await;
        if registered.is_err() {
            self.undo(operation.id()).await;
        }
        registered
    }

    async fn check_and_keep(
        &self,
        what: &str,
        registration: Registration,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let Registration { name, rootfs, kernel } = registration;
        let own = match kernel {
            None => None,
            Some(files) => Some(self.make_registered_kernel(what, &name, files, operation).await?),
        };
        let kernel = match &own {
            Some(kernel) => kernel.id.clone(),
            None => self.kernel(&self.settings()?.configuration.vm.kernel, operation).await?.id,
        };
        let found = self.look_at(what, &kernel, &rootfs.path, own.is_some(), operation).await?;
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let own = own.map(|kernel| Kernel {
            release: found.kernel_release.clone(),
            features: merged(&kernel.features, &found.features),
            ..kernel
        });
        let image = Image {
            id: random::image_id(),
            name,
            source: rootfs.path.display().to_string(),
            digest: None,
            size: rootfs.size,
            disk_usage: usage(&rootfs.path),
            created_at: jiff::Timestamp::now(),
            config: ImageConfig::default(),
            layers: Vec::new(),
            kernel: None,
            registered: Some(RegisteredRootfs {
                file: rootfs,
                found: found.root,
                kernel: own.as_ref().map(|kernel| kernel.id.clone()),
            }),
            problem: None,
        };
        FaultPoint::RegisterChecked.reach();
        self.remember_image(what, &image, own, operation).await.map_err(another_name)?;
        FaultPoint::RegisterSettled.reach();
        Ok(image)
    }

    /// Boots a guest from a kernel that looks for a root file system in a file.
    async fn look_at(
        &self,
        what: &str,
        kernel: &KernelId,
        rootfs: &Path,
        is_own_kernel: bool,
        operation: &Arc<Handle>,
    ) -> Result<Found, ApiError> {
        let (part, _give_up) = Part::of(operation);
        let stage = "image: let a kernel look at it";
        let answer = self.context().inspect(what, stage, kernel, rootfs, &part).await?;
        let refuse = |why: String| ApiError::new(ErrorKind::Failed, format!("cannot {what}")).because(why);
        let inspection = answer.map_err(|instead| {
            let error = refuse(format!("a VM that looks at it with this kernel {instead}"));
            if is_own_kernel { error.fix(NEEDED) } else { error }
        })?;
        if is_own_kernel {
            let warnings = judge(&inspection.kernel_release, &inspection.features).map_err(|why| {
                let error = refuse(why).fix(NEEDED);
                // One that sees no drive says so here.
                ApiError {
                    why: error.why.into_iter().chain(inspection.root.clone().err()).collect(),
                    ..error
                }
            })?;
            for warning in warnings {
                operation.warn(warning);
            }
        }
        let root = inspection.root.map_err(|why| {
            let error = refuse(format!("there is no root file system in '{}'", rootfs.display()));
            error.because(why).fix("`banger image pull tar:FILE` makes an image of any tree of files")
        })?;
        operation.log(&describe(&root));
        if root.unclean {
            operation.warn(format!(
                "'{}' was not unmounted in order: what its journal holds is not seen; mount and unmount it once",
                rootfs.display()
            ));
        }
        if root.init.is_none() {
            operation.warn(format!(
                "'{}' has neither an init nor a shell: banger's own init runs in its VMs",
                rootfs.display()
            ));
        }
        Ok(Found { root, kernel_release: inspection.kernel_release, features: inspection.features })
    }
}

/// What was found, and by which kernel.
struct Found {
    root: FoundRoot,
    kernel_release: String,
    features: Vec<KernelFeature>,
}

fn describe(root: &FoundRoot) -> String {
    let place = root.partition.map(|number| format!(" on partition {number}")).unwrap_or_default();
    let init = root.init.as_ref().map(|init| format!(", with {init}")).unwrap_or_default();
    let systemd = if root.systemd { " (systemd)" } else { "" };
    format!("found a root file system: {}{place}{init}{systemd}", root.file_system)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rootfs: &str) -> RegisterRequest {
        RegisterRequest { rootfs: rootfs.into(), kernel: None, initrd: None, name: None }
    }

    #[test]
    fn what_cannot_be_an_image_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("root.ext4");
        fs_err::write(&file, "x").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(Registration::of(request(file)).unwrap().name, "root");
        let why = |request| Registration::of(request).map(drop).unwrap_err().why.join("; ");
        assert!(why(request("root.ext4")).contains("relative"));
        assert!(why(request("/nowhere/root.ext4")).contains("No such file"));
        assert!(why(request(directory.path().to_str().unwrap())).contains("no regular file"));
        assert!(why(request("/dev/null")).contains("no regular file"));
        let initrd = RegisterRequest { initrd: Some(file.into()), ..request(file) };
        assert!(why(initrd).contains("without the kernel"));
        let nameless = RegisterRequest { name: Some(String::new()), ..request(file) };
        assert!(why(nameless).contains("needs a name"));
    }
}
