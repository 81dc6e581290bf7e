//! What takes space in the data directory, and taking away what nobody uses.

mod measure;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use banger_core::work::Work;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::operation::Unit;
use banger_types::space::{PruneRequest, PruneRules, Pruned, SpaceItem, SpaceKind, SpaceName, SpaceUsage};
use banger_types::vm::Vm;
use banger_types::{ApiError, ErrorKind, ImageId, KernelId, Refusal};
use jiff::Timestamp;

use self::measure::Measure;
use self::rules::{Rules, Uses};
use crate::artifact::{Artifacts, stored_layers, unpacked_layers};
use crate::failure::{cancelled, failed};
use crate::fault::FaultPoint;
use crate::layout::Layout;
use crate::operation::Handle;
use crate::vm::blocking;

/// Returns what takes space.
pub(crate) async fn usage(artifacts: &Artifacts) -> Result<SpaceUsage, ApiError> {
    let known = Known::of(artifacts).await?;
    let layout = artifacts.context().layout.clone();
    blocking("see what takes space", move || known.usage(&layout)).await?
}

/// Returns what would go by these rules.
pub(crate) async fn prunable(artifacts: &Artifacts, rules: &PruneRules) -> Result<Pruned, ApiError> {
    // Whoever begins to pull meanwhile need not wait: nothing goes.
    let is_alone = artifacts.try_alone().is_some();
    let plan = plan(artifacts, rules, is_alone).await?;
    let items: Vec<_> = plan.into_iter().map(|step| step.item).collect();
    let bytes = items.iter().map(|item| item.bytes).sum();
    Ok(Pruned { items, bytes, notes: left_alone(is_alone) })
}

