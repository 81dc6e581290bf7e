//! The task that owns one VM: nothing else changes its state.

use std::error::Error as _;
use std::sync::Arc;

use banger_core::engine::VmmStatus;
use banger_core::store::VmRecord;
use banger_core::vm::{Admission, Observation, Request, RequestQueue};
use banger_host::{MonitorConnection, ProcessWatch, StatusStream, read_last_status};
use banger_types::monitor::{MonitorPhase, MonitorStatus};
use banger_types::operation::{Operation, OperationKind};
use banger_types::vm::{Accelerator, Vm, VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind, VmId};
use tokio::sync::{mpsc, oneshot, watch};

use super::context::{Context, blocking};
use super::jobs::{self, Job};
use crate::failure::{FromStore as _, denied};
use crate::operation::Handle;

/// Most messages that wait for a VM's task. More means that it hangs, and who sends is told so.
const QUEUE: usize = 64;

/// Whose operation a request is part of.
pub(crate) enum Origin {
    /// It gets one of its own.
    Own,
    /// It is a part of this one, which goes on when it hears how the request ended.
    PartOf(Arc<Handle>, oneshot::Sender<Result<(), ApiError>>),
}

struct Message {
    request: Request,
    stop: VmStopRequest,
    origin: Origin,
    admitted: oneshot::Sender<Result<Operation, ApiError>>,
}

/// What jobs and readers tell the task.
pub(super) enum Event {
    /// Something was seen; answered when it is remembered.
    Observed(Observation, oneshot::Sender<()>),
    /// A monitor was found or launched.
    Attached(StatusStream),
    /// A monitor said something. The number tells which attachment it came through.
    Status(u64, MonitorStatus),
    /// A monitor's connection ended.
    Detached(u64),
    /// The VMM said what isolates its guest, and whether that runs.
    Inspected(u64, VmmStatus),
    /// The process whose end is the VM's has ended.
    OwnerEnded,
}

/// A way to a VM's task.
#[derive(Clone)]
pub(crate) struct VmHandle {
    id: VmId,
    messages: mpsc::Sender<Message>,
    published: watch::Receiver<Vm>,
}

impl VmHandle {
    pub(crate) const fn id(&self) -> &VmId {
        &self.id
    }

    /// Returns what is shown of the VM.
    pub(crate) fn snapshot(&self) -> Vm {
        self.published.borrow().clone()
    }

    /// Returns what is shown of the VM, and its changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Vm> {
        self.published.clone()
    }

    /// Asks for something. Returns the operation that does it, or why it is not let through.
    pub(crate) async fn request(
        &self,
        request: Request,
        stop: VmStopRequest,
        origin: Origin,
    ) -> Result<Operation, ApiError> {
        let gone = || ApiError::not_found("VM", self.snapshot().name.as_str());
        let (admitted, answer) = oneshot::channel();
        self.messages.try_send(Message { request, stop, origin, admitted }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ApiError::new(ErrorKind::Conflict, "too many requests for one VM are waiting")
            }
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
    }
}

/// Starts the task of a VM that nothing runs of.
pub(crate) fn spawn(context: &Arc<Context>, record: VmRecord) -> VmHandle {
    start(context, record, None)
}

/// Starts the task of a VM whose monitor was found.
pub(crate) fn adopt(context: &Arc<Context>, record: VmRecord, stream: StatusStream) -> VmHandle {
    start(context, record, Some(stream))
}

fn start(context: &Arc<Context>, record: VmRecord, stream: Option<StatusStream>) -> VmHandle {
    let (messages, inbox) = mpsc::channel(QUEUE);
    let (events, event_inbox) = mpsc::channel(QUEUE);
    let (publisher, published) = watch::channel(shown(context, &record, None));
    let id = record.id.clone();
    let task = Task {
        context: Arc::clone(context),
        record,
        queue: RequestQueue::default(),
        running: None,
        waiting: None,
        attachment: 0,
        attached: false,
        live: None,
        accelerator: None,
        publisher,
        events,
        deleted: false,
    };
    tokio::spawn(task.run(inbox, event_inbox, stream));
    VmHandle { id, messages, published }
}

/// What is shown of a VM.
fn shown(context: &Context, record: &VmRecord, live: Option<&MonitorStatus>) -> Vm {
    let started =
        |status: &MonitorStatus| jiff::Timestamp::from_nanosecond(i128::from(status.started_at_ns)).ok();
    Vm {
        id: record.id.clone(),
        name: record.name.clone(),
        state: record.published.state,
        generation: record.published.generation,
        reason: record.published.reason.clone(),
        spec: record.spec.clone(),
        restart_at: None,
        accelerator: None,
        created_at: record.created_at,
        started_at: live.and_then(started),
        vmm_pid: live.map(|status| status.vmm_pid),
        forwards: live.map(|status| status.forwards.clone()).unwrap_or_default(),
        directory: context.layout.vm(&record.id),
        disk_usage: 0,
    }
}

struct Admitted {
    request: Request,
    stop: VmStopRequest,
    operation: Arc<Handle>,
    done: Option<oneshot::Sender<Result<(), ApiError>>>,
}

