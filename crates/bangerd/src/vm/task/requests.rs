//! What is asked of a VM, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use banger_core::vm::{Admission, DenyReason, Request, Wanted};
use banger_types::event::{Change, Gone};
use banger_types::operation::{Operation, OperationKind};
use banger_types::vm::{VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind};
use tokio::sync::oneshot;

use super::Task;
use crate::failure::{FromStore as _, cancelled, denied};
use crate::operation::{Handle, Terms};
use crate::vm::context::in_place;
use crate::vm::handle::{Asked, Origin};
use crate::vm::jobs::{self, Job};

/// A request that is let in.
pub(super) struct Admitted {
    request: Request,
    stop: VmStopRequest,
    operation: Arc<Handle>,
    done: Option<oneshot::Sender<Result<(), ApiError>>>,
    /// What was wanted before it was asked for.
    wanted_before: Wanted,
}

impl Admitted {
    /// Whether the operation is its own; else it is a part of another, which knows by itself what a cancel means.
    const fn is_own(&self) -> bool {
        self.done.is_none()
    }
}

/// Waits until a request that waits is cancelled; for ever when there is none.
pub(super) async fn withdrawn(waiting: Option<&Admitted>) {
    match waiting {
        Some(admitted) if admitted.is_own() => admitted.operation.cancelled().await,
        _ => std::future::pending().await,
    }
}

/// A request that is being done.
pub(super) struct Running {
    admitted: Admitted,
    pub(super) job: Job,
}

impl Running {
    /// Whether a VMM is to come of it.
    pub(super) const fn starts(&self) -> bool {
        matches!(self.admitted.request, Request::Start | Request::Restart)
    }
}

impl Task {
    pub(super) async fn take_request(&mut self, asked: Asked) {
        let Asked { request, stop, origin, admitted } = asked;
        let state = self.record.published.state;
        if matches!(request, Request::Stop | Request::Kill) && !state.is_alive() && self.restart_at.is_some()
        {
            let answer = self.call_restart_off(request, stop, origin).await;
            admitted.send(answer).ok();
            return;
        }
        let admission = match self.queue.try_queue(request, state) {
            Ok(admission) => admission,
            Err(reason) => {
                let error = denied(verb(request), self.record.name.as_str(), reason);
                let error = match &self.running {
                    Some(running) if reason == DenyReason::Busy => {
                        error.about(running.admitted.operation.id().clone())
                    }
                    _ => error,
                };
                admitted.send(Err(error)).ok();
                return;
            }
        };
        let waits = matches!(admission, Admission::AfterCancelled(_));
        let mut ticket = match self.ticket(request, stop, origin, waits) {
            Ok(ticket) => ticket,
            Err(error) => {
                // Let in and cannot be begun: its place goes to nobody.
                if admission == Admission::Now {
                    self.queue.finished();
                }
                admitted.send(Err(error)).ok();
                return;
            }
        };
        self.note_wish(request).await;
        admitted.send(Ok(ticket.operation.snapshot())).ok();
        match admission {
            Admission::Now => self.begin(ticket),
            Admission::AfterCancelled(_) => {
                if let Some(running) = &self.running {
                    running.job.give_way();
                }
                if let Some(outdone) = &self.waiting {
                    ticket.wanted_before = outdone.wanted_before;
                }
                if let Some(outdone) = self.waiting.replace(ticket) {
                    let error = ApiError::new(ErrorKind::Cancelled, "another request took its place");
                    settle(outdone, Err(error));
                }
            }
        }
    }

    /// A VM that waits to be started again is not: that is all there is to stop.
    async fn call_restart_off(
        &mut self,
        request: Request,
        stop: VmStopRequest,
        origin: Origin,
    ) -> Result<Operation, ApiError> {
        self.note_wish(request).await;
        self.publish();
        let ticket = self.ticket(request, stop, origin, false)?;
        let begun = ticket.operation.snapshot();
        settle(ticket, Ok(()));
        Ok(begun)
    }

    /// Remembers what the request means for the time after it, and for the next daemon.
    async fn note_wish(&mut self, request: Request) {
        let wanted = match request {
            Request::Start | Request::Restart => Wanted::Running,
            Request::Stop | Request::Kill | Request::Delete { .. } => Wanted::Stopped,
            Request::Pause | Request::Resume | Request::Trim => return,
        };
        self.restart_at = None;
        if self.record.wanted != wanted {
            self.record.wanted = wanted;
            self.remember().await;
        }
    }