/// Takes away what nobody uses, as far as it was asked for.
pub(crate) async fn prune(
    artifacts: &Artifacts,
    request: &PruneRequest,
    operation: &Arc<Handle>,
) -> Result<(), ApiError> {
    operation.stage("see what may go");
    let alone = artifacts.try_alone();
    let mut plan = plan(artifacts, &request.rules, alone.is_some()).await?;
    plan.retain(|step| {
        let SpaceItem { kind, name, id, .. } = &step.item;
        let is_it = |only: &SpaceName| (&only.kind, &only.name, &only.id) == (kind, name, id);
        request.only.as_ref().is_none_or(|only| only.iter().any(is_it))
    });
    operation.stage("delete what nobody uses");
    let (mut done, total) = (0, plan.iter().map(|step| step.item.bytes).sum());
    let mut pruned = Pruned { notes: left_alone(alone.is_some()), ..Pruned::default() };
    operation.pruned(pruned.clone());
    let mut problems = Vec::new();
    for Step { item, target } in plan {
        operation.progress(done, Some(total), Unit::Bytes);
        operation.log(&format!("{:?} {}", item.kind, item.name));
        done += item.bytes;
        let (bytes, result) = take(artifacts, &item, target, operation).await;
        if bytes > 0 || result.is_ok() {
            pruned.bytes += bytes;
            pruned.items.push(SpaceItem { bytes, ..item });
            operation.pruned(pruned.clone());
            FaultPoint::PruneTook.reach();
        }
        match result {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            // Somebody else takes it away just now.
            Err(error) if error.refusal == Some(Refusal::Deleting) => {}
            Err(error) => {
                let problem = format!("{error}: {}", error.why.join(": "));
                operation.log(&problem);
                problems.push(problem);
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let error = ApiError::new(ErrorKind::Failed, "not all of it could be deleted");
    Err(problems.into_iter().fold(error, ApiError::because))
}

/// Returns what goes by these rules; of what pulls share nothing, unless nobody pulls.
async fn plan(artifacts: &Artifacts, rules: &PruneRules, is_alone: bool) -> Result<Vec<Step>, ApiError> {
    let known = Known::of(artifacts).await?;
    let PruneRules { images_only, all, older_than_seconds, keep } = *rules;
    let rules = Rules { all, older_than: older_than_seconds, keep, now: Timestamp::now() };
    let layout = artifacts.context().layout.clone();
    blocking("see what may go", move || known.plan(&layout, &rules, images_only, is_alone)).await
}

/// What is pulled now is made of what would be taken away.
fn left_alone(is_alone: bool) -> Vec<String> {
    let note = "something is being pulled: what pulls share was left alone";
    if is_alone { Vec::new() } else { vec![note.to_owned()] }
}

/// Takes one thing away. Returns how much of it is gone, bytes, and whether that is all of it.
async fn take(
    artifacts: &Artifacts,
    item: &SpaceItem,
    target: Target,
    operation: &Arc<Handle>,
) -> (u64, Result<(), ApiError>) {
    let deletion = match target {
        Target::Files(files) => {
            let (work, name) = (Arc::clone(operation), item.name.clone());
            let removed =
                blocking("delete files", move || remove_until_cancelled(&files, &name, work.as_ref())).await;
            return removed.unwrap_or_else(|error| (0, Err(error)));
        }
        Target::Image(id) => artifacts.doom_image(&id, &item.name).await,
        Target::Kernel(id) => artifacts.doom_kernel(&id, &item.name).await,
    };
    let result = async {
        let deletion = deletion?;
        operation.check().map_err(|_| cannot_delete(&item.name))?;
        match deletion {
            Some(deletion) => artifacts.delete(&deletion).await,
            // It has gone meanwhile, as a kernel does with its image.
            None => Ok(()),
        }
    };
    let result = result.await;
    (if result.is_ok() { item.bytes } else { 0 }, result)
}

/// Removes files, of which some may be gone, until `work` is cancelled.
fn remove_until_cancelled(
    files: &[(PathBuf, u64)],
    name: &str,
    work: &dyn Work,
) -> (u64, Result<(), ApiError>) {
    let mut bytes = 0;
    for (file, its) in files {
        if work.check().is_err() {
            return (bytes, Err(cannot_delete(name)));
        }
        match fs_err::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return (bytes, Err(failed(format!("cannot delete {name}"), &error)));
            }
            _ => bytes += its,
        }
    }
    (bytes, Ok(()))
}

/// Returns the error of what somebody has cancelled.
fn cannot_delete(name: &str) -> ApiError {
    cancelled(format!("cannot delete {name}"))
}

/// What goes.
struct Step {
    item: SpaceItem,
    target: Target,
}

enum Target {
    Image(ImageId),
    Kernel(KernelId),
    /// Each with its blocks, bytes.
    Files(Vec<(PathBuf, u64)>),
}

/// What there is.
struct Known {
    images: Vec<Image>,
    kernels: Vec<Kernel>,
    vms: Vec<Vm>,
    /// Ids of images and kernels that something is being made from.
    held: HashSet<String>,
    default_kernel: String,
}

impl Known {
    async fn of(artifacts: &Artifacts) -> Result<Self, ApiError> {
        let (images, kernels) = (artifacts.images().await?, artifacts.kernels().await?);
        let ids = images.iter().map(|image| image.id.as_str());
        let ids = ids.chain(kernels.iter().map(|kernel| kernel.id.as_str()));
        let held = ids.filter(|id| artifacts.is_held(id)).map(str::to_owned).collect();
        Ok(Self {
            images,
            kernels,
            held,
            vms: artifacts.context().vms.list(),
            default_kernel: artifacts.context().settings.last().configuration.vm.kernel.clone(),
        })
    }

    fn uses(&self) -> Uses {
        let images = self.images.iter().map(|image| image.id.clone());
        let kernels = self.kernels.iter().map(|kernel| kernel.id.clone());
        let held_images = images.filter(|id| self.held.contains(id.as_str()));
        let held_kernels = kernels.filter(|id| self.held.contains(id.as_str()));
        Uses {
            images: self.vms.iter().map(|vm| vm.spec.image.clone()).chain(held_images).collect(),
            kernels: self.vms.iter().map(|vm| vm.spec.kernel.clone()).chain(held_kernels).collect(),
            default_kernel: self.default_kernel.clone(),
        }
    }

    /// Returns the images and kernels that go.
    fn going(&self, rules: &Rules) -> (Vec<&Image>, Vec<&Kernel>) {
        let uses = self.uses();
        let images = rules.images(&self.images, &uses);
        let gone: BTreeSet<_> = images.iter().map(|image| &image.id).collect();
        let staying: Vec<_> = self.images.iter().filter(|image| !gone.contains(&image.id)).collect();
        (images, rules.kernels(&self.kernels, &staying, &uses))
    }

    fn vms_with(&self, uses: impl Fn(&Vm) -> bool) -> Vec<String> {
        self.vms.iter().filter(|vm| uses(vm)).map(|vm| vm.name.to_string()).collect()
    }

    fn image_item(&self, image: &Image, bytes: u64, may_go: bool) -> SpaceItem {
        let used_by = self.vms_with(|vm| vm.spec.image == image.id);
        let id = Some(image.id.to_string());
        SpaceItem { kind: SpaceKind::Image, name: image.name.clone(), id, bytes, used_by, may_go }
    }

    fn kernel_item(&self, kernel: &Kernel, bytes: u64, may_go: bool) -> SpaceItem {
        let used_by = self.vms_with(|vm| vm.spec.kernel == kernel.id);
        let id = Some(kernel.id.to_string());
        SpaceItem { kind: SpaceKind::Kernel, name: kernel.name.clone(), id, bytes, used_by, may_go }
    }

    fn usage(&self, layout: &Layout) -> Result<SpaceUsage, ApiError> {
        let mut measure = Measure::default();
        let (images, kernels) = self.going(&Rules::everything(Timestamp::now()));
        let mut items = Vec::new();
        let going: BTreeSet<_> = kernels.iter().map(|kernel| &kernel.id).collect();
        // Before the VMs, which have further names for some of their files.
        for kernel in &self.kernels {
            let bytes = measure.tree(&layout.kernel(&kernel.id));
            items.push(self.kernel_item(kernel, bytes, going.contains(&kernel.id)));
        }
        let going: BTreeSet<_> = images.iter().map(|image| &image.id).collect();
        for image in &self.images {
            let bytes = measure.tree(&layout.image(&image.id));
            items.push(self.image_item(image, bytes, going.contains(&image.id)));
        }
        for vm in &self.vms {
            let bytes = measure.tree(&vm.directory);
            let name = vm.name.to_string();
            items.push(item(SpaceKind::Vm, &name, bytes, false));
        }
        items.push(item(SpaceKind::Layer, "layers", measure.tree(&layout.layers()), true));
        for engine in fs_err::read_dir(layout.engines()).into_iter().flatten().flatten() {
            let name = engine.file_name().to_string_lossy().into_owned();
            items.push(item(SpaceKind::Engine, &name, measure.tree(&engine.path()), false));
        }
        for cache in caches(layout) {
            items.push(item(SpaceKind::Cache, cache.name, measure.tree(&cache.directory), cache.may_go));
        }
        // All that is left: counted last, for nothing counts twice.
        let rest = measure_rest(&mut measure, layout, self);
        items.push(item(SpaceKind::Own, "database, logs and what is being made", rest, false));
        items.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        let total = items.iter().map(|item| item.bytes).sum();
        let available = rustix::fs::statvfs(layout.data())
            .map_err(|errno| failed("cannot see how much space is free", &std::io::Error::from(errno)))?;
        Ok(SpaceUsage { items, total, available: available.f_bavail * available.f_frsize })
    }

    /// Returns what goes by these rules.
    fn plan(&self, layout: &Layout, rules: &Rules, images_only: bool, is_alone: bool) -> Vec<Step> {
        let mut measure = Measure::default();
        let (images, kernels) = self.going(rules);
        let mut steps = Vec::new();
        // Files first: on a full disk only after that is there room to write down that an image goes.
        if is_alone {
            let layers = [stored_layers(&layout.layers()), unpacked_layers(&layout.layers())];
            steps.extend(files(SpaceKind::Layer, "layers", &layers, rules));
            if !images_only {
                for cache in caches(layout).into_iter().filter(|cache| cache.may_go) {
                    steps.extend(files(SpaceKind::Cache, cache.name, &[cache.directory], rules));
                }
            }
        }
        for image in images {
            let bytes = measure.tree(&layout.image(&image.id));
            let target = Target::Image(image.id.clone());
            steps.push(Step { item: self.image_item(image, bytes, true), target });
        }
        if !images_only {
            for kernel in kernels {
                let bytes = measure.tree(&layout.kernel(&kernel.id));
                let target = Target::Kernel(kernel.id.clone());
                steps.push(Step { item: self.kernel_item(kernel, bytes, true), target });
            }
        }
        steps
    }
}

/// A directory whose content can be had again.
struct Cache {
    name: &'static str,
    directory: PathBuf,
    may_go: bool,
}

fn caches(layout: &Layout) -> [Cache; 4] {
    let cache = |name, directory, may_go| Cache { name, directory, may_go };
    [
        cache("Debian's package lists", layout.debian(), true),
        cache("catalogs from elsewhere", layout.catalogs(), true),
        cache("downloads that are not complete", layout.downloads(), true),
        // New VMs' disks are copies of them, a few hundred kilobytes each.
        cache("templates of disks", layout.templates(), false),
    ]
}

fn item(kind: SpaceKind, name: &str, bytes: u64, may_go: bool) -> SpaceItem {
    SpaceItem { kind, name: name.to_owned(), id: None, bytes, used_by: Vec::new(), may_go }
}

/// Returns the blocks of what is in none of the directories that were counted: files of the data directory itself, and what in
/// those of images, kernels and VMs belongs to none that is known.
fn measure_rest(measure: &mut Measure, layout: &Layout, known: &Known) -> u64 {
    let images = known.images.iter().map(|image| layout.image(&image.id));
    let kernels = known.kernels.iter().map(|kernel| layout.kernel(&kernel.id));
    let vms = known.vms.iter().map(|vm| vm.directory.clone());
    let caches = caches(layout).map(|cache| cache.directory);
    let engines = fs_err::read_dir(layout.engines()).into_iter().flatten().flatten().map(|it| it.path());
    let counted: HashSet<PathBuf> =
        images.chain(kernels).chain(vms).chain(caches).chain(engines).chain([layout.layers()]).collect();
    let open = [layout.images(), layout.kernels(), layout.vms(), layout.engines()];
    let mut rest = 0;
    let mut directories = vec![layout.data().to_owned()];
    while let Some(directory) = directories.pop() {
        if let Ok(metadata) = fs_err::symlink_metadata(&directory) {
            rest += measure.file(&metadata);
        }
        for entry in fs_err::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if open.contains(&path) {
                directories.push(path);
            } else if !counted.contains(&path) {
                rest += measure.tree(&path);
            }
        }
    }
    rest
}

/// Returns what takes away files that were not used for long, if there are any. A file goes with all its names, which are of the
/// same age.
fn files(kind: SpaceKind, name: &str, directories: &[PathBuf], rules: &Rules) -> Option<Step> {
    let mut going = BTreeMap::new();
    let mut measure = Measure::default();
    for directory in directories {
        for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let used_at = Timestamp::from_second(metadata.mtime()).unwrap_or_default();
            if metadata.is_file()
                && !banger_download::debian::is_remembered(&entry.path())
                && rules.takes_cached(used_at)
            {
                going.insert(entry.path(), measure.file(&metadata));
            }
        }
    }
    let bytes = going.values().sum();
    let files: Vec<_> = going.into_iter().collect();
    (!files.is_empty()).then(|| Step { item: item(kind, name, bytes, true), target: Target::Files(files) })
}
