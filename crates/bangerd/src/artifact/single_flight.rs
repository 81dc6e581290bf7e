//! One at a time for each name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks by name.
#[derive(Default)]
pub(super) struct SingleFlight {
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Read by everybody who makes something, whatever it is.
    making: Arc<RwLock<()>>,
}

/// The right to make the thing of a name.
pub(super) struct Turn {
    _lock: OwnedMutexGuard<()>,
    _making: OwnedRwLockReadGuard<()>,
}

impl SingleFlight {
    /// Waits until nobody else makes the thing of this name.
    pub(super) async fn enter(&self, name: &str) -> Turn {
        let making = Arc::clone(&self.making).read_owned().await;
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for may go.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        Turn { _lock: lock.lock_owned().await, _making: making }
    }

    /// Keeps everybody from making anything, if nobody does. Does not wait: whoever makes something may enter twice.
    pub(super) fn try_alone(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.making).try_write_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_alone_while_something_is_made() {
        let flights = SingleFlight::default();
        let outer = flights.enter("one").await;
        let inner = flights.enter("two").await;
        assert!(flights.try_alone().is_none());
        drop((outer, inner));
        let alone = flights.try_alone();
        assert!(alone.is_some() && flights.try_alone().is_none());
    }
}
