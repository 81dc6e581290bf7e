//! Deleting images and kernels: they are held first, so that nobody makes anything of them meanwhile.

use std::sync::Arc;

use banger_core::store::{Store, StoreError};
use banger_types::event::{Change, Gone};
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::vm::VmSpec;
use banger_types::{ApiError, ImageId, KernelId};

use super::{Artifacts, Hold};
use crate::failure::FromStore as _;
use crate::fault::FaultPoint;
use crate::vm::{blocking, remove_files};

/// An image or a kernel that is about to be deleted.
pub(crate) struct Deletion {
    /// What is done, as a clause.
    what: String,
    thing: Thing,
    /// Nobody makes anything of what goes.
    _held: Vec<Hold>,
}

enum Thing {
    Image(Box<Image>),
    Kernel(Box<Kernel>),
}

impl Deletion {
    /// Returns what is done, as a clause.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    fn check(&self, users: Vec<String>) -> Result<(), ApiError> {
        if users.is_empty() { Ok(()) } else { Err(self.refused(StoreError::InUse(users))) }
    }

    fn refused(&self, error: StoreError) -> ApiError {
        let is_in_use = matches!(error, StoreError::InUse(_));
        let error = ApiError::from_store(&self.what)(error);
        match self.thing {
            Thing::Image(_) if is_in_use => error.fix("delete those VMs first, with `banger vm rm`"),
            Thing::Kernel(_) if is_in_use => {
                error.fix("delete those first, with `banger vm rm` and `banger image rm`")
            }
            _ => error,
        }
    }
}

impl Artifacts {
    /// Makes ready to delete an image that no VM uses, with the kernel that was registered with it. Returns nothing if it
    /// is not there.
    pub(crate) async fn doom_image(&self, id: &ImageId, name: &str) -> Result<Option<Deletion>, ApiError> {
        let what = format!("delete the image '{name}'");
        let own = self.hold_for_deletion(&what, id.as_str())?;
        let Some(image) = self.images().await?.into_iter().find(|image| image.id == *id) else {
            return Ok(None);
        };
        let kernel = image.registered.as_ref().and_then(|registered| registered.kernel.as_ref());
        let kernel = kernel.map(|kernel| self.hold_for_deletion(&what, kernel.as_str())).transpose()?;
        let held = [Some(own), kernel].into_iter().flatten().collect();
        let deletion = Deletion { what, _held: held, thing: Thing::Image(Box::new(image)) };
        self.check_unused(&deletion, |spec| spec.image == *id)?;
        Ok(Some(deletion))
    }

    /// Makes ready to delete a kernel that neither a VM nor an image uses. Returns nothing if it is not there.
    pub(crate) async fn doom_kernel(&self, id: &KernelId, name: &str) -> Result<Option<Deletion>, ApiError> {
        let what = format!("delete the kernel '{name}'");
        let own = self.hold_for_deletion(&what, id.as_str())?;
        let Some(kernel) = self.kernels().await?.into_iter().find(|kernel| kernel.id == *id) else {
            return Ok(None);
        };
        let deletion = Deletion { what, _held: vec![own], thing: Thing::Kernel(Box::new(kernel)) };
        self.check_unused(&deletion, |spec| spec.kernel == *id)?;
        let is_its =
            |image: &Image| image.registered.as_ref().is_some_and(|files| files.kernel.as_ref() == Some(id));
        let images = self.images().await?.into_iter().filter(is_its);
        deletion.check(images.map(|image| image.name).collect())?;
        Ok(Some(deletion))
    }

    /// The database looks, too; but whoever asks should hear of it before anything is begun.
    fn check_unused(&self, deletion: &Deletion, uses: impl Fn(&VmSpec) -> bool) -> Result<(), ApiError> {
        let vms = self.context().vms.list().into_iter().filter(|vm| uses(&vm.spec));
        let mut users: Vec<_> = vms.map(|vm| vm.name.to_string()).collect();
        users.sort();
        deletion.check(users)
    }

    /// Deletes it. Files of the user's own stay.
    pub(crate) async fn delete(&self, deletion: &Deletion) -> Result<(), ApiError> {
        match &deletion.thing {
            Thing::Image(image) => self.delete_image(deletion, image).await,
            Thing::Kernel(kernel) => self.delete_kernel(deletion, kernel).await,
        }
    }

    async fn forget<T: Send + 'static>(
        &self,
        deletion: &Deletion,
        forget: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.context().store);
        let forgotten = blocking(&deletion.what, move || forget(store.as_ref())).await?;
        forgotten.map_err(|error| deletion.refused(error))
    }

    async fn delete_image(&self, deletion: &Deletion, image: &Image) -> Result<(), ApiError> {
        let id = image.id.clone();
        let kernel = self.forget(deletion, move |store| store.delete_image(&id)).await?;
        FaultPoint::ArtifactForgotten.reach();
        let gone = Gone { id: image.id.to_string(), name: image.name.clone() };
        self.context().tell(Change::ImageDeleted { gone });
        if let Some(kernel) = kernel {
            // One that came with an image has its name.
            let gone = Gone { id: kernel.to_string(), name: image.name.clone() };
            self.context().tell(Change::KernelDeleted { gone });
            remove_files(&self.context().layout.kernel(&kernel)).await?;
        }
        remove_files(&self.context().layout.image(&image.id)).await
    }

    async fn delete_kernel(&self, deletion: &Deletion, kernel: &Kernel) -> Result<(), ApiError> {
        let id = kernel.id.clone();
        self.forget(deletion, move |store| store.delete_kernel(&id)).await?;
        FaultPoint::ArtifactForgotten.reach();
        let gone = Gone { id: kernel.id.to_string(), name: kernel.name.clone() };
        self.context().tell(Change::KernelDeleted { gone });
        remove_files(&self.context().layout.kernel(&kernel.id)).await
    }
}
