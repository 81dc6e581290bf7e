//! The side of an operation that does the work.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use banger_core::work::{CancelGuard, Cancelled, Work};
use banger_types::operation::{
    FinishedPhase, Operation, OperationStatus, Product, Progress, ProgressPart, Unit,
};
use banger_types::space::Pruned;
use banger_types::{ApiError, ErrorKind, OperationId};

use super::cancel::Cancel;
use super::pace::Pace;
use super::record::{Record, Remember};
use super::registry::Ended;
use super::turns::{Place, Turn};
use crate::failure::cancelled;
use crate::fault;

/// Progress is passed on no more often than this: nobody reads quicker.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Most that an operation may log, bytes.
const LOG_LIMIT: u64 = 4 << 20;

/// An operation that is under way. Whoever drops the last handle without finishing it has lost it:
/// it is then marked as failed.
pub(crate) struct Handle {
    id: OperationId,
    record: Arc<Record>,
    cancel: Cancel,
    log: Mutex<Log>,
    pace: Mutex<Pace>,
    parts: Mutex<Parts>,
    place: Mutex<Option<Place>>,
    turn: Mutex<Option<Turn>>,
    ended: Ended,
    /// The daemon ends: work that is dropped is not lost, but left to the next one.
    ending: Arc<AtomicBool>,
}

/// What goes on side by side.
#[derive(Default)]
struct Parts {
    all: Vec<ProgressPart>,
    told: Option<Instant>,
}

struct Log {
    file: Option<std::fs::File>,
    left: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    pub(super) fn new(
        (record, cancel): (Arc<Record>, Cancel),
        place: Option<Place>,
        log: Option<std::fs::File>,
        ended: Ended,
        ending: Arc<AtomicBool>,
    ) -> Self {
        Self {
            id: record.snapshot().id,
            record,
            cancel,
            log: Mutex::new(Log { file: log, left: LOG_LIMIT }),
            pace: Mutex::new(Pace::new(Instant::now())),
            parts: Mutex::default(),
            place: Mutex::new(place),
            turn: Mutex::new(None),
            ended,
            ending,
        }
    }

    pub(crate) const fn id(&self) -> &OperationId {
        &self.id
    }

    pub(crate) fn snapshot(&self) -> Operation {
        self.record.snapshot()
    }

    /// Waits until it is this operation's turn. To be called before anything of it is done.
    pub(crate) async fn turn(&self) -> Result<(), ApiError> {
        let place = lock(&self.place).take();
        let turn = match place {
            None => None,
            Some(Place::Now(turn)) => Some(turn),
            Some(Place::Later(turn)) => tokio::select! {
                turn = turn => turn.ok(),
                () = self.cancelled() => return Err(cancelled("it had not begun")),
            },
        };
        *lock(&self.turn) = turn;
        if self.started() { Ok(()) } else { Err(cancelled("it had not begun")) }
    }

    /// It waits no more. Returns whether it is to be done: nobody has cancelled it meanwhile.
    pub(crate) fn started(&self) -> bool {
        self.change(Remember::First, |operation| {
            let waited = operation.status == OperationStatus::Pending;
            waited.then(|| operation.status = OperationStatus::Running)
        });
        lock(&self.pace).begin(Instant::now());
        self.snapshot().status == OperationStatus::Running
    }

    /// Waits for a cancel.
    pub(crate) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// From now on a cancel is refused: the work is past the point where it could be undone. Returns whether it may go past
    /// that: not if somebody has cancelled it before.
    pub(crate) fn forbid_cancel(&self) -> bool {
        let mut may_go_on = false;
        self.change(Remember::No, |operation| {
            may_go_on = operation.status != OperationStatus::Cancelling;
            (may_go_on && std::mem::replace(&mut operation.may_cancel, false)).then_some(())
        });
        may_go_on
    }

    /// What comes now could be undone again.
    pub(crate) fn allow_cancel(&self) {
        self.change(Remember::No, |operation| {
            let refused = !std::mem::replace(&mut operation.may_cancel, true);
            refused.then_some(())
        });
    }

    /// Says what has been made.
    pub(crate) fn made(&self, id: Option<&str>, name: &str) {
        let product = Product { id: id.map(str::to_owned), name: name.to_owned() };
        self.change(Remember::No, |operation| {
            operation.made = Some(product);
            Some(())
        });
    }

    /// Says what is gone so far. That is remembered: nothing brings it back.
    pub(crate) fn pruned(&self, pruned: Pruned) {
        self.change(Remember::First, |operation| {
            operation.pruned = Some(pruned);
            Some(())
        });
    }

    /// Tells whoever asked something that they should know. Said once.
    pub(crate) fn warn(&self, warning: String) {
        self.log(&format!("warning: {warning}"));
        self.change(Remember::No, |operation| {
            let new = !operation.warnings.contains(&warning);
            new.then(|| operation.warnings.push(warning))
        });
    }

