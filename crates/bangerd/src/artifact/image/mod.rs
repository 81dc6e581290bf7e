//! Making images.

mod docker;
mod register;
mod registry;

use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::store::Store;
use banger_core::work::Work as _;
use banger_image::publish::Staging;
use banger_image::source::{self, BuildError, BuildOptions, BuiltRootfs, Content};
use banger_types::digest::Digest;
use banger_types::event::Change;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::source::{ImageSource, ImageSourceError};
use banger_types::{ApiError, ErrorKind, ImageId, Refusal};

pub(crate) use self::register::Registration;
use self::registry::Remote;
use super::{Artifacts, Named as _};
use crate::artifact::tried::Tried;
use crate::catalog::{self, Entry};
use crate::failure::{cancelled, failed, work_failed};
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
        let _turn = self.turn(&format!("image {name}"), operation).await?;
        let present = self.images().await?.into_iter().find(|image| image.is_called(&name));
        let held = match &present {
            Some(image) => self.hold(image.id.as_str()).await?,
            None => None,
        };
        let present = present.filter(|_| held.is_some());
        // Somebody else may have made it while we waited.
        if let (Some(image), Wanted::Any) = (&present, wanted) {
            return Ok(image.clone());
        }
        let what = format!("make the image '{name}'");
        let mut known = self.candidates(typed, operation).await?;
        // What is here is as good as its source: what comes after that is no newer version of it, but less.
        // Of one from elsewhere nobody knows how good it is: the first source replaces it, or none.
        let its_own = |image: &Image| known.sources.iter().position(|it| it.to_string() == image.source);
        if let Some(image) = &present {
            known.sources.truncate(its_own(image).unwrap_or_default() + 1);
        }
        let is_choice = known.sources.len() > 1;
        let mut tried = Tried::default();
        for source in known.sources {
            if is_choice {
                operation.log(&format!("try {source}"));
            }
            let text = source.to_string();
            let wish = Wish { what: &what, name: &name, present: present.as_ref(), known: &known.entry };
            match self.pull_from(wish, source, operation).await {
                Ok(image) => return Ok(image),
                Err(error) if operation.check().is_err() => return Err(error),
                Err(error) => tried.note(text, error, is_choice.then_some(operation)),
            }
        }
        Err(tried.into_error(&what))
    }

    /// Returns where something can be had that a user calls so: what the catalog has under that name, else what it says itself.
    async fn candidates(&self, typed: &str, operation: &Arc<Handle>) -> Result<Candidates, ApiError> {
        if !ImageSource::has_transport(typed) {
            let catalog = self.catalogs.read(operation.as_ref()).await?;
            for problem in &catalog.problems {
                operation.warn(problem.clone());
            }
            if let Some(entry) = catalog.image(typed) {
                return Ok(Candidates { sources: entry.sources.clone(), entry: Some(entry.clone()) });
            }
            // Somebody else may have the name in a registry, and what is got would be run.
            if !catalog.problems.is_empty() {
                return Err(ApiError::new(ErrorKind::Failed, format!("cannot say what '{typed}' means"))
                    .because(catalog.problems.join("; "))
                    .fix(format!("if you mean a registry's image, say `docker://{typed}`")));
            }
        }
        let source = source_of(typed).map_err(|error| unknown_image(typed, &error))?;
        Ok(Candidates { sources: vec![source], entry: None })
    }

    /// Makes an image of a source, unless the one that is there is just that.
    async fn pull_from(
        &self,
        wish: Wish<'_>,
        source: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let Wish { what, present, .. } = wish;
        let origin = self.origin(what, source, operation).await?;
        let is_same = |image: &Image, digest: Digest| {
            image.digest.as_deref() == Some(&*digest.to_string()) && image.source == origin.source
        };
        let nothing_newer = || operation.log("it is here, and its source has nothing newer");
        if let (Some(image), Some(digest)) = (present, origin.digest())
            && is_same(image, digest)
        {
            nothing_newer();
            return Ok(image.clone());
        }
        let made = self.make_image(what, &origin, operation).await;
        let made = match (made, present) {
            (Ok(made), Some(present)) if is_same(present, made.built.digest) => {
                nothing_newer();
                self.undo(operation.id()).await;
                return Ok(present.clone());
            }
            (Ok(made), _) => self.keep_image(wish, made, &origin, operation).await,
            (Err(error), _) => Err(error),
        };
        if made.is_err() {
            self.undo(operation.id()).await;
        }
        made
    }

    /// Finds out what a source has, as far as that is known before it is got.
    async fn origin(
        &self,
        what: &str,
        source: ImageSource,
        operation: &Arc<Handle>,
    ) -> Result<Origin, ApiError> {
        let text = if is_pipe(&source) { STANDARD_INPUT.to_owned() } else { source.to_string() };
        let (source, embedded) = self.unpacked(what, source)?;
        let found = match source {
            ImageSource::Docker(reference) => {
                Found::Remote(Box::new(self.look_up(what, &reference, operation).await?))
            }
            other => Found::Here(other),
        };
        Ok(Origin { source: text, found, _embedded: embedded })
    }

    /// Returns a source that is part of the program as one that is a directory, for as long as what comes with it.
    fn unpacked(
        &self,
        what: &str,
        mut source: ImageSource,
    ) -> Result<(ImageSource, Option<Staging>), ApiError> {
        let path = match source.path() {
            Some(path) if path.is_relative() => path.to_owned(),
            _ => return Ok((source, None)),
        };
        let error = |error: &(dyn std::error::Error + 'static)| failed(format!("cannot {what}"), error);
        let directory = Staging::within(&self.context().layout.images()).map_err(|it| error(&it))?;
        if !catalog::unpack_embedded(&path, directory.path()).map_err(|it| error(&it))? {
            return Err(ApiError::new(ErrorKind::Usage, format!("cannot {what}"))
                .because(format!("the path of '{source}' is relative, and nobody knows to what")));
        }
        source.set_path(directory.path().to_owned()).map_err(|it| error(&it))?;
        Ok((source, Some(directory)))
    }

    /// Makes the files of an image.
    async fn make_image(
        &self,
        what: &str,
        origin: &Origin,
        operation: &Arc<Handle>,
    ) -> Result<Made, ApiError> {
        let id = random::image_id();
        self.journal(operation, Step::MakeImageDirectory(id.clone()), what).await?;
        FaultPoint::PullJournaled.reach();
        let built = match &origin.found {
            Found::Remote(remote) => self.build_remote(what, &id, remote, operation).await?,
            Found::Here(source) => self.build_local(what, &id, source.clone(), operation).await?,
        };
        FaultPoint::PullPublished.reach();
        operation.check().map_err(|_| cancelled(format!("cannot {what}")))?;
        Ok(Made { id, built })
    }

    /// Remembers an image whose files are there.
    async fn keep_image(
        &self,
        wish: Wish<'_>,
        made: Made,
        origin: &Origin,
        operation: &Arc<Handle>,
    ) -> Result<Image, ApiError> {
        let Made { id, built: BuiltRootfs { size, digest, config, layers } } = made;
        let image = Image {
            name: wish.name.to_owned(),
            source: origin.source.clone(),
            digest: Some(digest.to_string()),
            size,
            disk_usage: super::disk_usage(&self.context().layout.image(&id)),
            created_at: jiff::Timestamp::now(),
            config,
            layers,
            kernel: wish.known.as_ref().and_then(|entry| entry.kernel.clone()),
            registered: None,
            problem: None,
            id,
        };
        self.remember_image(wish.what, &image, None, operation).await?;
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
        let (row, made, id) = (image.clone(), kernel.clone(), operation.id().clone());
        let insert = move |store: &dyn Store| store.insert_image(&row, made.as_ref(), &id);
        let before = self.context().store(what, insert).await?;
        if let Some(kernel) = kernel {
            self.context().tell(Change::Kernel { kernel: Box::new(kernel) });
        }
        if let Some(before) = before {
            operation.log(&format!("what was called '{}' is '{}' from now on", image.name, before.name));
            self.context().tell(Change::Image { image: Box::new(before) });
        }
        self.context().tell(Change::Image { image: Box::new(image.clone()) });
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
        let mut options = self.build_options()?;
        match &source {
            ImageSource::Debian { suite, .. } => {
                options.debian = self.debian_options(what, suite, operation).await?;
            }
            ImageSource::Dockerfile(_) => {
                self.journal(operation, Step::BuildDockerfile(id.clone()), what).await?;
                options.build_tag = source::build_tag(id);
            }
            _ => {}
        }
        let content = if let ImageSource::DockerDaemon(reference) = &source {
            self.take_from_docker(what, reference, operation).await?
        } else {
            let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
            let options = options.clone();
            let content =
                blocking(what, move || Content::of(&source, &options, commands.as_ref(), work.as_ref()));
            content.await?.map_err(failed)?
        };
        self.write_rootfs(what, id, content, options, operation).await?.map_err(failed)
    }

    async fn write_rootfs(
        &self,
        what: &str,
        id: &ImageId,
        content: Content,
        options: BuildOptions,
        operation: &Arc<Handle>,
    ) -> Result<Result<BuiltRootfs, BuildError>, ApiError> {
        let (work, commands) = (Arc::clone(operation), Arc::clone(&self.context().commands));
        let destination = self.context().layout.image(id);
        blocking(what, move || {
            let built = source::build(&content, &options, &destination, commands.as_ref(), work.as_ref());
            drop(content);
            banger_host::give_back_memory();
            built
        })
        .await
    }

    fn build_options(&self) -> Result<BuildOptions, ApiError> {
        let settings = self.settings()?;
        let image = &settings.configuration.image;
        Ok(BuildOptions {
            largest: image.largest.0 << 20,
            most_entries: image.most_entries,
            // What is there for a moment is on the same disk as what becomes of it, and is swept with it.
            ..BuildOptions::new(self.context().layout.images())
        })
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
}

/// Whether somebody means a source by `typed` that is gone once it was read.
pub(crate) fn is_read_once(typed: &str) -> bool {
    ImageSource::has_transport(typed) && typed.parse().is_ok_and(|source| is_pipe(&source))
}

/// Whether a source is a pipe, which is gone afterwards.
fn is_pipe(source: &ImageSource) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let path = source.path().and_then(|path| fs_err::symlink_metadata(path).ok());
    path.is_some_and(|metadata| metadata.file_type().is_fifo())
}

