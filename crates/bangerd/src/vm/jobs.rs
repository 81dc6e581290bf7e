//! What is done for a request, beside the VM's task so that the task can go on listening.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use banger_core::engine::{Engine, EngineError, RunningVmm};
use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Request};
use banger_core::work::Work as _;
use banger_host::{Allowance, MonitorError, StatusStream};
use banger_types::guest::GuestRequest;
use banger_types::vm::{Accelerator, Vm, VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind, Refusal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::boot::Before;
use super::context::{Context, blocking};
use super::remove::remove_files;
use super::task::Event;
use super::{boot, forwards, monitors, trim, watches};
use crate::failure::{cancelled, failed};
use crate::fault::FaultPoint;
use crate::layout::vm_file;
use crate::operation::{Handle, Part};

/// How long a guest may take to set its clock before its resume counts as done.
const CLOCK_LIMIT: Duration = Duration::from_secs(5);

/// What a job works with.
pub(super) struct Terms {
    pub(super) context: Arc<Context>,
    pub(super) record: VmRecord,
    pub(super) request: Request,
    pub(super) stop: VmStopRequest,
    pub(super) operation: Arc<Handle>,
    /// The operation is the request's own; else the request is a part of another.
    pub(super) is_own: bool,
    pub(super) published: watch::Receiver<Vm>,
    pub(super) events: mpsc::Sender<Event>,
}

/// A request that is being done.
pub(super) struct Job {
    task: JoinHandle<Result<(), ApiError>>,
    give_way: CancellationToken,
}

impl Job {
    /// Tells the job that a harder request waits for it to end.
    pub(super) fn give_way(&self) {
        self.give_way.cancel();
    }
}

/// Begins a job.
pub(super) fn begin(terms: Terms) -> Job {
    let give_way = CancellationToken::new();
    let attempt = Attempt { terms, give_way: give_way.clone() };
    Job { task: tokio::spawn(attempt.run()), give_way }
}

/// Waits for the end of a job; for ever when there is none.
pub(super) async fn ended(job: Option<&mut Job>) -> Result<(), ApiError> {
    match job {
        None => std::future::pending().await,
        Some(job) => match (&mut job.task).await {
            Ok(result) => result,
            Err(error) => Err(failed("the work on the VM ended unexpectedly", &error)),
        },
    }
}

struct Attempt {
    terms: Terms,
    give_way: CancellationToken,
}

impl Attempt {
    async fn run(mut self) -> Result<(), ApiError> {
        match self.terms.request {
            Request::Start => self.start().await,
            Request::Pause => self.pause().await,
            Request::Resume => self.resume().await,
            Request::Trim => self.trim().await,
            Request::Restart => self.restart().await,
            Request::Stop => self.stop().await,
            Request::Kill => self.kill().await,
            Request::Delete { .. } => self.delete().await,
        }
    }

    /// From now on a cancel is refused. One that came before is heeded, unless this is a part of its undoing.
    fn go_past_undoing(&self) -> Result<(), ApiError> {
        if self.terms.operation.forbid_cancel() || !self.terms.is_own {
            return Ok(());
        }
        Err(cancelled(format!("nothing was done to '{}'", self.name())))
    }

    fn name(&self) -> &str {
        self.terms.record.name.as_str()
    }

    fn directory(&self) -> PathBuf {
        self.terms.context.layout.vm(&self.terms.record.id)
    }

    /// Returns its VMM, as far as that is known.
    fn vmm(&self) -> Option<RunningVmm> {
        let pid = self.terms.published.borrow().vmm_pid?;
        Some(RunningVmm { directory: self.directory(), pid })
    }

    fn is_alive(&self) -> bool {
        self.terms.published.borrow().state.is_alive()
    }

    /// Lets the VM's task take an observation in, and waits until it is remembered.
    async fn observe(&self, observation: Observation) {
        let (remembered, answer) = oneshot::channel();
        if self.terms.events.send(Event::Observed(observation, remembered)).await.is_ok() {
            // An error means that the daemon is ending; the next one sees what is there.
            answer.await.ok();
        }
    }

    async fn start(&mut self) -> Result<(), ApiError> {
        let operation = Arc::clone(&self.terms.operation);
        operation.stage("prepare the VM");
        let what = format!("cannot start '{}'", self.name());
        let accelerator = self.accelerator().await?;
        trim::check_disk_is_free(&self.directory().join(vm_file::DISK), &what).await?;
        for warning in boot::prepare(&self.terms.context, &self.terms.record, accelerator).await? {
            operation.warn(warning);
        }
        FaultPoint::StartPrepared.reach();
        operation.check().map_err(|_| cancelled(what.as_str()))?;
        operation.stage("start the VMM");
        let before = Before::now(&self.directory());
        self.observe(Observation::Launching).await;
        FaultPoint::StartAnnounced.reach();
        if let Err(error) = self.launch().await {
            self.abandon().await;
            self.observe(Observation::LaunchFailed(first_reason(&error))).await;
            return Err(error);
        }
        FaultPoint::StartAttached.reach();
        operation.stage("boot the guest");
        let limit = self.terms.context.settings.boot_limit();
        match self.until(|state| state != VmState::Starting, Instant::now() + limit).await {
            Outcome::Reached(VmState::Running | VmState::Paused) => Ok(()),
            Outcome::Reached(_) => Err(self.ended_in_boot(what, before)),
            Outcome::Interrupted => {
                // A request that waits will end the VM itself; a cancel has nobody else to.
                if !self.give_way.is_cancelled() {
                    self.end_vmm().await?;
                }
                Err(cancelled(what))
            }
            Outcome::TooLate => {
                let reason = why_too_late(&self.terms.context, &self.terms.record, self.vmm()).await;
                let error = self.boot_failure(what, reason.clone(), before);
                self.observe(Observation::LaunchFailed(reason)).await;
                self.abandon().await;
                Err(error)
            }
        }
    }

    /// Returns what isolates the guest. To find that out takes a while, which a harder request does not wait for.
    async fn accelerator(&self) -> Result<Accelerator, ApiError> {
        let (part, give_up) = Part::of(&self.terms.operation);
        let accelerator = self.terms.context.accelerator(&self.terms.record, &part);
        tokio::pin!(accelerator);
        tokio::select! {
            biased;
            accelerator = &mut accelerator => accelerator,
            () = self.give_way.cancelled() => {
                drop(give_up);
                accelerator.await.and_then(|_| Err(self.overtaken("starting")))
            }
        }
    }

    fn ended_in_boot(&self, what: String, before: Before) -> ApiError {
        let reason = self.terms.published.borrow().reason.clone();
        self.boot_failure(what, reason.unwrap_or_else(|| "the VM ended".to_owned()), before)
    }

    fn boot_failure(&self, what: String, reason: String, before: Before) -> ApiError {
        let mut error = ApiError::new(ErrorKind::Failed, what).because(reason);
        let words = before.last_words(&self.directory());
        if words.is_empty() {
            error = error.because("nothing was printed on the console");
            // Then it may be the VMM that has something to say.
            for line in before.engines_words(&self.directory()) {
                error = error.because(line);
            }
        }
        for line in words {
            error = error.because(format!("console: {line}"));
        }
        error.fix(format!("see `banger vm logs {}`", self.name()))
    }

    async fn launch(&self) -> Result<(), ApiError> {
        let directory = self.directory();
        let what = format!("cannot start '{}'", self.name());
        let monitor_error = |error| failed(what.as_str(), &error);
        let spec = &self.terms.record.spec;
        let allowance = Allowance { memory: spec.memory, vcpus: spec.vcpus };
        self.terms.context.launcher.launch(&directory, allowance).await.map_err(monitor_error)?;
        FaultPoint::StartLaunched.reach();
        for forward in &self.terms.record.spec.forwards {
            forwards::make_way(&self.terms.context, &self.terms.record.id, forward.listen).await;
            let added = match monitors::open(&self.terms.context, &self.terms.record.id) {
                Ok(mut connection) => connection.add_forward(forward.clone()).await,
                Err(error) => Err(error),
            };
            // A monitor that is gone has a better reason to tell, below.
            if let Err(error @ MonitorError::Refused(_)) = added {
                let error = ApiError::caused_by(ErrorKind::Conflict, what.as_str(), &error);
                return Err(error.fix("use another port of the host with -p, or `banger vm forward rm`"));
            }
        }
        let wanted = self.terms.record.spec.automatic_forwards;
        let told = forwards::set_automatic(&self.terms.context, &self.terms.record.id, wanted).await;
        if let Err(error) = told {
            self.terms.operation.log(&format!("what listens in it is not forwarded: {error}"));
        }
        FaultPoint::StartForwarded.reach();
        let stream = StatusStream::of_launched(&directory).await.map_err(monitor_error)?;
        self.terms.events.send(Event::Attached(stream)).await.ok();
        Ok(())
    }

    /// Nothing of a start that failed is left.
    async fn abandon(&self) {
        if let Err(error) = monitors::kill(&self.directory()).await {
            tracing::warn!(vm = self.name(), %error, "a failed start may have left something");
        }
    }

    /// Gives back what the guest does not use: by its own kernel if it runs, else by one that is booted for that.
    async fn trim(&self) -> Result<(), ApiError> {
        let operation = &self.terms.operation;
        operation.stage("give back what the guest does not use");
        let (context, record) = (&self.terms.context, &self.terms.record);
        let (part, give_up) = Part::of(operation);
        let is_alive = self.is_alive();
        let trimmed = async {
            if is_alive {
                trim::running(context, record, &part).await
            } else {
                trim::at_rest(context, record, &part).await
            }
        };
        tokio::pin!(trimmed);
        tokio::select! {
            biased;
            trimmed = &mut trimmed => trimmed,
            () = self.give_way.cancelled() => {
                drop(give_up);
                // The disk is nobody's again when this ends.
                trimmed.await.and_then(|()| Err(self.overtaken("trimming")))
            }
        }
    }

    async fn pause(&self) -> Result<(), ApiError> {
        self.go_past_undoing()?;
        self.terms.operation.stage("pause the VM");
        self.ask_engine("pause", |engine, vmm| engine.pause(vmm)).await?;
        FaultPoint::PauseDone.reach();
        self.observe(Observation::Paused).await;
        Ok(())
    }

    async fn resume(&self) -> Result<(), ApiError> {
        self.go_past_undoing()?;
        self.terms.operation.stage("resume the VM");
        self.ask_engine("resume", |engine, vmm| engine.resume(vmm)).await?;
        FaultPoint::ResumeDone.reach();
        self.observe(Observation::Resumed).await;
        // The guest's clock stood still with it. A guest that does not answer is told when its agent greets again.
        let told = watches::tell_time(&self.terms.context, &self.terms.record.id);
        let mut published = self.terms.published.clone();
        tokio::select! {
            told = tokio::time::timeout(CLOCK_LIMIT, told) => match told {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.terms.operation.log(&format!("the guest's clock was not set: {error}")),
                Err(_) => self.terms.operation.log("the guest does not say that it has set its clock"),
            },
            Ok(_) = published.wait_for(|vm| vm.state == VmState::Paused) => {}
        }
        // What it could not write is written anew as soon as it goes on; the news that there is still no room for it may
        // have come before the news that it goes on.
        if self.is_out_of_space().await {
            self.observe(Observation::OutOfSpace).await;
            let error = ApiError::new(ErrorKind::Failed, format!("cannot resume '{}'", self.name()));
            return Err(ApiError {
                why: self.terms.published.borrow().reason.iter().cloned().collect(),
                ..error
            });
        }
        Ok(())
    }

    async fn is_out_of_space(&self) -> bool {
        is_out_of_space(&self.terms.context, &self.terms.record, self.vmm()).await
    }

    async fn ask_engine(
        &self,
        verb: &str,
        ask: impl FnOnce(&dyn Engine, &RunningVmm) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let what = format!("cannot {verb} '{}'", self.name());
        let Some(vmm) = self.vmm() else {
            return Err(ApiError::refused(Refusal::State, what).because("it does not run"));
        };
        let engine = self.terms.context.engine(&self.terms.record);
        let asked = blocking(&format!("{verb} a VM"), move || ask(engine.as_ref(), &vmm)).await?;
        asked.map_err(|error| failed(what, &error))
    }

    async fn restart(&mut self) -> Result<(), ApiError> {
        if self.is_alive() {
            self.stop().await?;
        }
        // As with any start.
        self.terms.operation.allow_cancel();
        self.start().await
    }

    async fn stop(&mut self) -> Result<(), ApiError> {
        let operation = Arc::clone(&self.terms.operation);
        self.go_past_undoing()?;
        let until = Instant::now() + Duration::from_millis(self.terms.stop.timeout_ms);
        if self.terms.published.borrow().state == VmState::Paused {
            // A guest that stands still does not hear that it is to end.
            let give_way = self.give_way.clone();
            let resumed = tokio::select! {
                biased;
                resumed = self.resume() => resumed,
                () = give_way.cancelled() => return Err(self.overtaken("stopping")),
            };
            if let Err(error) = resumed {
                if self.is_out_of_space().await {
                    let fix = format!(
                        "make room and stop it again; `banger vm kill {}` loses what it could not write",
                        self.name()
                    );
                    let what = format!("cannot stop '{}'", self.name());
                    return Err(ApiError { what, ..error }.fix(fix));
                }
                operation.log(&first_reason(&error));
                return self.kill().await;
            }
        }
        operation.stage("ask the guest to stop");
        let asked = self.ask_to_stop(until).await;
        FaultPoint::StopAsked.reach();
        self.observe(Observation::StopAsked).await;
        FaultPoint::StopAnnounced.reach();
        match asked {
            Asked::Yes => {}
            Asked::Cannot(reason) => {
                operation.log(&reason);
                return self.kill().await;
            }
            Asked::Interrupted => return Err(self.overtaken("stopping")),
        }
        operation.stage("wait for the guest");
        match self.until(|state| !state.is_alive(), until).await {
            Outcome::Reached(_) => Ok(()),
            Outcome::Interrupted => Err(self.overtaken("stopping")),
            Outcome::TooLate => {
                operation.log(&format!("the guest took longer than {} ms", self.terms.stop.timeout_ms));
                if self.is_out_of_space().await {
                    operation.log("the host's file system has no room for what it writes; that is lost");
                }
                self.kill().await
            }
        }
    }

    fn overtaken(&self, doing: &str) -> ApiError {
        cancelled(format!("{doing} '{}' was overtaken", self.name()))
    }

    /// Asks the guest's agent. It may be anybody's program by now: it is not waited for beyond the limit, nor when
    /// somebody wants a harder end.
    async fn ask_to_stop(&self, until: Instant) -> Asked {
        let ask = async {
            let mut connection = monitors::open(&self.terms.context, &self.terms.record.id)?;
            connection.guest(GuestRequest::Shutdown(self.terms.stop.action)).await
        };
        tokio::select! {
            biased;
            asked = ask => match asked {
                Ok(_) => Asked::Yes,
                Err(error) => Asked::Cannot(format!("the guest cannot be asked: {error}")),
            },
            () = self.give_way.cancelled() => Asked::Interrupted,
            () = tokio::time::sleep_until(until) => Asked::Cannot("the guest does not answer".to_owned()),
        }
    }

    async fn kill(&mut self) -> Result<(), ApiError> {
        self.go_past_undoing()?;
        self.end_vmm().await
    }

    /// Ends the VMM, whatever its guest does.
    async fn end_vmm(&mut self) -> Result<(), ApiError> {
        self.terms.operation.stage("end the VMM");
        self.observe(Observation::StopAsked).await;
        FaultPoint::KillAnnounced.reach();
        let what = format!("cannot end '{}'", self.name());
        monitors::kill(&self.directory()).await.map_err(|error| failed(what, &error))?;
        // The end arrives by the monitor's own word, or by its silence, as every end does.
        let mut published = self.terms.published.clone();
        published.wait_for(|vm| !vm.state.is_alive()).await.map(drop).ok();
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), ApiError> {
        if self.is_alive() {
            self.kill().await?;
        }
        self.go_past_undoing()?;
        self.terms.operation.stage("delete the VM");
        // Whatever the state says: a disk is not taken from under a VMM.
        let what = format!("cannot delete '{}'", self.name());
        monitors::kill(&self.directory()).await.map_err(|error| failed(what, &error))?;
        self.observe(Observation::DeleteAsked).await;
        FaultPoint::DeleteAnnounced.reach();
        // While there is still something that tells whose it is.
        let (places, id) = (Arc::clone(&self.terms.context.places), self.terms.record.id.clone());
        blocking("leave a network", move || places.take_away_now(&id, None)).await?;
        remove_files(&self.directory()).await?;
        FaultPoint::DeleteFilesGone.reach();
        let id = self.terms.record.id.clone();
        self.terms.context.store("forget a VM", move |store| store.delete_vm(&id)).await?;
        FaultPoint::DeleteForgotten.reach();
        self.terms.context.ssh.update(&self.terms.context).await;
        Ok(())
    }

    /// Waits until the VM is in a wanted state, a cancel or a harder request comes, or time is up. What has been
    /// reached wins over what came at the same time.
    async fn until(&mut self, wanted: impl Fn(VmState) -> bool, until: Instant) -> Outcome {
        let mut published = self.terms.published.clone();
        tokio::select! {
            biased;
            reached = published.wait_for(|vm| wanted(vm.state)) => match reached {
                Ok(vm) => Outcome::Reached(vm.state),
                // The task is gone, and with it the daemon.
                Err(_) => Outcome::Interrupted,
            },
            () = self.terms.operation.cancelled() => Outcome::Interrupted,
            () = self.give_way.cancelled() => Outcome::Interrupted,
            () = tokio::time::sleep_until(until) => Outcome::TooLate,
        }
    }
}

/// Why a guest has not become ready in the time that it was given.
pub(super) async fn why_too_late(context: &Context, vm: &VmRecord, vmm: Option<RunningVmm>) -> String {
    if is_out_of_space(context, vm, vmm).await {
        return "the host's file system has no room for what the guest writes".to_owned();
    }
    format!("the guest did not become ready within {} s", context.settings.boot_limit().as_secs())
}

async fn is_out_of_space(context: &Context, vm: &VmRecord, vmm: Option<RunningVmm>) -> bool {
    let Some(vmm) = vmm else { return false };
    let engine = context.engine(vm);
    let asked = blocking("ask a VMM", move || engine.inspect(&vmm)).await;
    matches!(asked, Ok(Ok(status)) if status.out_of_space)
}

/// What came of asking a guest to end.
enum Asked {
    Yes,
    Cannot(String),
    Interrupted,
}

enum Outcome {
    Reached(VmState),
    Interrupted,
    TooLate,
}

fn first_reason(error: &ApiError) -> String {
    error.why.first().cloned().unwrap_or_else(|| error.what.clone())
}
