//! The task that owns one VM: nothing else changes its state.

use std::sync::Arc;
use std::time::Instant;

use banger_core::engine::{RunningVmm, VmmStatus};
use banger_core::store::VmRecord;
use banger_core::vm::{
    Admission, ForwardChanges, Observation, Request, RequestQueue, Restarts, Wanted, wanted_after,
};
use banger_host::{StatusStream, read_last_status};
use banger_types::guest::ShutdownAction;
use banger_types::monitor::{MonitorPhase, MonitorStatus};
use banger_types::operation::OperationKind;
use banger_types::vm::{Vm, VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind};
use tokio::sync::{mpsc, oneshot, watch};

use super::context::Context;
use super::handle::{Asked, Message, Origin, VmHandle};
use super::jobs::{self, Job};
use super::{monitors, watches};
use crate::failure::{FromStore as _, denied};
use crate::operation::Handle;

/// Most messages that wait for a VM's task. More means that it hangs, and who sends is told so.
const QUEUE: usize = 64;

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
    /// Nobody listens to the VMM of this process id any more.
    Unheard(u32),
    /// The VMM said that the host has no room for what its guest has written.
    OutOfSpace(u64),
    /// The process whose end is the VM's has ended.
    OwnerEnded,
    /// A monitor that was mute has gone, or never was there.
    NeverAnswered,
}

/// How a VM is found when the daemon begins, or made.
pub(crate) enum Found {
    /// Nothing of it runs.
    AtRest,
    /// Its monitor was found and tells its states.
    Running(Box<StatusStream>),
    /// Its monitor lives and does not answer.
    Mute,
}

/// Starts the task of a VM.
pub(crate) fn spawn(context: &Arc<Context>, record: VmRecord, found: Found) -> VmHandle {
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
        adopting: false,
        attached: false,
        live: None,
        heard: None,
        inspected: None,
        restarts: Restarts::default(),
        restart_at: None,
        boot_until: None,
        publisher,
        events,
        deleted: false,
    };
    tokio::spawn(task.run(inbox, event_inbox, found));
    VmHandle::new(id, messages, published)
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
        warnings: Vec::new(),
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

