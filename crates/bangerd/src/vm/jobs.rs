//! What is done for a request, beside the VM's task so that the task can go on listening.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use banger_core::engine::{Engine, EngineError};
use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Request};
use banger_core::work::Work as _;
use banger_host::MonitorError;
use banger_types::guest::GuestRequest;
use banger_types::vm::{Vm, VmState, VmStopRequest};
use banger_types::{ApiError, ErrorKind, VmId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::boot::{self, unix_time_ns};
use super::context::{Context, blocking};
use super::remove::remove_files;
use super::task::{Event, monitor};
use crate::failure::{cancelled, failed};
use crate::operation::Handle;

/// How long a guest may take to its first session. Emulated on a busy host, a large image takes a
/// minute; a guest that takes longer than this hangs.
const BOOT_LIMIT: Duration = Duration::from_mins(5);

/// What a job works with.
pub(super) struct Terms {
    pub(super) context: Arc<Context>,
    pub(super) record: VmRecord,
    pub(super) request: Request,
    pub(super) stop: VmStopRequest,
    pub(super) operation: Arc<Handle>,
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
            Request::Restart => self.restart().await,
            Request::Stop => self.stop().await,
            Request::Kill => self.kill().await,
            Request::Delete { .. } => self.delete().await,
        }
    }

    fn name(&self) -> &str {
        self.terms.record.name.as_str()
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
        boot::prepare(&self.terms.context, &self.terms.record).await?;
        operation.check().map_err(|_| cancelled(what.as_str()))?;
        operation.stage("start the VMM");
        self.observe(Observation::Launching).await;
        if let Err(error) = self.launch().await {
            self.abandon().await;
            self.observe(Observation::LaunchFailed(first_reason(&error))).await;
            return Err(error);
        }
        operation.stage("boot the guest");
        let outcome = self.until(|state| !matches!(state, VmState::Starting), BOOT_LIMIT).await;
        match outcome {
            Outcome::Reached(VmState::Running) => Ok(()),
            Outcome::Reached(_) => {
                let reason = self.terms.published.borrow().reason.clone();
                Err(self.boot_failure(what, reason.unwrap_or_else(|| "the VM ended".to_owned())))
            }
            Outcome::Interrupted => {
                // A request that waits will end the VM itself; a cancel has nobody else to.
                if !self.give_way.is_cancelled() {
                    self.kill().await?;
                }
                Err(cancelled(what))
            }
            Outcome::TooLate => {
                let error = self.boot_failure(what, "the guest did not become ready".to_owned());
                self.kill().await?;
                Err(error)
            }
        }
    }

    fn boot_failure(&self, what: String, reason: String) -> ApiError {
        let directory = self.terms.context.layout.vm(&self.terms.record.id);
        let mut error = ApiError::new(ErrorKind::Failed, what).because(reason);
        for line in boot::last_words(&directory) {
            error = error.because(format!("console: {line}"));
        }
        error.fix(format!("see `banger vm logs {}`", self.name()))
    }

    async fn launch(&self) -> Result<(), ApiError> {
        let directory = self.terms.context.layout.vm(&self.terms.record.id);
        let what = format!("cannot start '{}'", self.name());
        let monitor_error = |error| failed(what.as_str(), &error);
        self.terms.context.launcher.launch(&directory).await.map_err(monitor_error)?;
        for forward in &self.terms.record.spec.forwards {
            let mut connection =
                monitor(&self.terms.context, &self.terms.record.id).map_err(monitor_error)?;
            connection.add_forward(forward.clone()).await.map_err(|error| {
                ApiError::caused_by(ErrorKind::Conflict, what.as_str(), &error)
                    .fix("use another port of the host with -p")
            })?;
        }
        let connection = monitor(&self.terms.context, &self.terms.record.id).map_err(monitor_error)?;
        let stream = connection.watch().await.map_err(monitor_error)?;
        self.terms.events.send(Event::Attached(stream)).await.ok();
        Ok(())
    }

    /// Nothing of a launch that failed is left.
    async fn abandon(&self) {
        if let Ok(mut connection) = monitor(&self.terms.context, &self.terms.record.id) {
            connection.kill().await.ok();
        }
    }

    async fn pause(&self) -> Result<(), ApiError> {
        self.terms.operation.forbid_cancel();
        self.terms.operation.stage("pause the VM");
        self.ask_engine("pause", |engine, directory| engine.pause(directory)).await?;
        self.observe(Observation::Paused).await;
        Ok(())
    }

    async fn resume(&self) -> Result<(), ApiError> {
        self.terms.operation.forbid_cancel();
        self.terms.operation.stage("resume the VM");
        self.ask_engine("resume", |engine, directory| engine.resume(directory)).await?;
        // The guest's clock stood still with it. One that cannot be asked is told when its agent is back.
        if let Err(error) = set_clock(&self.terms.context, &self.terms.record.id).await {
            self.terms.operation.log(&format!("the guest's clock was not set: {error}"));
        }
        self.observe(Observation::Resumed).await;
        Ok(())
    }

    async fn ask_engine(
        &self,
        verb: &str,
        ask: impl FnOnce(&dyn Engine, &Path) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), ApiError> {
        let what = format!("cannot {verb} '{}'", self.name());
        let directory = self.terms.context.layout.vm(&self.terms.record.id);
        let engine = Arc::clone(&self.terms.context.engine);
        let asked = blocking(&format!("{verb} a VM"), move || ask(engine.as_ref(), &directory)).await?;
        asked.map_err(|error| failed(what, &error))
    }

    async fn restart(&mut self) -> Result<(), ApiError> {
        if self.terms.published.borrow().state.is_alive() {
            self.stop().await?;
        }
        self.start().await
    }

    async fn stop(&mut self) -> Result<(), ApiError> {
        let operation = Arc::clone(&self.terms.operation);
        operation.forbid_cancel();
        if self.terms.published.borrow().state == VmState::Paused {
            // A guest that stands still does not hear that it is to end.
            self.resume().await?;
        }
        let action = self.terms.stop.action;
        let asked = match monitor(&self.terms.context, &self.terms.record.id) {
            Ok(mut connection) => {
                operation.stage("ask the guest to stop");
                connection.guest(GuestRequest::Shutdown(action)).await.map(drop)
            }
            Err(error) => Err(error),
        };
        self.observe(Observation::StopAsked).await;
        if let Err(error) = asked {
            operation.log(&format!("the guest cannot be asked: {error}"));
            return self.kill().await;
        }
        operation.stage("wait for the guest");
        let limit = Duration::from_millis(self.terms.stop.timeout_ms);
        match self.until(|state| !state.is_alive(), limit).await {
            Outcome::Reached(_) => Ok(()),
            Outcome::Interrupted => Err(cancelled(format!("stopping '{}' was overtaken", self.name()))),
            Outcome::TooLate => {
                operation.log("the guest took too long");
                self.kill().await
            }
        }
    }

    async fn kill(&mut self) -> Result<(), ApiError> {
        self.terms.operation.forbid_cancel();
        self.terms.operation.stage("end the VMM");
        self.observe(Observation::StopAsked).await;
        let what = format!("cannot end '{}'", self.name());
        match monitor(&self.terms.context, &self.terms.record.id) {
            Ok(mut connection) => match connection.kill().await {
                // It may have ended by itself in this very moment.
                Ok(()) | Err(MonitorError::Connection(_)) => {}
                Err(error) => return Err(failed(what, &error)),
            },
            // No monitor, no VMM.
            Err(MonitorError::Unreachable(_)) => {}
            Err(error) => return Err(failed(what, &error)),
        }
        // The end arrives by the monitor's own word, as every end does.
        let mut published = self.terms.published.clone();
        published.wait_for(|vm| !vm.state.is_alive()).await.map(drop).ok();
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), ApiError> {
        if self.terms.published.borrow().state.is_alive() {
            self.kill().await?;
        }
        self.terms.operation.forbid_cancel();
        self.terms.operation.stage("delete the VM");
        self.observe(Observation::DeleteAsked).await;
        let (layout, id) = (self.terms.context.layout.clone(), self.terms.record.id.clone());
        remove_files(&layout.vm(&id)).await?;
        self.terms.context.store("forget a VM", move |store| store.delete_vm(&id)).await
    }

    /// Waits until the VM is in a wanted state, a cancel or a harder request comes, or time is up.
    async fn until(&mut self, wanted: impl Fn(VmState) -> bool, limit: Duration) -> Outcome {
        let mut published = self.terms.published.clone();
        tokio::select! {
            reached = published.wait_for(|vm| wanted(vm.state)) => match reached {
                Ok(vm) => Outcome::Reached(vm.state),
                // The task is gone, and with it the daemon.
                Err(_) => Outcome::Interrupted,
            },
            () = self.terms.operation.cancelled() => Outcome::Interrupted,
            () = self.give_way.cancelled() => Outcome::Interrupted,
            () = tokio::time::sleep(limit) => Outcome::TooLate,
        }
    }
}

enum Outcome {
    Reached(VmState),
    Interrupted,
    TooLate,
}

/// Tells a guest what time it is.
pub(super) async fn set_clock(context: &Context, id: &VmId) -> Result<(), MonitorError> {
    let mut connection = monitor(context, id)?;
    connection.guest(GuestRequest::SetClock(unix_time_ns())).await.map(drop)
}

fn first_reason(error: &ApiError) -> String {
    error.why.first().cloned().unwrap_or_else(|| error.what.clone())
}
