//! Making the list true at start: what an earlier daemon began is undone or taken up, what runs is
//! adopted, and what belongs to nobody goes.
//!
//! Nothing here keeps the daemon from starting: what cannot be put in order now is said in the log, shown where it can be
//! shown, and tried again at the next start.

use std::collections::HashSet;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Request, Wanted, starts_with_the_daemon, wanted_after};
use banger_image::publish::{PARTIAL_PREFIX, sweep_partials};
use banger_types::monitor::MonitorPhase;
use banger_types::size::Mebibytes;
use banger_types::vm::{Vm, VmState, VmStopRequest};
use banger_types::{ApiError, VmId};

use crate::artifact::{Artifacts, stored_layers, unpacked_layers};
use crate::layout::vm_file;
use crate::operation::Requester;
use crate::take_up::take_up_operations;
use crate::vm::{self, Context, Found, Origin, VmHandle, remove_files};

/// How long the word of a monitor that was found may take to be taken in.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// For how long somebody may go on with a download that was cut.
const DOWNLOAD_AGE: Duration = Duration::from_hours(7 * 24);

/// For how long a layer is kept that no pull has asked for.
const LAYER_AGE: Duration = Duration::from_hours(30 * 24);

/// What was found, for the log.
#[derive(Debug, Default)]
struct Count {
    adopted: usize,
    mute: usize,
    ended: usize,
    undone: usize,
    unknown: usize,
    orphans: usize,
    started: usize,
}

/// Brings everything into a true state. To be done before the first request is taken. Returns the directories of VMs
/// that the database does not know, which are left as they are.
pub(crate) async fn reconcile(artifacts: &Arc<Artifacts>) -> Result<Vec<PathBuf>, ApiError> {
    let mut count = Count::default();
    let context = artifacts.context();
    let unsettled = context.store("read the journal", |store| store.unsettled()).await?;
    for operation in unsettled {
        artifacts.undo(&operation).await;
        count.undone += 1;
    }
    let records = context.store("list VMs", |store| store.vms()).await?;
    let unknown = unknown_vms(&context.layout.vms(), &records);
    count.unknown = unknown.len();
    count.orphans += remove_orphans(artifacts, &records, &unknown).await?;
    // All at once: a monitor that does not answer costs its limit once, not once for each.
    let looks = records.into_iter().map(|record| {
        let directory = context.layout.vm(&record.id);
        tokio::spawn(async move {
            let found = vm::look(&directory).await;
            (record, found)
        })
    });
    let mut must_go = Vec::new();
    for look in looks.collect::<Vec<_>>() {
        match look.await {
            Ok((record, found)) => {
                let name = record.name.clone();
                if let Some(handle) = take_up_vm(context, record, found, &mut count).await {
                    must_go.push((name, handle));
                }
            }
            Err(error) => tracing::error!(%error, "a VM was not looked for"),
        }
    }
    let deleted = take_up_operations(artifacts).await?;
    for (name, handle) in must_go.into_iter().filter(|(name, _)| !deleted.contains(name.as_str())) {
        tracing::info!(vm = %name, "to be deleted");
        finish_deleting(handle);
    }
    leave_networks(context);
    for handle in context.vms.handles() {
        count.started += usize::from(start_by_policy(context, &handle).await);
    }
    tracing::info!(
        adopted = count.adopted,
        mute = count.mute,
        ended = count.ended,
        undone = count.undone,
        unknown = count.unknown,
        orphans = count.orphans,
        started = count.started,
        "reconciled"
    );
    Ok(unknown)
}

/// Waits until it is known of a VM that runs what does: whoever asks next is to be told, and requests need its VMM. Its
/// monitor's word has come already, and is only to be taken in.
async fn until_known(handle: &VmHandle) {
    let mut watch = handle.watch();
    let is_known = |vm: &Vm| vm.vmm_pid.is_some() || !vm.state.is_alive();
    if tokio::time::timeout(WORD_LIMIT, watch.wait_for(is_known)).await.is_err() {
        tracing::warn!(vm = %handle.id(), "its monitor has not said yet what runs");
    }
}

/// Takes the places in networks away that VMs have which do not run, and puts the network of the others in force; nobody waits for that.
fn leave_networks(context: &Arc<Context>) {
    let vms = context.vms.list().into_iter();
    let at_rest: Vec<VmId> = vms.filter(|vm| !vm.state.is_alive()).map(|vm| vm.id).collect();
    let places = Arc::clone(&context.places);
    tokio::task::spawn_blocking(move || {
        places.sweep(at_rest);
        // Those that run on in theirs may have been without what somebody has ended or flushed meanwhile.
        places.restore();
    });
}

