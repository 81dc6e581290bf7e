//! Making images.

mod docker;
mod register;
mod registry;

use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::store::Store;
use banger_core::work::Work as _;
use banger_image::source::debian::{DebianMirror, DebianOptions};
use banger_image::source::{self, BuildError, BuildOptions, BuiltRootfs, Content};
use banger_types::digest::Digest;
use banger_types::image::{Image, ImageConfig};
use banger_types::kernel::Kernel;
use banger_types::source::{ImageSource, ImageSourceError};
use banger_types::{ApiError, ErrorKind, ImageId};

pub(crate) use self::register::Registration;
use self::registry::Remote;
use super::{Artifacts, Named as _};
use crate::catalog;
use crate::failure::{cancelled, work_failed};
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::random;
use crate::vm::blocking;

/// What a source is called that was somebody's standard input.
const STANDARD_INPUT: &str = "tar:-";

/// Which image of a name is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One that is here, if there is one.
    Any,
    /// What its source has now.
    Newest,
}

impl Artifacts {
    /// Makes an image and gives it a name: the one asked for, else what was typed. If that is another's, it is a new
    /// version of it, unless it has the same content.
    pub(crate) async fn pull_image(
        &self,
        typed: &str,
        name: Option<&str>,
        wanted: Wanted,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let name = name.unwrap_or(typed).to_owned();
        let source = source_of(catalog::image_source(typed).unwrap_or(typed));
        let source = source.map_err(|error| unknown_image(typed, &error))?;
        let _turn = self.pulls.enter(&format!("image {name}")).await;
        let present = self.images().await?.into_iter().find(|image| image.is_called(&name));
        // Somebody else may have made it while we waited.
        if let (Some(image), Wanted::Any) = (&present, wanted) {
            return Ok(image.clone());
        }
        let what = format!("make the image '{name}'");
        let origin = self.origin(&what, source, operation).await?;
        let is_same = |image: &Image, digest: Digest| {
            image.digest.as_deref() == Some(&*digest.to_string()) && image.source == origin.source
        };
        let nothing_newer = || operation.log("it is here, and its source has nothing newer");
        if let (Some(image), Some(digest)) = (&present, origin.digest())
            && is_same(image, digest)
        {
            nothing_newer();
            return Ok(image.clone());
        }
        let made = self.make_image(&what, name, &origin, operation).await;
        match (made, present) {
            (Ok(made), Some(present)) if is_same(&present, made.digest) => {
                nothing_newer();
                self.undo(operation.id()).await;
                Ok(present)
            }
            (Ok(made), _) => {
                let kept = self.keep_image(&what, made, &origin, operation).await;
                if kept.is_err() {
                    self.undo(operation.id()).await;
                }
                kept
            }
            (Err(error), _) => {
                self.undo(operation.id()).await;
                Err(error)
            }
        }
    }

