//! Operations that an earlier daemon left under way: those that can go on do, and the rest says what became of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use banger_core::store::Store;
use banger_core::vm::{Request, Wanted};
use banger_types::operation::{Operation, OperationKind, OperationStatus};
use banger_types::vm::VmState;
use banger_types::{ApiError, ErrorKind};

use crate::artifact::Artifacts;
use crate::assignment::{self, HandedOn};
use crate::operation::Handle;
use crate::vm::{self, Context, VmHandle, blocking};

/// How long a VM's monitor may take to say when it was started.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// Takes all of them up. Returns the names of the VMs that are deleted by one of them.
pub(crate) async fn take_up_operations(artifacts: &Arc<Artifacts>) -> Result<HashSet<String>, ApiError> {
    let context = artifacts.context();
    let operations = context.store("list operations", |store| store.unfinished_operations()).await?;
    let mut deleted = HashSet::new();
    // In the order in which they were begun: they take their turns in it.
    for operation in operations.into_iter().rev() {
        // An image may be called as a VM is.
        let vm = operation.kind.is_of_vm().then(|| context.vms.find(&operation.subject).ok()).flatten();
        let wanted = match &vm {
            Some(vm) => wanted(context, vm).await,
            None => Wanted::Stopped,
        };
        let (found, pulled) = look_for_artifact(context, &operation).await;
        let cancelling = operation.status == OperationStatus::Cancelling;
        let began = operation.created_at;
        let left = Left { context: Arc::clone(context), vm, wanted, found, pulled, cancelling, began };
        let kind = operation.kind;
        if left.is_to_be_begun_again(kind)
            && let Some(handed_on) = handed_on(context, &operation).await?
        {
            begin_again(artifacts, operation, handed_on).await?;
            continue;
        }
        if kind == OperationKind::VmDelete && !cancelling {
            deleted.insert(operation.subject.clone());
        }
        let handle = context.operations.resume(operation);
        // Before anybody can ask: whoever does must not see that it is under way.
        if let Some(result) = left.settled(kind, &handle) {
            handle.finish(result);
            continue;
        }
        tokio::spawn(async move {
            let result = left.go_on(kind, &handle).await;
            handle.finish(result);
        });
    }
    Ok(deleted)
}

/// Returns what an operation was assigned, if that can be done once more.
async fn handed_on(context: &Arc<Context>, operation: &Operation) -> Result<Option<HandedOn>, ApiError> {
    let id = operation.id.clone();
    let look = move |store: &dyn Store| Ok(store.assignment(&id)?.as_deref().and_then(HandedOn::take_up));
    context.store("look for what is to be done", look).await
}

/// Does what an operation was assigned. What an earlier daemon had begun of it is undone; what came of its downloads is there.
async fn begin_again(
    artifacts: &Arc<Artifacts>,
    operation: Operation,
    handed_on: HandedOn,
) -> Result<(), ApiError> {
    let (context, text) = (Arc::clone(artifacts.context()), handed_on.to_text());
    let begin = move || context.operations.begin_again(operation, &text);
    let handle = blocking("go on with an operation", begin).await?;
    handle.warn("bangerd ended meanwhile; the next one has gone on with this".to_owned());
    let assignment = handed_on.into_assignment();
    let is_vm = assignment.kind() == OperationKind::VmCreate;
    let examining = Arc::clone(artifacts);
    let examine = async move { assignment.examine(&examining, 0).await };
    if is_vm {
        // A VM's name is taken before anybody can ask for it.
        let examined = examine.await;
        assignment::spawn(Arc::clone(artifacts), handle, std::future::ready(examined));
    } else {
        // Files may be where it takes long to look at them.
        assignment::spawn(Arc::clone(artifacts), handle, examine);
    }
    Ok(())
}

async fn wanted(context: &Arc<Context>, vm: &VmHandle) -> Wanted {
    let id = vm.id().clone();
    let records = context.store("look for a VM", |store| store.vms()).await.unwrap_or_default();
    records.into_iter().find(|record| record.id == id).map(|record| record.wanted).unwrap_or_default()
}

