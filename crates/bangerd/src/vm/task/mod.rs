//! The task that owns one VM: nothing else changes its state.

mod events;
mod requests;

use std::sync::Arc;
use std::time::Instant;

use banger_core::engine::{RunningVmm, VmmStatus};
use banger_core::store::VmRecord;
use banger_core::vm::{ConfirmedForwards, Observation, Request, RequestQueue, Restarts, wanted_after};
use banger_host::StatusStream;
use banger_types::ApiError;
use banger_types::event::Change;
use banger_types::monitor::{MonitorPhase, MonitorStatus};
use banger_types::vm::{Vm, VmState, VmStopRequest};
use tokio::sync::{mpsc, oneshot, watch};

use super::context::Context;
use super::handle::{Asked, Message, Origin, VmHandle};
use super::jobs;
use super::{monitors, watches};
use crate::operation::Requester;

pub(super) use events::Event;
use requests::{Admitted, Running};

/// Most messages that wait for a VM's task. More means that it hangs, and who sends is told so.
const QUEUE: usize = 64;

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
    let vm = Box::new(published.borrow().clone());
    context.tell(Change::Vm { vm });
    let id = record.id.clone();
    if !matches!(found, Found::AtRest) {
        context.places.adopt(&record, &context.layout.vm(&record.id));
    }
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
        confirmed: ConfirmedForwards::default(),
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
    let alive = record.published.state.is_alive();
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
        isolation: None,
        addresses: alive.then(|| context.places.addresses(&record.id)).flatten(),
        automatic_forwards: live.map(|status| status.automatic.clone()).unwrap_or_default(),
        sockets: live.map(|status| status.sockets.clone()).unwrap_or_default(),
        directory: context.layout.vm(&record.id),
        disk_usage: 0,
        warnings: Vec::new(),
    }
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
    /// What its monitor has said of its forwards when it was asked to change them.
    pub(super) confirmed: ConfirmedForwards,
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
                    Some(Message::Edit(edit, generation, answer)) => {
                        answer.send(self.take_edit(edit, generation).await).ok();
                    }
                    // The daemon lets go of its VMs only when it ends; they go on without it.
                    None => return,
                },
                () = requests::withdrawn(self.waiting.as_ref()) => self.withdraw().await,
                () = until(restart_at), if self.running.is_none() => self.start_again().await,
                // A start that was asked for has its own limit.
                () = until(boot_until), if self.running.is_none() => self.end_boot().await,
            }
        }
    }

    fn attach(&mut self, stream: StatusStream) {
        self.attachment += 1;
        self.attached = true;
        self.confirmed = ConfirmedForwards::default();
        self.heard = None;
        self.inspected = None;
        watches::statuses(stream, self.attachment, &self.events);
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
            self.leave_network();
        }
        self.publish();
        if ended && self.record.is_removed_at_end() {
            self.remove_self("it has ended").await;
        }
    }

    /// A VM that neither runs nor is being started has no place in a network.
    fn leave_network(&self) {
        let starts = self.running.as_ref().is_some_and(Running::starts);
        if !starts && !self.record.published.state.is_alive() {
            self.context.places.take_away(&self.record.id);
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
        self.boot_until = boots.then(|| Instant::now() + self.context.settings.boot_limit());
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
        self.take_request(Asked { request, stop, origin: Origin::Own(Requester::daemon()), admitted }).await;
        if let Ok(Err(error)) = answer.await {
            tracing::warn!(vm = %self.record.name, why = ?error.why, "not started again");
        }
    }

    pub(super) fn publish(&self) {
        let live = self.live.as_ref();
        let accelerator = self.inspected.filter(|_| live.is_some()).map(|(_, status)| status.accelerator);
        let restart_at = self.restart_at.and_then(as_timestamp);
        let shown = Vm { accelerator, restart_at, ..shown(&self.context, &self.record, live) };
        let told = Box::new(shown.clone());
        let changed = self.publisher.send_if_modified(|before| {
            let changed = *before != shown;
            *before = shown;
            changed
        });
        if changed {
            self.context.tell(Change::Vm { vm: told });
        }
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
        let asked = Asked {
            request,
            stop: VmStopRequest::default(),
            origin: Origin::Own(Requester::daemon()),
            admitted,
        };
        self.take_request(asked).await;
        if let Ok(Err(error)) = answer.await {
            tracing::info!(vm = %self.record.name, why = ?error.why, "not removed");
        }
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