/// Where an image can be had, and what the catalog knows of it.
struct Candidates {
    sources: Vec<ImageSource>,
    entry: Option<Entry<ImageSource>>,
}

/// What somebody wants.
#[derive(Clone, Copy)]
struct Wish<'a> {
    /// What is to be done, as a clause.
    what: &'a str,
    name: &'a str,
    /// The image that has the name now.
    present: Option<&'a Image>,
    /// What the catalog knows of it.
    known: &'a Option<Entry<ImageSource>>,
}

/// Where an image comes from.
struct Origin {
    source: String,
    found: Found,
    /// What is on the disk for as long as it is needed.
    _embedded: Option<Staging>,
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
    built: BuiltRootfs,
}

/// Reads a source: what has no transport is the name of an image in a registry.
fn source_of(text: &str) -> Result<ImageSource, ImageSourceError> {
    if ImageSource::has_transport(text) { text.parse() } else { Ok(ImageSource::Docker(text.parse()?)) }
}

fn unknown_image(typed: &str, error: &dyn std::error::Error) -> ApiError {
    let looks_like_a_source = typed.contains(':');
    let kind = if looks_like_a_source { ErrorKind::Usage } else { ErrorKind::NotFound };
    ApiError::caused_by(kind, format!("there is no image named '{typed}'"), error).fix(
        "`banger image ls` shows those that are here, `banger image catalog` those that can be had by name",
    )
}

pub(super) fn taken(thing: &str, name: &str) -> ApiError {
    ApiError::refused(Refusal::NameTaken, format!("cannot make the {thing} '{name}'"))
        .because("the name is taken by one from another source")
        .fix(format!("choose another with --name, or `banger {thing} rm {name}`"))
}