/// Returns the VM's handle if it is to be deleted.
async fn take_up_vm(
    context: &Arc<Context>,
    record: VmRecord,
    found: Found,
    count: &mut Count,
) -> Option<VmHandle> {
    let name = record.name.clone();
    let at_rest = matches!(found, Found::AtRest);
    let is_running = matches!(found, Found::Running(_));
    match found {
        Found::AtRest => {}
        Found::Running(_) => {
            tracing::info!(vm = %name, "adopted");
            count.adopted += 1;
        }
        Found::Mute => {
            tracing::warn!(vm = %name, "its monitor lives and does not answer");
            count.mute += 1;
        }
    }
    let must_go = record.published.state == VmState::Deleting || (at_rest && record.is_removed_at_end());
    let record = if at_rest { settle(context, record, count).await } else { record };
    let handle = vm::spawn(context, record, found);
    if is_running {
        until_known(&handle).await;
    }
    context.vms.add(name, handle.clone());
    must_go.then_some(handle)
}

/// Takes in what has become of a VM that does not run while nobody looked.
async fn settle(context: &Arc<Context>, mut record: VmRecord, count: &mut Count) -> VmRecord {
    let ended = take_in_end(context, &mut record, count);
    if take_in_disk(context, &mut record) || ended {
        let row = record.clone();
        if let Err(error) = context.store("remember a VM's state", move |store| store.update_vm(&row)).await {
            tracing::error!(vm = %record.name, %error, "state not remembered");
        }
    }
    record
}

/// Takes in how a VM ended, if it did.
fn take_in_end(context: &Context, record: &mut VmRecord, count: &mut Count) -> bool {
    let ended = record.was_alive();
    if ended {
        count.ended += 1;
        let observation = vm::last_word(&context.layout.vm(&record.id));
        let host_went = matches!(&observation, Observation::HostWentDown)
            || matches!(&observation, Observation::Monitor(MonitorPhase::Ended(end)) if end.host_shutdown);
        record.published.observe(&observation);
        let state = record.published.state;
        record.wanted = wanted_after(record.spec.restart, record.wanted, state, host_went);
    }
    ended
}

/// A daemon may have ended between making a disk larger and remembering that. The disk is right: it can only grow.
fn take_in_disk(context: &Context, record: &mut VmRecord) -> bool {
    // What is wrong with a disk that is not there is said when it is to be used.
    let size = Mebibytes(vm::disk_size(&context.layout.vm(&record.id)).unwrap_or_default() >> 20);
    let larger = size > record.spec.disk;
    if larger {
        record.spec.disk = size;
        record.published.generation += 1;
        tracing::info!(vm = %record.name, disk = %record.spec.disk, "its disk is larger than was remembered");
    }
    larger
}

/// Starts a VM that is to run and does not, if its policy says so. Returns whether it did.
async fn start_by_policy(context: &Arc<Context>, handle: &VmHandle) -> bool {
    let vm = handle.snapshot();
    let id = vm.id.clone();
    let wanted = context
        .store("look for a VM", move |store| store.vms())
        .await
        .ok()
        .and_then(|vms| vms.into_iter().find(|record| record.id == id).map(|record| record.wanted));
    let at_rest = matches!(vm.state, VmState::Stopped | VmState::Failed);
    if !at_rest || !starts_with_the_daemon(vm.spec.restart, wanted.unwrap_or(Wanted::Stopped)) {
        return false;
    }
    match handle.request(Request::Start, VmStopRequest::default(), Origin::Own(Requester::daemon())).await {
        Ok(_) => true,
        Err(error) => {
            tracing::info!(vm = %vm.name, why = ?error.why, "not started");
            false
        }
    }
}

fn finish_deleting(handle: VmHandle) {
    tokio::spawn(async move {
        let request = Request::Delete { force: true };
        if let Err(error) =
            handle.request(request, VmStopRequest::default(), Origin::Own(Requester::daemon())).await
        {
            tracing::warn!(vm = %handle.id(), why = ?error.why, "not deleted");
        }
    });
}

