//! One at a time for each name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by name.
#[derive(Default)]
pub(super) struct SingleFlight(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl SingleFlight {
    /// Waits until nobody else makes the thing of this name.
    pub(super) async fn enter(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for may go.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}
