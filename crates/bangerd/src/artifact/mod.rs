//! What VMs are made from and run by: images and kernels, found by name or made from their source, and engines.

mod catalog;
mod debian;
mod deletion;
mod engine;
mod files;
mod held;
mod image;
mod kernel;
mod layers;
mod single_flight;
mod tried;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_configuration::{Configuration, Effective};
use banger_core::journal::Step;
use banger_core::store::Store;
use banger_core::work::Work as _;
use banger_image::source;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::{ApiError, OperationId, Refusal};
use futures_util::FutureExt as _;
use tokio::sync::OwnedRwLockWriteGuard;

pub(crate) use self::deletion::Deletion;
use self::held::Held;
pub(crate) use self::held::Hold;
use self::layers::Layers;
use self::single_flight::{SingleFlight, Turn};
use crate::catalog::Catalogs;
use crate::failure::cancelled;
use crate::operation::Handle;
use crate::vm::{Context, blocking, remove_files};
pub(crate) use files::{FileProblem, problem as file_problem};
pub(crate) use image::{Registration, Wanted, is_read_once};
pub(crate) use kernel::KernelRegistration;
pub(crate) use layers::{stored as stored_layers, unpacked as unpacked_layers};

/// Everything that VMs are made from.
pub(crate) struct Artifacts {
    context: Arc<Context>,
    /// The same thing is made once, however many ask for it at the same time.
    pulls: SingleFlight,
    /// What something is being made from.
    held: Arc<Held>,
    layers: Layers,
    catalogs: Catalogs,
    /// Operations that have ended, and could not be undone then.
    not_undone: Mutex<Vec<OperationId>>,
}

impl Artifacts {
    /// `catalog` is the user's catalog file.
    pub(crate) fn new(
        context: Arc<Context>,
        configuration: &Configuration,
        catalog: Option<PathBuf>,
    ) -> Self {
        let layers = Layers::new(&context.layout.layers());
        let catalogs = Catalogs {
            file: catalog,
            lists: configuration.catalog.clone(),
            kept: context.layout.catalogs(),
            downloading: tokio::sync::Mutex::default(),
        };
        Self {
            context,
            pulls: SingleFlight::default(),
            held: Arc::default(),
            layers,
            catalogs,
            not_undone: Mutex::default(),
        }
    }

    /// Waits until no other operation makes the thing of this name, or this one is cancelled.
    async fn turn(&self, name: &str, operation: &Handle) -> Result<Turn, ApiError> {
        let mut entering = pin!(self.pulls.enter(name));
        if let Some(turn) = entering.as_mut().now_or_never() {
            return Ok(turn);
        }
        operation.stage("wait for another operation that makes the same");
        tokio::select! {
            turn = entering => Ok(turn),
            () = operation.cancelled() => Err(cancelled(format!("another operation still works on '{name}'"))),
        }
    }

    /// Keeps everybody from making anything, if nobody does now.
    pub(crate) fn try_alone(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        self.pulls.try_alone()
    }

    /// Keeps an image or a kernel from being deleted, for as long as what is returned is there. Returns nothing for one that
    /// is not there any more.
    pub(crate) async fn hold(&self, id: &str) -> Result<Option<Hold>, ApiError> {
        let Some(hold) = self.held.hold(id) else { return Ok(None) };
        // It may have gone before.
        let id = id.to_owned();
        let look = move |store: &dyn Store| {
            Ok(store.images()?.iter().any(|image| image.id.as_str() == id)
                || store.kernels()?.iter().any(|kernel| kernel.id.as_str() == id))
        };
        let is_there = self.context.store("look for what is needed", look).await?;
        Ok(is_there.then_some(hold))
    }

    /// Keeps everybody from using an image or a kernel that is to be deleted. Fails if somebody does.
    fn hold_for_deletion(&self, what: &str, id: &str) -> Result<Hold, ApiError> {
        self.held.delete(id).map_err(|refusal| {
            let why = match refusal {
                Refusal::Deleting => "it is being deleted",
                _ => "something is being made from it now",
            };
            ApiError::refused(refusal, format!("cannot {what}"))
                .because(why)
                .fix("`banger op ls` shows what; try again when it has ended")
        })
    }

    /// Returns whether something is being made from an image or a kernel now.
    pub(crate) fn is_held(&self, id: &str) -> bool {
        self.held.is_held(id)
    }

    pub(crate) const fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Returns the settings that something is made by.
    pub(crate) fn settings(&self) -> Result<Arc<Effective>, ApiError> {
        self.context.settings.current()
    }

    /// Returns the image of this name or id, as it is remembered.
    pub(crate) async fn image_called(&self, name: &str) -> Result<Image, ApiError> {
        let found = self.images().await?.into_iter().find(|image| image.is_called(name));
        found.ok_or_else(|| ApiError::not_found("image", name))
    }

    /// Returns the kernel of this name or id, as it is remembered.
    pub(crate) async fn kernel_called(&self, name: &str) -> Result<Kernel, ApiError> {
        let found = self.kernels().await?.into_iter().find(|kernel| kernel.is_called(name));
        found.ok_or_else(|| ApiError::not_found("kernel", name))
    }

