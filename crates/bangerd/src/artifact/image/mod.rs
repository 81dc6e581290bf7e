//! Making images.

use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::work::Work as _;
use banger_image::source::debian::{DebianMirror, DebianOptions};
use banger_image::source::{self, BuiltRootfs, ImageSource};
use banger_types::image::Image;
use banger_types::{ApiError, ErrorKind, ImageId};

use super::{Artifacts, Named as _};
use crate::catalog;
use crate::failure::{cancelled, work_failed};
use crate::fault::FaultPoint;
use crate::operation::Handle;
use crate::random;
use crate::vm::blocking;

impl Artifacts {
    /// Makes an image and gives it a name: the one asked for, else what was typed.
    pub(crate) async fn pull_image(
        &self,
        typed: &str,
        name: Option<&str>,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let name = name.unwrap_or(typed).to_owned();
        let source = catalog::image_source(typed).unwrap_or(typed);
        let parsed: ImageSource = source.parse().map_err(|error| unknown_image(typed, &error))?;
        let _turn = self.pulls.enter(&format!("image {name}")).await;
        if let Some(image) = self.images().await?.into_iter().find(|image| image.is_called(&name)) {
            // Somebody else has made it while we waited, or it was there.
            return if image.source == source { Ok(image) } else { Err(taken("image", &name)) };
        }
        let result = self.make_image(name, source, parsed, operation).await;
        if result.is_err() {
            self.undo(operation.id()).await;
        }
        result
    }

    async fn make_image(
        &self,
        name: String,
        source: &str,
        parsed: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let what = format!("make the image '{name}'");
        let id = random::image_id();
        self.journal(operation, Step::MakeImageDirectory(id.clone()), &what).await?;
        FaultPoint::PullJournaled.reach();
        let built = self.build_rootfs(&what, &id, parsed, operation).await?;
        FaultPoint::PullPublished.reach();
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        let image = Image {
            name,
            source: source.to_owned(),
            digest: built.digest,
            size: built.size,
            disk_usage: super::disk_usage(&self.context().layout.image(&id)),
            created_at: jiff::Timestamp::now(),
            config: built.config,
            id,
        };
        let (row, operation_id) = (image.clone(), operation.id().clone());
        self.context()
            .store(&what, move |store| {
                store.insert_image(&row)?;
                store.settle(&operation_id)
            })
            .await?;
        FaultPoint::PullSettled.reach();
        Ok(image)
    }

    async fn build_rootfs(
        &self,
        what: &str,
        id: &ImageId,
        parsed: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<BuiltRootfs, ApiError> {
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let (destination, options) = (self.context().layout.image(id), self.debian_options());
        let built = blocking(what, move || {
            source::build(&parsed, &options, &destination, commands.as_ref(), work.as_ref())
        })
        .await?;
        built.map_err(|error| work_failed(what, error.is_cancelled(), error.fix(), &error))
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

    /// Deletes an image that no VM uses.
    pub(crate) async fn delete_image(&self, name: &str) -> Result<(), ApiError> {
        let image = self.images().await?.into_iter().find(|image| image.is_called(name));
        let image = image.ok_or_else(|| ApiError::not_found("image", name))?;
        let id = image.id.clone();
        let what = format!("delete the image '{name}'");
        self.context()
            .store(&what, move |store| store.delete_image(&id))
            .await
            .map_err(|error| error.fix("delete those VMs first, with `banger vm rm`"))?;
        crate::vm::remove_files(&self.context().layout.image(&image.id)).await
    }
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
