//! The side of an operation that does the work.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use banger_core::store::Store;
use banger_core::work::{CancelGuard, Cancelled, Work};
use banger_types::operation::{FinishedPhase, Operation, OperationStatus, Progress, Unit};
use banger_types::{ApiError, ErrorKind, OperationId};
use tokio::sync::watch;

use super::cancel::Cancel;

/// Progress is passed on no more often than this: nobody reads quicker.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Most that an operation may log, bytes.
const LOG_LIMIT: u64 = 4 << 20;

/// An operation that is under way. Whoever drops the last handle without finishing it has lost it:
/// it is then marked as failed.
pub(crate) struct Handle {
    id: OperationId,
    published: watch::Sender<Operation>,
    cancel: Cancel,
    store: Arc<dyn Store>,
    log: Mutex<Log>,
    pace: Mutex<Pace>,
    /// The daemon ends: work that is dropped is not lost, but left to the next one.
    ending: Arc<AtomicBool>,
}

struct Log {
    file: Option<std::fs::File>,
    left: u64,
}

struct Pace {
    phase_began: Instant,
    last_progress: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    pub(super) fn new(
        published: watch::Sender<Operation>,
        cancel: Cancel,
        store: Arc<dyn Store>,
        log: Option<std::fs::File>,
        ending: Arc<AtomicBool>,
    ) -> Self {
        let id = published.borrow().id.clone();
        Self {
            id,
            published,
            cancel,
            store,
            log: Mutex::new(Log { file: log, left: LOG_LIMIT }),
            pace: Mutex::new(Pace { phase_began: Instant::now(), last_progress: None }),
            ending,
        }
    }

    pub(crate) const fn id(&self) -> &OperationId {
        &self.id
    }

    pub(crate) fn snapshot(&self) -> Operation {
        self.published.borrow().clone()
    }

    /// Waits for a cancel.
    pub(crate) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// From now on a cancel is refused: the work is past the point where it could be undone.
    pub(crate) fn forbid_cancel(&self) {
        self.published.send_modify(|operation| operation.may_cancel = false);
    }

    /// Tells whoever asked something that they should know. Said once.
    pub(crate) fn warn(&self, warning: String) {
        self.log(&format!("warning: {warning}"));
        self.published.send_if_modified(|operation| {
            let new = !operation.warnings.contains(&warning);
            if new {
                operation.warnings.push(warning);
            }
            new
        });
    }

    /// Ends the operation. Only the first call counts.
    pub(crate) fn finish(&self, result: Result<(), ApiError>) {
        if self.published.borrow().status.is_final() {
            return;
        }
        if let Err(error) = &result {
            self.log(&format!("failed: {error}: {}", error.why.join(": ")));
        }
        let mut operation = self.snapshot();
        self.close_phase(&mut operation);
        operation.may_cancel = false;
        operation.updated_at = jiff::Timestamp::now();
        operation.status = match &result {
            Ok(()) => OperationStatus::Succeeded,
            Err(error) if error.kind == ErrorKind::Cancelled => OperationStatus::Cancelled,
            Err(_) => OperationStatus::Failed,
        };
        operation.error = result.err();
        // Remembered before it is shown: who has seen the end will see it again after a restart.
        if let Err(error) = self.store.put_operation(&operation) {
            tracing::error!(operation = %self.id, %error, "cannot remember how an operation ended");
        }
        tracing::info!(operation = %self.id, status = ?operation.status, subject = operation.subject, "ended");
        self.published.send_replace(operation);
    }

    fn close_phase(&self, operation: &mut Operation) {
        let mut pace = lock(&self.pace);
        if let Some(progress) = &operation.progress {
            let elapsed = pace.phase_began.elapsed().as_millis();
            operation.finished_phases.push(FinishedPhase {
                stage: progress.stage.clone(),
                duration_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            });
        }
        pace.phase_began = Instant::now();
        pace.last_progress = None;
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
        let mut operation = self.snapshot();
        self.close_phase(&mut operation);
        operation.progress =
            Some(Progress { stage: stage.to_owned(), done: 0, total: None, unit: Unit::None });
        operation.updated_at = jiff::Timestamp::now();
        self.published.send_replace(operation);
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: Unit) {
        {
            let mut pace = lock(&self.pace);
            let recent = pace.last_progress.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL);
            if recent && total != Some(done) {
                return;
            }
            pace.last_progress = Some(Instant::now());
        }
        self.published.send_modify(|operation| {
            if let Some(progress) = &mut operation.progress {
                (progress.done, progress.total, progress.unit) = (done, total, unit);
            }
            operation.updated_at = jiff::Timestamp::now();
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