    /// Says how far one of the things is that go on side by side.
    pub(crate) fn part(&self, part: ProgressPart) {
        let parts = {
            let mut parts = lock(&self.parts);
            let now = Instant::now();
            let recent = parts.told.is_some_and(|told| now.duration_since(told) < PROGRESS_INTERVAL);
            if let Some(known) = parts.all.iter_mut().find(|known| known.name == part.name) {
                *known = part;
                if recent {
                    return;
                }
            } else {
                parts.all.push(part);
            }
            parts.told = Some(now);
            parts.all.clone()
        };
        self.show_parts(parts);
    }

    /// It goes on no more.
    pub(crate) fn part_ended(&self, name: &str) {
        let parts = {
            let mut parts = lock(&self.parts);
            parts.all.retain(|part| part.name != name);
            parts.all.clone()
        };
        self.show_parts(parts);
    }

    fn show_parts(&self, parts: Vec<ProgressPart>) {
        self.change(Remember::No, |operation| {
            operation.progress.as_mut().map(|progress| progress.parts = parts)
        });
    }

    fn change(&self, remember: Remember, change: impl FnOnce(&mut Operation) -> Option<()>) {
        let (_, remembered) = self.record.change(remember, |operation| {
            // What has ended stays as it is.
            if operation.status.is_final() { None } else { change(operation) }
        });
        if let Err(error) = remembered {
            tracing::error!(operation = %self.id, %error, "cannot remember an operation's state");
        }
    }

    /// Ends the operation. Only the first call counts.
    pub(crate) fn finish(&self, result: Result<(), ApiError>) {
        if let Err(error) = &result
            && !self.snapshot().status.is_final()
        {
            self.log(&format!("failed: {error}: {}", error.why.join(": ")));
        }
        let (ended, remembered) = self.record.change(Remember::First, |operation| {
            if operation.status.is_final() {
                return None;
            }
            self.close_phase(operation);
            operation.may_cancel = false;
            operation.status = match &result {
                Ok(()) => OperationStatus::Succeeded,
                Err(error) if error.kind == ErrorKind::Cancelled => OperationStatus::Cancelled,
                Err(_) => OperationStatus::Failed,
            };
            operation.error = result.err();
            Some(())
        });
        if ended.is_none() {
            return;
        }
        lock(&self.place).take();
        lock(&self.turn).take();
        let operation = self.snapshot();
        tracing::info!(operation = %self.id, status = %operation.status, subject = operation.subject, "ended");
        match remembered {
            Ok(()) => self.ended.forget(&self.id),
            Err(error) => {
                tracing::error!(operation = %self.id, %error, "cannot remember how an operation ended");
            }
        }
    }

    fn close_phase(&self, operation: &mut Operation) {
        let mut pace = lock(&self.pace);
        let now = Instant::now();
        if let Some(progress) = &mut operation.progress {
            operation.finished_phases.push(FinishedPhase {
                stage: progress.stage.clone(),
                duration_ms: u64::try_from(pace.elapsed(now).as_millis()).unwrap_or(u64::MAX),
            });
            (progress.rate, progress.remaining_ms) = (None, None);
            progress.parts.clear();
        }
        pace.begin(now);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.ending.load(Ordering::Acquire) {
            return;
        }
        self.finish(Err(ApiError::new(ErrorKind::Failed, "the operation was abandoned")
            .because("this is a mistake in bangerd; its log has more")));
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Work for Handle {
    fn stage(&self, stage: &str) {
        self.log(stage);
        self.change(Remember::No, |operation| {
            self.close_phase(operation);
            operation.progress = Some(Progress::of(stage));
            Some(())
        });
        fault::reach_phase(stage);
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: Unit) {
        let (rate, remaining_ms) = {
            let mut pace = lock(&self.pace);
            let now = Instant::now();
            if pace.is_too_soon(now, PROGRESS_INTERVAL) && total != Some(done) {
                return;
            }
            pace.note(now, done);
            let rate = pace.rate().filter(|_| unit == Unit::Bytes);
            (rate, rate.and_then(|rate| total?.saturating_sub(done).saturating_mul(1000).checked_div(rate)))
        };
        self.change(Remember::No, |operation| {
            let progress = operation.progress.as_mut()?;
            (progress.done, progress.total, progress.unit) = (done, total, unit);
            (progress.rate, progress.remaining_ms) = (rate, remaining_ms);
            Some(())
        });
    }

    fn log(&self, line: &str) {
        let mut log = lock(&self.log);
        let needed = line.len() as u64 + 1;
        if log.left < needed {
            return;
        }
        log.left -= needed;
        if let Some(file) = &mut log.file {
            // A log that cannot be written must not fail the work that it tells of.
            writeln!(file, "{line}").ok();
        }
    }

    fn check(&self) -> Result<(), Cancelled> {
        if self.cancel.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        self.cancel.on_cancel(notify)
    }
}