    /// Finds out what a source has, as far as that is known before it is got.
    async fn origin(
        &self,
        what: &str,
        source: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<Origin, ApiError> {
        let text = if is_pipe(&source) { STANDARD_INPUT.to_owned() } else { source.to_string() };
        let found = match source {
            ImageSource::Docker(reference) => {
                Found::Remote(Box::new(self.look_up(what, &reference, operation).await?))
            }
            other => Found::Here(other),
        };
        Ok(Origin { source: text, found })
    }

    /// Makes the files of an image.
    async fn make_image(
        &self,
        what: &str,
        name: String,
        origin: &Origin,
        operation: &Arc<Handle>,
    ) -> Result<Made, ApiError> {
        let id = random::image_id();
        self.journal(operation, Step::MakeImageDirectory(id.clone()), what).await?;
        FaultPoint::PullJournaled.reach();
        let BuiltRootfs { size, digest, config } = match &origin.found {
            Found::Remote(remote) => self.build_remote(what, &id, remote, operation).await?,
            Found::Here(source) => self.build_local(what, &id, source.clone(), operation).await?,
        };
        FaultPoint::PullPublished.reach();
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        Ok(Made { id, name, size, digest, config })
    }

    /// Remembers an image whose files are there.
    async fn keep_image(
        &self,
        what: &str,
        made: Made,
        origin: &Origin,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let Made { id, name, size, digest, config } = made;
        let image = Image {
            name,
            source: origin.source.clone(),
            digest: Some(digest.to_string()),
            size,
            disk_usage: super::disk_usage(&self.context().layout.image(&id)),
            created_at: jiff::Timestamp::now(),
            config,
            registered: None,
            problem: None,
            id,
        };
        self.remember_image(what, &image, None, operation).await?;
        FaultPoint::PullSettled.reach();
        Ok(image)
    }

    /// Remembers an image, with the kernel that came with it, and settles the operation. Logs what became of one that had
    /// its name.
    async fn remember_image(
        &self,
        what: &str,
        image: &Image,
        kernel: Option<Kernel>,
        operation: &Arc<Handle>,
    ) -> Result<(), ApiError> {
        let (row, id) = (image.clone(), operation.id().clone());
        let insert = move |store: &dyn Store| store.insert_image(&row, kernel.as_ref(), &id);
        if let Some(before) = self.context().store(what, insert).await? {
            operation.log(&format!("what was called '{}' is '{}' from now on", image.name, before.name));
        }
        Ok(())
    }

    /// Makes the files of an image of what this host has.
    async fn build_local(
        &self,
        what: &str,
        id: &ImageId,
        source: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<BuiltRootfs, ApiError> {
        let failed = |error: BuildError| work_failed(what, error.is_cancelled(), error.fix(), &error);
        let content = if let ImageSource::DockerDaemon(reference) = &source {
            self.take_from_docker(what, reference, operation).await?
        } else {
            let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
            let options = self.build_options();
            let content =
                blocking(what, move || Content::of(&source, &options, commands.as_ref(), work.as_ref()));
            content.await?.map_err(failed)?
        };
        self.write_rootfs(what, id, content, operation).await?.map_err(failed)
    }

    async fn write_rootfs(
        &self,
        what: &str,
        id: &ImageId,
        content: Content,
        operation: &Arc<Handle>,
    ) -> Result<Result<BuiltRootfs, BuildError>, ApiError> {
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let (destination, options) = (self.context().layout.image(id), self.build_options());
        blocking(what, move || {
            let built = source::build(&content, &options, &destination, commands.as_ref(), work.as_ref());
            drop(content);
            banger_host::give_back_memory();
            built
        })
        .await
    }

    fn build_options(&self) -> BuildOptions {
        let image = &self.configuration.image;
        BuildOptions {
            debian: self.debian_options(),
            largest: image.largest.0 << 20,
            most_entries: image.most_entries,
            // What is there for a moment is on the same disk as what becomes of it, and is swept with it.
            scratch: self.context().layout.images(),
        }
    }

    pub(super) fn debian_options(&self) -> DebianOptions {
        let mirror = match &self.configuration.debian.mirror {
            None => DebianMirror::default(),
            Some(archive) => DebianMirror { archive: archive.clone(), ..DebianMirror::default() },
        };
        DebianOptions { mirror, source_date_epoch: None }
    }

    pub(super) async fn journal(
        &self,
        operation: &Arc<Handle>,
        step: Step,
        what: &str,
    ) -> Result<(), ApiError> {
        let id = operation.id().clone();
        self.context().store(what, move |store| store.journal(&id, &step)).await
    }

    /// Deletes an image that no VM uses, and the kernel that was registered with it. Files of the user's own stay.
    pub(crate) async fn delete_image(&self, name: &str) -> Result<(), ApiError> {
        let image = self.images().await?.into_iter().find(|image| image.is_called(name));
        let image = image.ok_or_else(|| ApiError::not_found("image", name))?;
        let id = image.id.clone();
        let what = format!("delete the image '{name}'");
        let kernel = self
            .context()
            .store(&what, move |store| store.delete_image(&id))
            .await
            .map_err(|error| error.fix("delete those VMs first, with `banger vm rm`"))?;
        if let Some(kernel) = kernel {
            crate::vm::remove_files(&self.context().layout.kernel(&kernel)).await?;
        }
        crate::vm::remove_files(&self.context().layout.image(&image.id)).await
    }
}

/// Whether a source is a pipe, which is gone afterwards.
fn is_pipe(source: &ImageSource) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let path = source.path().and_then(|path| fs_err::symlink_metadata(path).ok());
    path.is_some_and(|metadata| metadata.file_type().is_fifo())
}

/// Where an image comes from.
struct Origin {
    source: String,
    found: Found,
}

/// What is known of what a source has.
enum Found {
    /// What a registry has.
    Remote(Box<Remote>),
    /// What this host has, or makes.
    Here(ImageSource),
}

impl Origin {
    /// Returns the digest that the image will have, if that is known.
    const fn digest(&self) -> Option<Digest> {
        match &self.found {
            Found::Remote(remote) => Some(remote.resolved.digest),
            Found::Here(_) => None,
        }
    }
}

/// An image whose files are there, and which nobody knows of yet.
struct Made {
    id: ImageId,
    name: String,
    size: u64,
    digest: Digest,
    config: ImageConfig,
}

/// Reads a source: what has no transport is the name of an image in a registry.
fn source_of(text: &str) -> Result<ImageSource, ImageSourceError> {
    if ImageSource::has_transport(text) { text.parse() } else { Ok(ImageSource::Docker(text.parse()?)) }
}

fn unknown_image(typed: &str, error: &dyn std::error::Error) -> ApiError {
    let looks_like_a_source = typed.contains(':');
    let kind = if looks_like_a_source { ErrorKind::Usage } else { ErrorKind::NotFound };
    ApiError::caused_by(kind, format!("there is no image named '{typed}'"), error)
        .fix("`banger image ls` shows those that are here; the catalog has 'debian'")
}

pub(super) fn taken(thing: &str, name: &str) -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("cannot make the {thing} '{name}'"))
        .because("the name is taken by one from another source")
        .fix(format!("choose another with --name, or `banger {thing} rm {name}`"))
}
