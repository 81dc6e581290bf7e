//! Making the list true at start: what an earlier daemon began is undone or taken up, what runs is
//! adopted, and what belongs to nobody goes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Request};
use banger_host::{MonitorConnection, StatusStream, read_last_status};
use banger_image::publish::PARTIAL_PREFIX;
use banger_types::monitor::MonitorPhase;
use banger_types::operation::{Operation, OperationKind};
use banger_types::vm::{VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind};

use crate::artifact::Artifacts;
use crate::vm::{self, Context, Origin, VmHandle, remove_files};

/// What was found, for the log.
#[derive(Debug, Default)]
struct Count {
    adopted: usize,
    ended: usize,
    undone: usize,
    orphans: usize,
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
    for record in records {
        take_up_vm(context, record, &mut count).await;
    }
    take_up_operations(context).await?;
    tracing::info!(
        adopted = count.adopted,
        ended = count.ended,
        undone = count.undone,
        orphans = count.orphans,
        "reconciled"
    );
    Ok(())
}

async fn take_up_vm(context: &Arc<Context>, record: VmRecord, count: &mut Count) {
    let deleting = record.published.state == VmState::Deleting;
    let must_go = deleting || record.is_removed_at_end();
    let name = record.name.clone();
    if let Some(stream) = watch_monitor(&context.layout.vm(&record.id)).await {
        tracing::info!(vm = %name, "adopted");
        count.adopted += 1;
        let handle = vm::adopt(context, record, stream);
        context.vms.add(name, handle.clone());
        if deleting {
            finish_deleting(handle);
        }
        return;
    }
    if deleting {
        delete_rest(context, record).await;
        tracing::info!(vm = %name, "deleted what was left");
        return;
    }
    let record = settle_end(context, record, count).await;
    let handle = vm::spawn(context, record);
    context.vms.add(name, handle.clone());
    if must_go {
        finish_deleting(handle);
    }
}

/// Takes in how a VM ended while nobody looked, if it did.
async fn settle_end(context: &Arc<Context>, mut record: VmRecord, count: &mut Count) -> VmRecord {
    if record.was_alive() {
        count.ended += 1;
        record.published.observe(&last_word(&context.layout.vm(&record.id)));
        let row = record.clone();
        if let Err(error) = context.store("remember a VM's state", move |store| store.update_vm(&row)).await {
            tracing::error!(vm = %record.name, %error, "state not remembered");
        }
    }
    record
}

/// Returns the states of the VM's monitor, if it lives.
async fn watch_monitor(directory: &Path) -> Option<StatusStream> {
    let connection = MonitorConnection::open(directory).ok()?;
    connection.watch().await.inspect_err(|error| tracing::warn!(%error, ?directory, "a monitor is mute")).ok()
}

/// How a VM ended while nobody looked.
fn last_word(directory: &Path) -> Observation {
    match read_last_status(directory).map(|status| status.phase) {
        Some(phase @ MonitorPhase::Ended(_)) => Observation::Monitor(phase),
        _ => Observation::MonitorLost,
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

async fn delete_rest(context: &Arc<Context>, record: VmRecord) {
    let directory = context.layout.vm(&record.id);
    let result = match remove_files(&directory).await {
        Ok(()) => context.store("forget a VM", move |store| store.delete_vm(&record.id)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::error!(?directory, %error, why = ?error.why, "not deleted");
    }
}

/// Takes away directories that nothing in the database knows.
async fn remove_orphans(artifacts: &Arc<Artifacts>, vms: &[VmRecord]) -> Result<usize, ApiError> {
    let layout = artifacts.context().layout.clone();
    let vms: HashSet<String> = vms.iter().map(|vm| vm.id.to_string()).collect();
    let images = artifacts.images().await?.iter().map(|image| image.id.to_string()).collect();
    let kernels = artifacts.kernels().await?.iter().map(|kernel| kernel.id.to_string()).collect();
    let mut removed = 0;
    for (parent, known) in [(layout.vms(), &vms), (layout.images(), &images), (layout.kernels(), &kernels)] {
        removed += remove_unknown(&parent, known).await?;
    }
    removed += remove_unknown(&layout.templates(), &HashSet::new()).await?;
    Ok(removed)
}

/// Directories that are neither known nor half made are left alone among templates: those are files.
async fn remove_unknown(parent: &Path, known: &HashSet<String>) -> Result<usize, ApiError> {
    let Ok(entries) = fs_err::read_dir(parent) else { return Ok(0) };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let directory = entry.path();
        let is_partial = name.starts_with(PARTIAL_PREFIX);
        if !is_partial && (known.contains(&name) || !directory.is_dir()) {
            continue;
        }
        tracing::warn!(?directory, "belongs to nobody: removed");
        // A VM that nobody knows may still run.
        if let Ok(mut connection) = MonitorConnection::open(&directory) {
            connection.kill().await.ok();
        }
        if directory.is_dir() {
            remove_files(&directory).await?;
        } else {
            fs_err::remove_file(&directory).ok();
        }
        removed += 1;
    }
    Ok(removed)
}

/// Operations that were under way: those whose VM goes on are taken up, the rest has failed.
async fn take_up_operations(context: &Arc<Context>) -> Result<(), ApiError> {
    let operations = context.store("list operations", |store| store.operations()).await?;
    for operation in operations.into_iter().filter(|operation| !operation.status.is_final()) {
        take_up(context, operation);
    }
    Ok(())
}

fn take_up(context: &Arc<Context>, operation: Operation) {
    let kind = operation.kind;
    let subject = operation.subject.clone();
    let handle = context.operations.resume(operation);
    let interrupted = || {
        ApiError::new(ErrorKind::Failed, format!("work on '{subject}' was interrupted"))
            .because("bangerd ended; what it had begun was undone")
    };
    let vm = context.vms.find(&subject).ok();
    match (kind, vm) {
        (OperationKind::VmCreate | OperationKind::VmStart, Some(vm)) => {
            let error = interrupted();
            tokio::spawn(async move {
                let mut watch = vm.watch();
                let reached = watch.wait_for(|vm| vm.state != VmState::Starting).await;
                let running = reached.is_ok_and(|vm| vm.state == VmState::Running);
                handle.finish(if running { Ok(()) } else { Err(error) });
            });
        }
        (OperationKind::VmStop, Some(vm)) => {
            let stopped = matches!(vm.snapshot().state, VmState::Stopped | VmState::Failed);
            handle.finish(if stopped { Ok(()) } else { Err(interrupted()) });
        }
        // Deleting is finished by every start.
        (OperationKind::VmDelete, None) => handle.finish(Ok(())),
        _ => handle.finish(Err(interrupted())),
    }
}