/// Returns the directories of VMs that no row of the database knows and that hold a disk.
///
/// A row is written before its VM's directory is made, and goes after it: there are none, unless rows were lost. The
/// database is then not the one that these disks were made with: another was put in its place, an old copy, or none. It
/// may come back, so they are their user's to decide about, with all that runs from them.
fn unknown_vms(parent: &Path, vms: &[VmRecord]) -> Vec<PathBuf> {
    let known: HashSet<&str> = vms.iter().map(|vm| vm.id.as_str()).collect();
    let entries = fs_err::read_dir(parent).into_iter().flatten().flatten();
    let is_unknown = |name: &str| !name.starts_with(PARTIAL_PREFIX) && !known.contains(name);
    let unknown = entries.filter(|entry| is_unknown(&entry.file_name().to_string_lossy()));
    let mut unknown: Vec<PathBuf> = unknown
        .map(|entry| entry.path())
        .filter(|directory| directory.join(vm_file::DISK).exists())
        .collect();
    unknown.sort();
    for directory in &unknown {
        tracing::error!(?directory, "a VM that the database does not know: left as it is");
    }
    unknown
}

/// Takes away directories that nothing in the database knows. Images and kernels stay as long as there are unknown VMs:
/// they may be made from them.
async fn remove_orphans(
    artifacts: &Arc<Artifacts>,
    vms: &[VmRecord],
    unknown_vms: &[PathBuf],
) -> Result<usize, ApiError> {
    let layout = artifacts.context().layout.clone();
    let vms: HashSet<String> = vms.iter().map(|vm| vm.id.to_string()).collect();
    let images: HashSet<String> =
        artifacts.images().await?.iter().map(|image| image.id.to_string()).collect();
    let kernels: HashSet<String> =
        artifacts.kernels().await?.iter().map(|kernel| kernel.id.to_string()).collect();
    let keep_artifacts = !unknown_vms.is_empty();
    let is_unknown = |path: &Path| unknown_vms.iter().any(|unknown| unknown == path);
    let mut removed = 0;
    removed += remove_unknown(&layout.vms(), |path, name| vms.contains(name) || is_unknown(path)).await;
    removed += remove_unknown(&layout.images(), |_, name| keep_artifacts || images.contains(name)).await;
    removed += remove_unknown(&layout.kernels(), |_, name| keep_artifacts || kernels.contains(name)).await;
    for parent in [layout.templates(), layout.ssh(), layout.engines()] {
        removed += sweep(&parent);
    }
    for (directory, age) in [
        (layout.downloads(), DOWNLOAD_AGE),
        (layout.debian(), DOWNLOAD_AGE),
        (stored_layers(&layout.layers()), LAYER_AGE),
        (unpacked_layers(&layout.layers()), LAYER_AGE),
    ] {
        let swept = banger_download::sweep(&directory, age);
        removed += swept.removed;
        for error in swept.errors {
            tracing::error!(%error, "a download is not swept");
        }
    }
    for parent in [layout.vms(), layout.kernels()] {
        for entry in fs_err::read_dir(parent).into_iter().flatten().flatten() {
            removed += sweep(&entry.path());
        }
    }
    Ok(removed)
}

/// Takes away what was left half made in a directory whose other files are somebody's.
fn sweep(directory: &Path) -> usize {
    let swept = sweep_partials(directory);
    for error in &swept.errors {
        tracing::error!(%error, source = ?error.source(), "not swept");
    }
    swept.removed
}

/// Takes away what is half made, and directories that are not to be kept. Other files are left alone.
async fn remove_unknown(parent: &Path, keep: impl Fn(&Path, &str) -> bool) -> usize {
    let Ok(entries) = fs_err::read_dir(parent) else { return 0 };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_partial = name.starts_with(PARTIAL_PREFIX);
        if !is_partial && (keep(&entry.path(), &name) || !entry.path().is_dir()) {
            continue;
        }
        match remove_orphan(&entry.path()).await {
            Ok(()) => {
                tracing::warn!(path = ?entry.path(), "belongs to nobody: removed");
                removed += 1;
            }
            Err(error) => {
                tracing::error!(path = ?entry.path(), %error, why = ?error.why, "belongs to nobody: not removed");
            }
        }
    }
    removed
}

async fn remove_orphan(path: &Path) -> Result<(), ApiError> {
    if !path.is_dir() || path.is_symlink() {
        return fs_err::remove_file(path)
            .map_err(|error| crate::failure::failed("cannot remove a leftover", &error));
    }
    // A VM that nobody knows may still run.
    vm::kill_orphan(path).await?;
    remove_files(path).await
}