/// Returns whether there is an image or a kernel of an operation's name, and whether it was completed since that began.
async fn look_for_artifact(context: &Arc<Context>, operation: &Operation) -> (bool, bool) {
    let (kind, name, began) = (operation.kind, operation.subject.clone(), operation.created_at);
    let look = move |store: &dyn Store| {
        // An image's operation may have made a kernel on its way, perhaps of the same name.
        let made: Vec<_> = match kind {
            OperationKind::KernelPull | OperationKind::KernelRegister | OperationKind::KernelDelete => {
                store.kernels()?.into_iter().map(|kernel| (kernel.name, kernel.created_at)).collect()
            }
            _ => store.images()?.into_iter().map(|image| (image.name, image.created_at)).collect(),
        };
        let found = made.into_iter().find(|(known, _)| *known == name);
        Ok((found.is_some(), found.is_some_and(|(_, made)| made >= began)))
    };
    context.store("look for what was made", look).await.unwrap_or_default()
}

/// Whether an image or a kernel comes of an operation of this kind.
const fn makes_artifact(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::ImagePull
            | OperationKind::ImageRegister
            | OperationKind::KernelPull
            | OperationKind::KernelRegister
    )
}

/// What there is of an operation's VM now.
struct Left {
    context: Arc<Context>,
    vm: Option<VmHandle>,
    wanted: Wanted,
    /// There is an image or a kernel of that name.
    found: bool,
    /// It has been completed since the operation began.
    pulled: bool,
    /// Somebody has cancelled it.
    cancelling: bool,
    /// When the operation was begun.
    began: jiff::Timestamp,
}

impl Left {
    /// Whether nothing has come of an operation, and nobody has cancelled it.
    fn is_to_be_begun_again(&self, kind: OperationKind) -> bool {
        self.vm.is_none() && !self.cancelling && !(makes_artifact(kind) && self.pulled)
    }

    /// Returns how an operation has ended of which nothing is left to do.
    fn settled(&self, kind: OperationKind, handle: &Arc<Handle>) -> Option<Result<(), ApiError>> {
        if makes_artifact(kind) && self.pulled {
            return Some(Ok(()));
        }
        if self.cancelling && (makes_artifact(kind) || kind == OperationKind::EngineInstall) {
            return Some(Err(was_cancelled(handle)));
        }
        if kind == OperationKind::EngineInstall {
            let interrupted = interrupted(handle, "what has come is kept");
            return Some(Err(interrupted.fix("`banger engine install` goes on with it")));
        }
        if kind == OperationKind::Prune {
            let error = if self.cancelling {
                was_cancelled(handle)
            } else {
                interrupted(handle, "what it had not come to was left as it is")
                    .fix("`banger system prune` goes on with it")
            };
            return Some(Err(error));
        }
        if matches!(kind, OperationKind::ImageDelete | OperationKind::KernelDelete) && !self.cancelling {
            let left = Err(interrupted(handle, "it was not deleted"));
            return Some(if self.found { left } else { Ok(()) });
        }
        // Deleting is finished by every start; all else that has no VM was undone.
        let without_vm = || match kind {
            OperationKind::VmDelete => Ok(()),
            _ if self.cancelling => Err(was_cancelled(handle)),
            _ => Err(interrupted(handle, "what it had begun was undone")),
        };
        self.vm.is_none().then(without_vm)
    }

    /// Takes back what an operation has done that was being cancelled.
    async fn undo(&self, kind: OperationKind, vm: &VmHandle, handle: &Arc<Handle>) -> Result<(), ApiError> {
        match kind {
            OperationKind::VmCreate => vm.request_within(Request::Delete { force: true }, handle).await?,
            OperationKind::VmStart | OperationKind::VmRestart if vm.snapshot().state == VmState::Starting => {
                bring_to(vm, Request::Kill, is_at_rest, handle).await?;
            }
            // It came before the cancel did.
            OperationKind::VmStart if vm.snapshot().state == VmState::Running => return Ok(()),
            _ => {}
        }
        Err(was_cancelled(handle))
    }

