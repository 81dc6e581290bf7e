//! Making the list true at start: what an earlier daemon began is undone or taken up, what runs is
//! adopted, and what belongs to nobody goes.
//!
//! Nothing here keeps the daemon from starting: what cannot be put in order now is said in the log, shown where it can be
//! shown, and tried again at the next start.

use std::collections::HashSet;
use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Request, Wanted, starts_with_the_daemon, wanted_after};
use banger_image::publish::{PARTIAL_PREFIX, sweep_partials};
use banger_types::ApiError;
use banger_types::monitor::MonitorPhase;
use banger_types::vm::{VmState, VmStopRequest};

use crate::artifact::Artifacts;
use crate::take_up::take_up_operations;
use crate::vm::{self, Context, Found, Origin, VmHandle, remove_files};

/// What was found, for the log.
#[derive(Debug, Default)]
struct Count {
    adopted: usize,
    mute: usize,
    ended: usize,
    undone: usize,
    orphans: usize,
    started: usize,
}

/// Brings everything into a true state. To be done before the first request is taken.
pub(crate) async fn reconcile(artifacts: &Arc<Artifacts>) -> Result<(), ApiError> {
    let mut count = Count::default();
    let context = artifacts.context();
    let unsettled = context.store("read the journal", |store| store.unsettled()).await?;
    for operation in unsettled {
        artifacts.undo(&operation).await;
        count.undone += 1;
    }
    let records = context.store("list VMs", |store| store.vms()).await?;
    count.orphans += remove_orphans(artifacts, &records).await?;
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
    let deleted = take_up_operations(context).await?;
    for (name, handle) in must_go.into_iter().filter(|(name, _)| !deleted.contains(name.as_str())) {
        tracing::info!(vm = %name, "to be deleted");
        finish_deleting(handle);
    }
    for handle in context.vms.handles() {
        count.started += usize::from(start_by_policy(context, &handle).await);
    }
    tracing::info!(
        adopted = count.adopted,
        mute = count.mute,
        ended = count.ended,
        undone = count.undone,
        orphans = count.orphans,
        started = count.started,
        "reconciled"
    );
    Ok(())
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
    let record = if at_rest { settle_end(context, record, count).await } else { record };
    let handle = vm::spawn(context, record, found);
    context.vms.add(name, handle.clone());
    must_go.then_some(handle)
}

/// Takes in how a VM ended while nobody looked, if it did.
async fn settle_end(context: &Arc<Context>, mut record: VmRecord, count: &mut Count) -> VmRecord {
    if record.was_alive() {
        count.ended += 1;
        let observation = vm::last_word(&context.layout.vm(&record.id));
        let host_went = matches!(&observation, Observation::HostWentDown)
            || matches!(&observation, Observation::Monitor(MonitorPhase::Ended(end)) if end.host_shutdown);
        record.published.observe(&observation);
        let state = record.published.state;
        record.wanted = wanted_after(record.spec.restart, record.wanted, state, host_went);
        let row = record.clone();
        if let Err(error) = context.store("remember a VM's state", move |store| store.update_vm(&row)).await {
            tracing::error!(vm = %record.name, %error, "state not remembered");
        }
    }
    record
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
    match handle.request(Request::Start, VmStopRequest::default(), Origin::Own).await {
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
        if let Err(error) = handle.request(request, VmStopRequest::default(), Origin::Own).await {
            tracing::warn!(vm = %handle.id(), why = ?error.why, "not deleted");
        }
    });
}

/// Takes away directories that nothing in the database knows.
async fn remove_orphans(artifacts: &Arc<Artifacts>, vms: &[VmRecord]) -> Result<usize, ApiError> {
    let layout = artifacts.context().layout.clone();
    let vms: HashSet<String> = vms.iter().map(|vm| vm.id.to_string()).collect();
    let images = artifacts.images().await?.iter().map(|image| image.id.to_string()).collect();
    let kernels = artifacts.kernels().await?.iter().map(|kernel| kernel.id.to_string()).collect();
    let mut removed = 0;
    for (parent, known) in [(layout.vms(), &vms), (layout.images(), &images), (layout.kernels(), &kernels)] {
        removed += remove_unknown(&parent, known).await;
    }
    for parent in [layout.templates(), layout.ssh()] {
        removed += sweep(&parent);
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

/// Takes away what is half made, and directories that are not known. Other files are left alone.
async fn remove_unknown(parent: &Path, known: &HashSet<String>) -> usize {
    let Ok(entries) = fs_err::read_dir(parent) else { return 0 };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_partial = name.starts_with(PARTIAL_PREFIX);
        if !is_partial && (known.contains(&name) || !entry.path().is_dir()) {
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
