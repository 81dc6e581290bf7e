//! Telling every host that is connected that the guest goes down, before the agent ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use banger_types::guest::ShutdownAction;
use tokio::sync::{mpsc, watch};

/// How long telling may take. A host that does not read is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Held for as long as its holder has not told its host; see [`Stopping::promise`].
#[derive(Debug)]
pub(super) struct Promise {
    _sender: mpsc::Sender<Infallible>,
}

/// Whether, and how, the guest goes down. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Stopping {
    action: Arc<watch::Sender<Option<ShutdownAction>>>,
    promises: Arc<Mutex<Option<mpsc::Sender<Infallible>>>>,
    kept: Arc<Mutex<Option<mpsc::Receiver<Infallible>>>>,
}

impl Default for Stopping {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self {
            action: Arc::new(watch::Sender::new(None)),
            promises: Arc::new(Mutex::new(Some(sender))),
            kept: Arc::new(Mutex::new(Some(receiver))),
        }
    }
}

impl Stopping {
    /// Says that the guest goes down.
    pub(super) fn announce(&self, action: ShutdownAction) {
        self.action.send_replace(Some(action));
    }

    /// Returns where the announcement can be waited for.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<ShutdownAction>> {
        self.action.subscribe()
    }

    /// Promises to tell a host. [`Stopping::told`] waits until the promise is dropped.
    pub(super) fn promise(&self) -> Option<Promise> {
        let sender = self.promises.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Promise { _sender: sender })
    }

    /// Waits, for no longer than a moment, until every host has been told; at once when there is nothing to tell.
    pub(super) async fn told(&self) {
        if self.action.borrow().is_none() {
            return;
        }
        drop(self.promises.lock().unwrap_or_else(PoisonError::into_inner).take());
        let receiver = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut receiver) = receiver {
            let _ = tokio::time::timeout(PATIENCE, receiver.recv()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_promises_but_not_for_ever() {
        let stopping = Stopping::default();
        let promise = stopping.promise();
        stopping.told().await;
        stopping.announce(ShutdownAction::Reboot);
        let start = tokio::time::Instant::now();
        let telling = {
            let stopping = stopping.clone();
            tokio::spawn(async move { stopping.told().await })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!telling.is_finished());
        drop(promise);
        telling.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_millis(300));

        let stopping = Stopping::default();
        let _never_kept = stopping.promise();
        stopping.announce(ShutdownAction::Poweroff);
        let start = tokio::time::Instant::now();
        stopping.told().await;
        assert_eq!(start.elapsed(), PATIENCE);
    }
}
