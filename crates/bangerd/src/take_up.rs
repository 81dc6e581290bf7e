//! Operations that an earlier daemon left under way: those that can go on do, and the rest says what became of it.

use std::sync::Arc;

use banger_core::vm::{Request, Wanted};
use banger_types::operation::{Operation, OperationKind};
use banger_types::vm::VmState;
use banger_types::{ApiError, ErrorKind};

use crate::operation::Handle;
use crate::vm::{self, BOOT_LIMIT, Context, VmHandle};

/// Takes all of them up.
pub(crate) async fn take_up_operations(context: &Arc<Context>) -> Result<(), ApiError> {
    let operations = context.store("list operations", |store| store.operations()).await?;
    for operation in operations.into_iter().filter(|operation| !operation.status.is_final()) {
        let vm = context.vms.find(&operation.subject).ok();
        let wanted = match &vm {
            Some(vm) => wanted(context, vm).await,
            None => Wanted::Stopped,
        };
        let left = Left { context: Arc::clone(context), vm, wanted };
        let kind = operation.kind;
        let handle = context.operations.resume(operation);
        tokio::spawn(async move {
            let result = left.go_on(kind, &handle).await;
            handle.finish(result);
        });
    }
    Ok(())
}

async fn wanted(context: &Arc<Context>, vm: &VmHandle) -> Wanted {
    let id = vm.id().clone();
    let records = context.store("look for a VM", |store| store.vms()).await.unwrap_or_default();
    records.into_iter().find(|record| record.id == id).map(|record| record.wanted).unwrap_or_default()
}

/// What there is of an operation's VM now.
struct Left {
    context: Arc<Context>,
    vm: Option<VmHandle>,
    wanted: Wanted,
}

impl Left {
    async fn go_on(&self, kind: OperationKind, handle: &Arc<Handle>) -> Result<(), ApiError> {
        let Some(vm) = &self.vm else {
            // Deleting is finished by every start; all else that has no VM was undone.
            let deleted = kind == OperationKind::VmDelete;
            return if deleted { Ok(()) } else { Err(interrupted(handle, "what it had begun was undone")) };
        };
        let state = vm.snapshot().state;
        match kind {
            OperationKind::VmCreate if !state.is_alive() => {
                let start = self.wanted == Wanted::Running;
                vm::finish(&self.context, vm, start, handle).await
            }
            OperationKind::VmStart | OperationKind::VmRestart if !state.is_alive() => {
                vm.request_within(Request::Start, handle).await
            }
            OperationKind::VmCreate | OperationKind::VmStart | OperationKind::VmRestart => {
                follow_boot(vm, handle).await
            }
            OperationKind::VmStop if state.is_alive() => vm.request_within(Request::Stop, handle).await,
            OperationKind::VmStop => Ok(()),
            OperationKind::VmDelete => {
                vm.request_within(Request::Delete { force: true }, handle).await.or_else(already_deleting)
            }
            OperationKind::VmPause if state == VmState::Running => {
                vm.request_within(Request::Pause, handle).await
            }
            OperationKind::VmResume if state == VmState::Paused => {
                vm.request_within(Request::Resume, handle).await
            }
            OperationKind::VmPause if state == VmState::Paused => Ok(()),
            OperationKind::VmResume if state == VmState::Running => Ok(()),
            OperationKind::VmPause | OperationKind::VmResume => {
                Err(interrupted(handle, &format!("the VM is {state} now")))
            }
            OperationKind::ImagePull | OperationKind::KernelPull => {
                Err(interrupted(handle, "what it had begun was undone"))
            }
        }
    }
}

/// The daemon's start deletes what was being deleted by itself.
fn already_deleting(error: ApiError) -> Result<(), ApiError> {
    if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) { Ok(()) } else { Err(error) }
}

/// Waits for the end of a boot that this daemon has not begun.
async fn follow_boot(vm: &VmHandle, handle: &Arc<Handle>) -> Result<(), ApiError> {
    let mut watch = vm.watch();
    let (ended, cancel) = tokio::select! {
        biased;
        reached = watch.wait_for(|vm| vm.state != VmState::Starting) => {
            (reached.is_ok_and(|vm| matches!(vm.state, VmState::Running | VmState::Paused)), false)
        }
        () = handle.cancelled() => (false, true),
        () = tokio::time::sleep(BOOT_LIMIT) => (false, false),
    };
    if ended {
        return Ok(());
    }
    if vm.snapshot().state == VmState::Starting {
        vm.request_within(Request::Kill, handle).await?;
    }
    if cancel {
        return Err(crate::failure::cancelled(format!("cannot start '{}'", vm.snapshot().name)));
    }
    let reason = vm.snapshot().reason.unwrap_or_else(|| "the guest did not become ready".to_owned());
    Err(interrupted(handle, &reason))
}

fn interrupted(handle: &Handle, became: &str) -> ApiError {
    let operation: Operation = handle.snapshot();
    ApiError::new(ErrorKind::Failed, format!("work on '{}' was interrupted", operation.subject))
        .because(format!("bangerd ended; {became}"))
}
