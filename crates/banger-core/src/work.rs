//! The port through which long work reports and hears of its cancel.

use banger_types::operation::Unit;

/// Somebody cancelled the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// What long work is given: somewhere to report to, and a flag to heed.
///
/// Implementations rate-limit what they pass on, so work may report after every buffer.
pub trait Work: Send + Sync {
    /// Begins a phase; the one before it ends. `stage` is for people: "image: unpack packages".
    fn stage(&self, stage: &str);

    /// Says how far the present phase is. `done` counts from the phase's beginning.
    fn progress(&self, done: u64, total: Option<u64>, unit: Unit);

    /// Adds a line to the operation's log.
    fn log(&self, line: &str);

    /// Fails once somebody has cancelled. To be asked at least once for each buffer or item.
    fn check(&self) -> Result<(), Cancelled>;

    /// Calls `notify` once, from any thread, as soon as somebody cancels, or at once if they have.
    /// Dropping the guard takes the call back.
    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard;
}

/// Takes an [`Work::on_cancel`] call back when dropped.
pub struct CancelGuard(Option<Box<dyn FnOnce() + Send>>);

impl CancelGuard {
    /// Returns a guard that calls `forget` when dropped.
    pub fn new(forget: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(forget)))
    }
}

impl std::fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelGuard")
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(forget) = self.0.take() {
            forget();
        }
    }
}

/// Work that nobody watches and nobody cancels: for tests and for work that is too short for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Work for Unwatched {
    fn stage(&self, _stage: &str) {}

    fn progress(&self, _done: u64, _total: Option<u64>, _unit: Unit) {}

    fn log(&self, _line: &str) {}

    fn check(&self) -> Result<(), Cancelled> {
        Ok(())
    }

    fn on_cancel(&self, _notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        CancelGuard(None)
    }
}