    fn ticket(
        &self,
        request: Request,
        stop: VmStopRequest,
        origin: Origin,
        waits: bool,
    ) -> Result<Admitted, ApiError> {
        let (operation, done) = match origin {
            Origin::PartOf(operation, done) => (operation, Some(done)),
            Origin::Own(requester) => {
                let terms = Terms {
                    kind: kind(request),
                    subject: self.record.name.to_string(),
                    stop: matches!(request, Request::Stop | Request::Restart).then(|| stop.clone()),
                    waits,
                    assignment: None,
                    requester,
                };
                let begun = in_place(|| self.context.operations.begin(terms));
                (begun.map_err(ApiError::from_store("begin an operation"))?, None)
            }
        };
        Ok(Admitted { request, stop, operation, done, wanted_before: self.record.wanted })
    }

    fn begin(&mut self, admitted: Admitted) {
        if !admitted.operation.started() && admitted.is_own() {
            self.queue.finished();
            let error = cancelled(format!("nothing was done to '{}'", self.record.name));
            return settle(admitted, Err(error));
        }
        let job = jobs::begin(jobs::Terms {
            context: Arc::clone(&self.context),
            record: self.record.clone(),
            request: admitted.request,
            stop: admitted.stop.clone(),
            operation: Arc::clone(&admitted.operation),
            is_own: admitted.is_own(),
            published: self.publisher.subscribe(),
            events: self.events.clone(),
        });
        self.running = Some(Running { admitted, job });
    }

    /// Nothing comes of the request that waits, and what was wanted before it still is.
    pub(super) async fn withdraw(&mut self) {
        let Some(admitted) = self.waiting.take() else { return };
        self.queue.withdraw();
        if self.record.wanted != admitted.wanted_before {
            self.record.wanted = admitted.wanted_before;
            self.remember().await;
        }
        let error = cancelled(format!("nothing was done to '{}'", self.record.name));
        settle(admitted, Err(error));
    }

    pub(super) async fn job_ended(&mut self, result: Result<(), ApiError>) {
        let Some(Running { admitted, .. }) = self.running.take() else { return };
        self.leave_network();
        if matches!(admitted.request, Request::Start | Request::Restart)
            && let Err(error) = &result
        {
            self.start_failed(error.kind).await;
        }
        self.deleted = matches!(admitted.request, Request::Delete { .. }) && result.is_ok();
        if self.deleted {
            // The name is free before anybody hears that the VM is gone.
            self.context.vms.remove(&self.record.name, &self.record.id);
            let gone = Gone { id: self.record.id.to_string(), name: self.record.name.to_string() };
            self.context.tell(Change::VmDeleted { gone });
        }
        settle(admitted, result);
        if self.queue.finished().is_some()
            && let Some(next) = self.waiting.take()
        {
            // What it waited for may have brought about what it wants.
            let alive = self.record.published.state.is_alive();
            let moot = matches!(next.request, Request::Stop | Request::Kill) && !alive;
            if moot || self.deleted {
                self.queue.finished();
                settle(next, Ok(()));
            } else {
                self.begin(next);
            }
        }
    }

    /// A start that somebody cancelled is not wanted any more; one that failed before anything ran is tried again if
    /// the policy says so, as after any other end.
    async fn start_failed(&mut self, kind: ErrorKind) {
        if self.record.published.state.is_alive() || self.waiting.is_some() {
            return;
        }
        if kind == ErrorKind::Cancelled {
            self.note_wish(Request::Stop).await;
        } else if self.restart_at.is_none() {
            let (policy, wanted) = (self.record.spec.restart, self.record.wanted);
            let pause = self.restarts.after_end(policy, wanted, VmState::Failed, Duration::ZERO);
            self.restart_at = pause.map(|pause| Instant::now() + pause);
        }
        self.publish();
    }
}

fn settle(admitted: Admitted, result: Result<(), ApiError>) {
    match admitted.done {
        Some(done) => drop(done.send(result)),
        None => admitted.operation.finish(result),
    }
}

const fn kind(request: Request) -> OperationKind {
    match request {
        Request::Start => OperationKind::VmStart,
        Request::Pause => OperationKind::VmPause,
        Request::Resume => OperationKind::VmResume,
        Request::Trim => OperationKind::VmTrim,
        Request::Restart => OperationKind::VmRestart,
        Request::Stop => OperationKind::VmStop,
        Request::Kill => OperationKind::VmKill,
        Request::Delete { .. } => OperationKind::VmDelete,
    }
}

const fn verb(request: Request) -> &'static str {
    match request {
        Request::Start => "start",
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Trim => "trim",
        Request::Restart => "restart",
        Request::Stop => "stop",
        Request::Kill => "kill",
        Request::Delete { .. } => "delete",
    }
}