struct Running {
    admitted: Admitted,
    job: Job,
}

struct Task {
    context: Arc<Context>,
    record: VmRecord,
    queue: RequestQueue,
    running: Option<Running>,
    waiting: Option<Admitted>,
    /// Counts monitors' connections, so that an old one's last words are not taken for a new one's.
    attachment: u64,
    /// Whether a monitor is connected that has not yet said how its VMM ended.
    attached: bool,
    live: Option<MonitorStatus>,
    /// What the VMM that runs said of itself.
    accelerator: Option<Accelerator>,
    publisher: watch::Sender<Vm>,
    events: mpsc::Sender<Event>,
    deleted: bool,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut events: mpsc::Receiver<Event>,
        stream: Option<StatusStream>,
    ) {
        self.watch_owner();
        if let Some(stream) = stream {
            self.attach(stream);
        }
        while !self.deleted {
            tokio::select! {
                Some(event) = events.recv() => self.take_event(event).await,
                result = jobs::ended(self.running.as_mut().map(|running| &mut running.job)) => {
                    self.job_ended(result);
                }
                message = inbox.recv() => match message {
                    Some(message) => self.take_request(message),
                    // The daemon lets go of its VMs only when it ends; they go on without it.
                    None => return,
                },
            }
        }
        self.context.vms.remove(&self.record.name);
    }

    /// The VM ends with its owner, if it has one.
    fn watch_owner(&self) {
        let Some(owner) = self.record.owner else { return };
        let events = self.events.clone();
        tokio::spawn(async move {
            match ProcessWatch::new(owner) {
                Ok(Some(watch)) => {
                    if let Err(error) = watch.ended().await {
                        tracing::warn!(%error, "cannot watch a VM's owner");
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot watch a VM's owner");
                    return;
                }
            }
            // An error means that the VM is gone already.
            events.send(Event::OwnerEnded).await.ok();
        });
    }

    fn attach(&mut self, mut stream: StatusStream) {
        self.attachment += 1;
        self.attached = true;
        self.accelerator = None;
        let (attachment, events) = (self.attachment, self.events.clone());
        tokio::spawn(async move {
            while let Ok(Some(status)) = stream.next().await {
                if events.send(Event::Status(attachment, status)).await.is_err() {
                    return;
                }
            }
            events.send(Event::Detached(attachment)).await.ok();
        });
    }

    /// Asks the VMM itself, beside everything else: it has the last word on what it is.
    fn inspect(&self) {
        let (attachment, events) = (self.attachment, self.events.clone());
        let (context, id) = (Arc::clone(&self.context), self.record.id.clone());
        tokio::spawn(async move {
            let directory = context.layout.vm(&id);
            let engine = Arc::clone(&context.engine);
            match blocking("ask a VMM", move || engine.inspect(&directory)).await {
                Ok(Ok(status)) => drop(events.send(Event::Inspected(attachment, status)).await),
                Ok(Err(error)) => tracing::warn!(vm = %id, %error, source = ?error.source(), "a VMM is mute"),
                Err(error) => tracing::warn!(vm = %id, %error, "a VMM was not asked"),
            }
        });
    }

    async fn take_event(&mut self, event: Event) {
        match event {
            Event::Observed(observation, remembered) => {
                self.observe(&observation).await;
                remembered.send(()).ok();
            }
            Event::Attached(stream) => self.attach(stream),
            Event::Status(attachment, status) if attachment == self.attachment => {
                let phase = status.phase.clone();
                let ended = matches!(phase, MonitorPhase::Ended(_));
                self.attached = !ended;
                // Not sooner: a VMM that was only just started has no socket to be asked on.
                if phase == MonitorPhase::Ready && self.accelerator.is_none() {
                    self.inspect();
                }
                self.live = (!ended).then_some(status);
                self.observe(&Observation::Monitor(phase)).await;
            }
            Event::Detached(attachment) if attachment == self.attachment => self.detached().await,
            Event::Inspected(attachment, status) if attachment == self.attachment => {
                self.accelerator = Some(status.accelerator);
                // A daemon before this one may have ended between a pause and its note of it. Whoever pauses now
                // notes it, too.
                let quiet = self.running.is_none();
                match (status.running, self.record.published.state) {
                    (false, VmState::Running) if quiet => self.observe(&Observation::Paused).await,
                    (true, VmState::Paused) if quiet => self.observe(&Observation::Resumed).await,
                    _ => self.publish(),
                }
            }
            Event::Status(..) | Event::Detached(_) | Event::Inspected(..) => {}
            Event::OwnerEnded => self.remove_self("its owner has ended").await,
        }
    }

    /// The monitor's connection ended: with its last word, or without.
    async fn detached(&mut self) {
        self.live = None;
        if !std::mem::take(&mut self.attached) {
            return;
        }
        let directory = self.context.layout.vm(&self.record.id);
        let last = read_last_status(&directory).map(|status| status.phase);
        let observation = match last {
            Some(phase @ MonitorPhase::Ended(_)) => Observation::Monitor(phase),
            _ => Observation::MonitorLost,
        };
        self.observe(&observation).await;
    }

    async fn observe(&mut self, observation: &Observation) {
        let changed = self.record.published.observe(observation);
        if changed {
            let state = self.record.published.state;
            tracing::info!(vm = %self.record.name, %state, reason = self.record.published.reason, "state");
            self.remember().await;
        }
        self.publish();
        let ended = matches!(self.record.published.state, VmState::Stopped | VmState::Failed);
        if changed && ended && self.record.is_removed_at_end() && *observation != Observation::Made {
            self.remove_self("it has ended").await;
        }
    }

    fn publish(&self) {
        let accelerator = self.accelerator.filter(|_| self.live.is_some());
        let shown = Vm { accelerator, ..shown(&self.context, &self.record, self.live.as_ref()) };
        self.publisher.send_replace(shown);
    }

    async fn remember(&self) {
        let record = self.record.clone();
        if let Err(error) =
            self.context.store("remember a VM's state", move |store| store.update_vm(&record)).await
        {
            tracing::error!(vm = %self.record.name, %error, why = ?error.why, "state not remembered");
        }
    }

    async fn remove_self(&mut self, why: &str) {
        tracing::info!(vm = %self.record.name, why, "removing");
        let (admitted, answer) = oneshot::channel();
        let request = Request::Delete { force: true };
        let message = Message { request, stop: VmStopRequest::default(), origin: Origin::Own, admitted };
        self.take_request(message);
        if let Ok(Err(error)) = answer.await {
            tracing::info!(vm = %self.record.name, why = ?error.why, "not removed");
        }
    }

    fn take_request(&mut self, message: Message) {
        let Message { request, stop, origin, admitted } = message;
        let state = self.record.published.state;
        let admission = match self.queue.try_queue(request, state) {
            Ok(admission) => admission,
            Err(reason) => {
                let error = denied(verb(request), self.record.name.as_str(), reason);
                admitted.send(Err(error)).ok();
                return;
            }
        };
        let ticket = match self.ticket(request, stop, origin) {
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
        admitted.send(Ok(ticket.operation.snapshot())).ok();
        match admission {
            Admission::Now => self.begin(ticket),
            Admission::AfterCancelled(_) => {
                if let Some(running) = &self.running {
                    running.job.give_way();
                }
                if let Some(outdone) = self.waiting.replace(ticket) {
                    let error = ApiError::new(ErrorKind::Cancelled, "another request took its place");
                    settle(outdone, Err(error));
                }
            }
        }
    }

    fn ticket(&self, request: Request, stop: VmStopRequest, origin: Origin) -> Result<Admitted, ApiError> {
        let (operation, done) = match origin {
            Origin::PartOf(operation, done) => (operation, Some(done)),
            Origin::Own => {
                let kind = match request {
                    Request::Start => OperationKind::VmStart,
                    Request::Pause => OperationKind::VmPause,
                    Request::Resume => OperationKind::VmResume,
                    Request::Restart => OperationKind::VmRestart,
                    Request::Stop | Request::Kill => OperationKind::VmStop,
                    Request::Delete { .. } => OperationKind::VmDelete,
                };
                let begun = self.context.operations.begin(kind, self.record.name.as_str());
                (begun.map_err(ApiError::from_store("begin an operation"))?, None)
            }
        };
        Ok(Admitted { request, stop, operation, done })
    }

    fn begin(&mut self, admitted: Admitted) {
        let job = jobs::begin(jobs::Terms {
            context: Arc::clone(&self.context),
            record: self.record.clone(),
            request: admitted.request,
            stop: admitted.stop.clone(),
            operation: Arc::clone(&admitted.operation),
            published: self.publisher.subscribe(),
            events: self.events.clone(),
        });
        self.running = Some(Running { admitted, job });
    }

    fn job_ended(&mut self, result: Result<(), ApiError>) {
        let Some(Running { admitted, .. }) = self.running.take() else { return };
        self.deleted = matches!(admitted.request, Request::Delete { .. }) && result.is_ok();
        if self.deleted {
            // The name is free before anybody hears that the VM is gone.
            self.context.vms.remove(&self.record.name);
        }
        settle(admitted, result);
        if self.queue.finished().is_some()
            && let Some(next) = self.waiting.take()
        {
            // What it waited for may have brought about what it wants.
            let state = self.record.published.state;
            let moot = matches!(next.request, Request::Stop | Request::Kill) && !state.is_alive();
            if moot {
                self.queue.finished();
                settle(next, Ok(()));
            } else {
                self.begin(next);
            }
        }
    }
}

fn settle(admitted: Admitted, result: Result<(), ApiError>) {
    match admitted.done {
        Some(done) => drop(done.send(result)),
        None => admitted.operation.finish(result),
    }
}

const fn verb(request: Request) -> &'static str {
    match request {
        Request::Start => "start",
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Restart => "restart",
        Request::Stop => "stop",
        Request::Kill => "kill",
        Request::Delete { .. } => "delete",
    }
}

/// Connects to the monitor of a VM.
pub(super) fn monitor(context: &Context, id: &VmId) -> Result<MonitorConnection, banger_host::MonitorError> {
    MonitorConnection::open(&context.layout.vm(id))
}