    async fn go_on(&self, kind: OperationKind, handle: &Arc<Handle>) -> Result<(), ApiError> {
        let Some(vm) = &self.vm else { return Ok(()) };
        // What is past the point where it could be undone takes no cancel.
        if self.cancelling {
            return self.undo(kind, vm, handle).await;
        }
        let state = vm.snapshot().state;
        let ran_before =
            kind == OperationKind::VmRestart && started_at(vm).await.is_none_or(|at| at < self.began);
        match kind {
            OperationKind::VmCreate if !state.is_alive() => {
                let start = self.wanted == Wanted::Running;
                vm::finish(&self.context, vm, start, handle).await
            }
            OperationKind::VmStart | OperationKind::VmRestart if !state.is_alive() => {
                vm.request_within(Request::Start, handle).await
            }
            // It runs as it did before anybody asked.
            OperationKind::VmRestart if ran_before => vm.request_within(Request::Restart, handle).await,
            OperationKind::VmCreate | OperationKind::VmStart | OperationKind::VmRestart => {
                follow_boot(vm, self.context.settings.boot_limit(), handle).await
            }
            OperationKind::VmStop => bring_to(vm, Request::Stop, is_at_rest, handle).await,
            OperationKind::VmKill => bring_to(vm, Request::Kill, is_at_rest, handle).await,
            OperationKind::VmDelete => vm.request_within(Request::Delete { force: true }, handle).await,
            OperationKind::VmPause => {
                bring_to(vm, Request::Pause, |state| state == VmState::Paused, handle).await
            }
            // What was given back is; what was not can be asked for again.
            OperationKind::VmTrim => Err(interrupted(handle, "what it had not come to was left as it is")),
            OperationKind::VmResume => {
                bring_to(vm, Request::Resume, |state| state == VmState::Running, handle).await
            }
            OperationKind::ImagePull
            | OperationKind::ImageRegister
            | OperationKind::ImageDelete
            | OperationKind::KernelPull
            | OperationKind::KernelRegister
            | OperationKind::KernelDelete
            | OperationKind::EngineInstall
            | OperationKind::Prune => Err(interrupted(handle, "what it had begun was undone")),
        }
    }
}

/// When a VM that runs was started: its monitor, which knows, is being asked meanwhile.
async fn started_at(vm: &VmHandle) -> Option<jiff::Timestamp> {
    let mut watch = vm.watch();
    let known = watch.wait_for(|vm| vm.started_at.is_some() || !vm.state.is_alive());
    tokio::time::timeout(WORD_LIMIT, known).await.ok()?.ok()?.started_at
}

fn is_at_rest(state: VmState) -> bool {
    !state.is_alive()
}

/// Asks for what may be so already, or become so just now: whoever knows is being asked meanwhile.
async fn bring_to(
    vm: &VmHandle,
    request: Request,
    is_there: impl Fn(VmState) -> bool,
    handle: &Arc<Handle>,
) -> Result<(), ApiError> {
    match vm.request_within(request, handle).await {
        Err(error) if error.kind == ErrorKind::Conflict && is_there(vm.snapshot().state) => Ok(()),
        other => other,
    }
}

/// Waits for the end of a boot that this daemon has not begun.
async fn follow_boot(vm: &VmHandle, limit: Duration, handle: &Arc<Handle>) -> Result<(), ApiError> {
    let mut watch = vm.watch();
    let (ended, cancel) = tokio::select! {
        biased;
        reached = watch.wait_for(|vm| vm.state != VmState::Starting) => {
            (reached.is_ok_and(|vm| matches!(vm.state, VmState::Running | VmState::Paused)), false)
        }
        () = handle.cancelled() => (false, true),
        () = tokio::time::sleep(limit) => (false, false),
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

/// Returns the error of an operation that was being cancelled when the daemon ended.
fn was_cancelled(handle: &Handle) -> ApiError {
    crate::failure::cancelled(format!("work on '{}' was cancelled", handle.snapshot().subject))
}

fn interrupted(handle: &Handle, became: &str) -> ApiError {
    let operation: Operation = handle.snapshot();
    ApiError::new(ErrorKind::Failed, format!("work on '{}' was interrupted", operation.subject))
        .because(format!("bangerd ended; {became}"))
}
