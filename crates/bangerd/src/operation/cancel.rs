//! One cancel for asynchronous and blocking work alike.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use banger_core::work::CancelGuard;
use tokio_util::sync::CancellationToken;

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Callbacks {
    next: u64,
    waiting: BTreeMap<u64, Callback>,
}

/// A flag that is set once, tells everybody who waits for it, and can be asked at any time.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    token: CancellationToken,
    callbacks: Arc<Mutex<Callbacks>>,
}

impl Cancel {
    pub(crate) fn cancel(&self) {
        let waiting = {
            let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock, so that no callback slips in between and is never called.
            self.token.cancel();
            std::mem::take(&mut callbacks.waiting)
        };
        for callback in waiting.into_values() {
            callback();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(crate) async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    pub(crate) fn on_cancel(&self, callback: Callback) -> CancelGuard {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.token.is_cancelled() {
            drop(callbacks);
            callback();
            return CancelGuard::new(|| ());
        }
        let number = callbacks.next;
        callbacks.next += 1;
        callbacks.waiting.insert(number, callback);
        let shared = Arc::clone(&self.callbacks);
        CancelGuard::new(move || {
            shared.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_callback_is_called_once_whether_it_comes_before_or_after() {
        let cancel = Cancel::default();
        let calls = Arc::new(AtomicU32::new(0));
        let count = |calls: &Arc<AtomicU32>| {
            let calls = Arc::clone(calls);
            Box::new(move || {
                calls.fetch_add(1, Ordering::SeqCst);
            })
        };
        let early = cancel.on_cancel(count(&calls));
        drop(cancel.on_cancel(count(&calls)));
        cancel.cancel();
        cancel.cancel();
        let late = cancel.on_cancel(count(&calls));
        assert_eq!(calls.load(Ordering::SeqCst), 2, "the one taken back is not called");
        drop((early, late));
    }
}
