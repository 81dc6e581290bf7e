//! A part of an operation that may be given up by itself.

use std::sync::{Arc, Mutex, PoisonError};

use banger_core::work::{CancelGuard, Cancelled, Work};
use banger_types::operation::Unit;

use super::Handle;
use super::cancel::Cancel;

/// Work within an operation: it ends when that is cancelled, and when its [`GiveUp`] is dropped.
#[derive(Clone)]
pub(crate) struct Part {
    whole: Arc<Handle>,
    given_up: Cancel,
}

/// Gives a part up when dropped.
pub(crate) struct GiveUp(Cancel);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Part {
    /// Returns a part of an operation, and what whoever waits for it holds.
    pub(crate) fn of(whole: &Arc<Handle>) -> (Self, GiveUp) {
        let given_up = Cancel::default();
        (Self { whole: Arc::clone(whole), given_up: given_up.clone() }, GiveUp(given_up))
    }

    /// Waits for a cancel of the operation, or until the part is given up.
    pub(crate) async fn cancelled(&self) {
        tokio::select! {
            () = self.whole.cancelled() => {}
            () = self.given_up.cancelled() => {}
        }
    }

    /// Tells whoever asked for the operation that they should know. Said once.
    pub(crate) fn warn(&self, warning: String) {
        self.whole.warn(warning);
    }
}

impl Work for Part {
    fn stage(&self, stage: &str) {
        self.whole.stage(stage);
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: Unit) {
        self.whole.progress(done, total, unit);
    }

    fn log(&self, line: &str) {
        self.whole.log(line);
    }

    fn check(&self) -> Result<(), Cancelled> {
        if self.given_up.is_cancelled() { Err(Cancelled) } else { self.whole.check() }
    }

    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        let notify = Arc::new(Mutex::new(Some(notify)));
        let once = || {
            let notify = Arc::clone(&notify);
            Box::new(move || {
                let notify = notify.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(notify) = notify {
                    notify();
                }
            })
        };
        let guards = (self.whole.on_cancel(once()), self.given_up.on_cancel(once()));
        CancelGuard::new(move || drop(guards))
    }
}