pub(super) struct Task {
    pub(super) context: Arc<Context>,
    pub(super) record: VmRecord,
    pub(super) queue: RequestQueue,
    running: Option<Running>,
    waiting: Option<Admitted>,
    /// Counts monitors' connections, so that an old one's last words are not taken for a new one's.
    attachment: u64,
    /// Whether the monitor that is connected was found, and may lack what its daemon did not come to.
    adopting: bool,
    /// Whether a monitor is connected that has not yet said how its VMM ended.
    pub(super) attached: bool,
    pub(super) live: Option<MonitorStatus>,
    /// The VMM, by its process id, that is listened to.
    heard: Option<u32>,
    /// What the VMM of this number said of itself.
    inspected: Option<(u32, VmmStatus)>,
    restarts: Restarts,
    /// When the restart policy starts the VM again.
    restart_at: Option<Instant>,
    /// When a guest that boots without anybody's request (it reboots, or is found booting) has to be up.
    boot_until: Option<Instant>,
    publisher: watch::Sender<Vm>,
    events: mpsc::Sender<Event>,
    deleted: bool,
}

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut events: mpsc::Receiver<Event>,
        found: Found,
    ) {
        watches::owner(&self.record, &self.events);
        self.limit_boot();
        match found {
            Found::AtRest => {}
            Found::Running(stream) => {
                self.adopting = true;
                self.attach(*stream);
                // The host may have slept, or its clock been set, while nobody told the guest.
                watches::set_clock(&self.context, &self.record.id);
            }
            Found::Mute => {
                self.observe(&Observation::MonitorMute).await;
                watches::mute_monitor(&self.context, &self.record.id, &self.events);
            }
        }
        while !self.deleted {
            let restart_at = self.restart_at.map(tokio::time::Instant::from_std);
            let boot_until = self.boot_until.map(tokio::time::Instant::from_std);
            tokio::select! {
                Some(event) = events.recv() => self.take_event(event).await,
                result = jobs::ended(self.running.as_mut().map(|running| &mut running.job)) => {
                    self.job_ended(result).await;
                }
                message = inbox.recv() => match message {
                    Some(Message::Request(asked)) => self.take_request(asked).await,
                    Some(Message::Edit(edit, answer)) => drop(answer.send(self.take_edit(edit).await)),
                    // The daemon lets go of its VMs only when it ends; they go on without it.
                    None => return,
                },
                () = until(restart_at), if self.running.is_none() => self.start_again().await,
                // A start that was asked for has its own limit.
                () = until(boot_until), if self.running.is_none() => self.end_boot().await,
            }
        }
    }

    fn attach(&mut self, stream: StatusStream) {
        self.attachment += 1;
        self.attached = true;
        self.heard = None;
        self.inspected = None;
        watches::statuses(stream, self.attachment, &self.events);
    }

    async fn take_event(&mut self, event: Event) {
        match event {
            Event::Observed(observation, remembered) => {
                self.observe(&observation).await;
                remembered.send(()).ok();
            }
            Event::Attached(stream) => self.attach(stream),
            Event::Status(attachment, status) if attachment == self.attachment => {
                self.take_status(status).await;
            }
            Event::Detached(attachment) if attachment == self.attachment => self.detached().await,
            Event::Inspected(attachment, status) if attachment == self.attachment => {
                self.take_inspection(status).await;
            }
            Event::OutOfSpace(attachment) if attachment == self.attachment => {
                self.observe(&Observation::OutOfSpace).await;
            }
            Event::Unheard(pid) if self.heard == Some(pid) => self.heard = None,
            // Through a connection that is not the present one.
            Event::Status(..)
            | Event::Detached(_)
            | Event::Inspected(..)
            | Event::OutOfSpace(_)
            | Event::Unheard(_) => {}
            Event::OwnerEnded => self.remove_self("its owner has ended").await,
            Event::NeverAnswered => {
                let directory = self.context.layout.vm(&self.record.id);
                self.observe(&monitors::last_word(&directory)).await;
            }
        }
    }

    async fn take_status(&mut self, status: MonitorStatus) {
        let phase = status.phase.clone();
        let ended = matches!(phase, MonitorPhase::Ended(_));
        self.attached = !ended;
        // Not sooner: a VMM that was only just started has no socket to be asked on.
        if phase == MonitorPhase::Ready && self.heard != Some(status.vmm_pid) {
            self.heard = Some(status.vmm_pid);
            watches::vmm(&self.context, &self.record, self.attachment, status.vmm_pid, &self.events);
        }
        // A guest that reboots by force says nothing before it, and its monitor may have had no time to.
        if self.live.as_ref().is_some_and(|live| live.vmm_pid != status.vmm_pid) {
            let reboot = MonitorPhase::Stopping(ShutdownAction::Reboot);
            self.observe(&Observation::Monitor(reboot)).await;
        }
        if !ended {
            if std::mem::take(&mut self.adopting) {
                let changes = ForwardChanges::between(&self.record.spec.forwards, &status.forwards);
                watches::change_forwards(&self.context, &self.record.id, changes);
            }
            self.live = Some(status);
        }
        self.observe(&Observation::Monitor(phase)).await;
    }

    async fn take_inspection(&mut self, status: VmmStatus) {
        self.inspected = self.live.as_ref().map(|live| (live.vmm_pid, status));
        self.publish();
        // A daemon before this one may have ended between a pause and its note of it. Whoever pauses now notes it
        // by itself.
        let quiet = self.running.is_none();
        match (status.running, self.record.published.state) {
            (false, _) if status.out_of_space => self.observe(&Observation::OutOfSpace).await,
            (false, VmState::Running) if quiet => self.observe(&Observation::Paused).await,
            (true, VmState::Paused) if quiet => self.observe(&Observation::Resumed).await,
            _ => {}
        }
    }

    /// The monitor's connection ended: with its last word, or without.
    async fn detached(&mut self) {
        if std::mem::take(&mut self.attached) {
            let directory = self.context.layout.vm(&self.record.id);
            let observation = match read_last_status(&directory).map(|status| status.phase) {
                Some(phase @ MonitorPhase::Ended(_)) => Observation::Monitor(phase),
                _ => Observation::MonitorLost,
            };
            self.observe(&observation).await;
        }
        self.live = None;
        self.publish();
    }

    async fn observe(&mut self, observation: &Observation) {
        let before = self.record.published.state;
        let changed = self.record.published.observe(observation);
        let state = self.record.published.state;
        let ended = changed && before.is_alive() && !state.is_alive() && state != VmState::Deleting;
        if ended {
            self.note_end(observation);
        }
        if before != state {
            self.limit_boot();
        }
        if changed {
            tracing::info!(vm = %self.record.name, %state, reason = self.record.published.reason, "state");
            self.remember().await;
        }
        if !state.is_alive() {
            self.live = None;
        }
        self.publish();
        if ended && self.record.is_removed_at_end() {
            self.remove_self("it has ended").await;
        }
    }

    /// Decides whether a VM that has just ended is started again, and when.
    fn note_end(&mut self, observation: &Observation) {
        let host_shutdown =
            matches!(observation, Observation::Monitor(MonitorPhase::Ended(end)) if end.host_shutdown);
        let (policy, state) = (self.record.spec.restart, self.record.published.state);
        self.record.wanted = wanted_after(policy, self.record.wanted, state, host_shutdown);
        if host_shutdown {
            // It is started again when the host is back.
            return;
        }
        let ran_for = self.live.as_ref().map(running_time).unwrap_or_default();
        let pause = self.restarts.after_end(policy, self.record.wanted, state, ran_for);
        self.restart_at = pause.map(|pause| Instant::now() + pause);
        if let Some(pause) = pause {
            tracing::info!(vm = %self.record.name, ?policy, ?pause, "will be started again");
        }
    }

    fn limit_boot(&mut self) {
        let boots = self.record.published.state == VmState::Starting;
        self.boot_until = boots.then(|| Instant::now() + self.context.boot_limit);
    }

    /// The guest did not come up by itself in time.
    async fn end_boot(&mut self) {
        self.boot_until = None;
        let directory = self.context.layout.vm(&self.record.id);
        let vmm = self.live.as_ref().map(|live| RunningVmm { directory, pid: live.vmm_pid });
        let reason = jobs::why_too_late(&self.context, &self.record, vmm).await;
        self.observe(&Observation::LaunchFailed(reason)).await;
        if let Err(error) = monitors::kill(&self.context.layout.vm(&self.record.id)).await {
            tracing::warn!(vm = %self.record.name, %error, "a boot that failed may have left something");
        }
    }

    async fn start_again(&mut self) {
        self.restart_at = None;
        let (admitted, answer) = oneshot::channel();
        let (request, stop) = (Request::Start, VmStopRequest::default());
        self.take_request(Asked { request, stop, origin: Origin::Own, admitted }).await;
        if let Ok(Err(error)) = answer.await {
            tracing::warn!(vm = %self.record.name, why = ?error.why, "not started again");
        }
    }

    pub(super) fn publish(&self) {
        let live = self.live.as_ref();
        let accelerator = self.inspected.filter(|_| live.is_some()).map(|(_, status)| status.accelerator);
        let restart_at = self.restart_at.and_then(as_timestamp);
        let shown = Vm { accelerator, restart_at, ..shown(&self.context, &self.record, live) };
        self.publisher.send_replace(shown);
    }

    async fn remember(&self) {
        if let Err(error) = self.try_remember().await {
            tracing::error!(vm = %self.record.name, %error, why = ?error.why, "state not remembered");
        }
    }

    async fn try_remember(&self) -> Result<(), ApiError> {
        let record = self.record.clone();
        self.context.store("remember a VM's state", move |store| store.update_vm(&record)).await
    }

    async fn remove_self(&mut self, why: &str) {
        tracing::info!(vm = %self.record.name, why, "removing");
        let (admitted, answer) = oneshot::channel();
        let request = Request::Delete { force: true };
        let asked = Asked { request, stop: VmStopRequest::default(), origin: Origin::Own, admitted };
        self.take_request(asked).await;
        if let Ok(Err(error)) = answer.await {
            tracing::info!(vm = %self.record.name, why = ?error.why, "not removed");
        }
    }

    async fn take_request(&mut self, asked: Asked) {
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
        self.note_wish(request).await;
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

    /// A VM that waits to be started again is not: that is all there is to stop.
    async fn call_restart_off(
        &mut self,
        request: Request,
        stop: VmStopRequest,
        origin: Origin,
    ) -> Result<banger_types::operation::Operation, ApiError> {
        self.note_wish(request).await;
        self.publish();
        let ticket = self.ticket(request, stop, origin)?;
        let begun = ticket.operation.snapshot();
        settle(ticket, Ok(()));
        Ok(begun)
    }

    /// Remembers what the request means for the time after it, and for the next daemon.
    async fn note_wish(&mut self, request: Request) {
        let wanted = match request {
            Request::Start | Request::Restart => Wanted::Running,
            Request::Stop | Request::Kill | Request::Delete { .. } => Wanted::Stopped,
            Request::Pause | Request::Resume => return,
        };
        self.restart_at = None;
        if self.record.wanted != wanted {
            self.record.wanted = wanted;
            self.remember().await;
        }
    }

    fn ticket(&self, request: Request, stop: VmStopRequest, origin: Origin) -> Result<Admitted, ApiError> {
        let (operation, done) = match origin {
            Origin::PartOf(operation, done) => (operation, Some(done)),
            Origin::Own => {
                let terms = matches!(request, Request::Stop | Request::Restart).then(|| stop.clone());
                let begun = self.context.operations.begin(kind(request), self.record.name.as_str(), terms);
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

    async fn job_ended(&mut self, result: Result<(), ApiError>) {
        let Some(Running { admitted, .. }) = self.running.take() else { return };
        if matches!(admitted.request, Request::Start | Request::Restart)
            && let Err(error) = &result
        {
            self.start_failed(error.kind).await;
        }
        self.deleted = matches!(admitted.request, Request::Delete { .. }) && result.is_ok();
        if self.deleted {
            // The name is free before anybody hears that the VM is gone.
            self.context.vms.remove(&self.record.name, &self.record.id);
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
            let pause = self.restarts.after_end(policy, wanted, VmState::Failed, std::time::Duration::ZERO);
            self.restart_at = pause.map(|pause| Instant::now() + pause);
        }
        self.publish();
    }
}

/// How long a VMM has been running.
fn running_time(live: &MonitorStatus) -> std::time::Duration {
    let started = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(live.started_at_ns);
    started.elapsed().unwrap_or_default()
}

fn as_timestamp(at: Instant) -> Option<jiff::Timestamp> {
    let left = at.saturating_duration_since(Instant::now());
    jiff::Timestamp::now().checked_add(left).ok()
}

/// Waits until then; for ever when there is no such time.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
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
        Request::Restart => "restart",
        Request::Stop => "stop",
        Request::Kill => "kill",
        Request::Delete { .. } => "delete",
    }
}