    /// Returns all images, as they are remembered.
    pub(crate) async fn images(&self) -> Result<Vec<Image>, ApiError> {
        self.context.store("list images", |store| store.images()).await
    }

    /// Returns all images, with what is wrong with files of the user's own.
    pub(crate) async fn shown_images(&self) -> Result<Vec<Image>, ApiError> {
        let look = |store: &dyn Store| Ok(store.images()?.into_iter().map(files::look_at_image).collect());
        self.context.store("list images", look).await
    }

    /// Returns the image of this name, with what is wrong with a file of the user's own.
    pub(crate) async fn shown_image(&self, name: &str) -> Result<Option<Image>, ApiError> {
        let name = name.to_owned();
        let look = move |store: &dyn Store| {
            Ok(store.images()?.into_iter().find(|image| image.is_called(&name)).map(files::look_at_image))
        };
        self.context.store("look for an image", look).await
    }

    /// Returns all kernels, as they are remembered.
    pub(crate) async fn kernels(&self) -> Result<Vec<Kernel>, ApiError> {
        self.context.store("list kernels", |store| store.kernels()).await
    }

    /// Returns the kernel of this name, with what is wrong with a file of the user's own.
    pub(crate) async fn shown_kernel(&self, name: &str) -> Result<Option<Kernel>, ApiError> {
        let name = name.to_owned();
        let look = move |store: &dyn Store| {
            Ok(store.kernels()?.into_iter().find(|kernel| kernel.is_called(&name)).map(files::look_at_kernel))
        };
        self.context.store("look for a kernel", look).await
    }

    /// Returns all kernels, with what is wrong with files of the user's own.
    pub(crate) async fn shown_kernels(&self) -> Result<Vec<Kernel>, ApiError> {
        let look = |store: &dyn Store| Ok(store.kernels()?.into_iter().map(files::look_at_kernel).collect());
        self.context.store("list kernels", look).await
    }

    /// Returns the image of this name, made first if it is not there.
    pub(crate) async fn image(&self, name: &str, operation: &Arc<Handle>) -> Result<Image, ApiError> {
        if let Some(image) = self.images().await?.into_iter().find(|image| image.is_called(name)) {
            return Ok(image);
        }
        self.pull_image(name, None, Wanted::Any, operation).await
    }

    /// Returns the kernel of this name, made first if it is not there, or was made by a version that made them otherwise.
    pub(crate) async fn kernel(&self, name: &str, operation: &Arc<Handle>) -> Result<Kernel, ApiError> {
        match self.shown_kernel(name).await? {
            Some(kernel) if self.is_current(&kernel) => Ok(kernel),
            Some(kernel) => self.remake_kernel(kernel, operation).await,
            None => self.pull_kernel(name, None, operation).await,
        }
    }

    /// Undoes what an operation had begun, the last step first. What cannot be undone now, on a full disk, stays in the
    /// journal: it is undone before the next thing is made, or at the next start of the daemon.
    pub(crate) async fn undo(&self, operation: &OperationId) {
        if let Err(error) = self.try_undo(operation).await {
            tracing::error!(%operation, %error, why = ?error.why, "cannot undo");
            self.not_undone().push(operation.clone());
        }
    }

    fn not_undone(&self) -> MutexGuard<'_, Vec<OperationId>> {
        self.not_undone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Undoes what could not be undone before.
    pub(crate) async fn undo_the_rest(&self) {
        let left = std::mem::take(&mut *self.not_undone());
        for operation in left {
            self.undo(&operation).await;
        }
    }

    async fn try_undo(&self, operation: &OperationId) -> Result<(), ApiError> {
        let id = operation.clone();
        let steps = self.context.store("read the journal", move |store| store.journaled(&id)).await?;
        for step in steps {
            self.undo_step(step).await?;
        }
        let id = operation.clone();
        self.context.store("settle the journal", move |store| store.settle(&id)).await
    }

    async fn undo_step(&self, step: Step) -> Result<(), ApiError> {
        let layout = &self.context.layout;
        match step {
            Step::ReserveVm(id) => self.context.store("forget a VM", move |store| store.delete_vm(&id)).await,
            Step::MakeVmDirectory(id) => remove_files(&layout.vm(&id)).await,
            Step::MakeImageDirectory(id) => remove_files(&layout.image(&id)).await,
            Step::BuildDockerfile(id) => {
                let commands = Arc::clone(&self.context.commands);
                blocking("forget what was built", move || source::forget_built(&id, commands.as_ref())).await
            }
            Step::MakeKernelDirectory(id) => remove_files(&layout.kernel(&id)).await,
        }
    }
}

/// Things that are found by name or id.
trait Named {
    /// Returns whether users mean this by `name`.
    fn is_called(&self, name: &str) -> bool;
}

impl Named for Image {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.id.as_str() == name
    }
}

impl Named for Kernel {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.id.as_str() == name
    }
}

/// Returns the blocks that the files directly in `directory` take, bytes.
pub(crate) fn disk_usage(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs_err::read_dir(directory) else { return 0 };
    // st_blocks counts 512 bytes, whatever the file system's blocks are (inode(7)).
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum()
}
