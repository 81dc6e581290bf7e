//! An operation's one present state: remembered, shown and told of in the same order.

use std::sync::{Arc, Mutex, PoisonError};

use banger_core::store::{Store, StoreError};
use banger_types::event::Change;
use banger_types::operation::Operation;
use tokio::sync::watch;

use crate::event::{Events, Lasting};
use crate::vm::in_place;

/// The present state of an operation of this daemon.
pub(super) struct Record {
    published: watch::Sender<Operation>,
    /// Held from the first look at the state until everybody has the new one.
    changing: Mutex<()>,
    store: Arc<dyn Store>,
    events: Arc<Events>,
}

/// Whether a change outlives the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Remember {
    /// It is remembered before it is shown: who has seen it will see it again after a restart.
    First,
    /// It is shown alone.
    No,
}

impl Record {
    pub(super) fn new(operation: Operation, store: Arc<dyn Store>, events: Arc<Events>) -> Self {
        Self { published: watch::Sender::new(operation), changing: Mutex::new(()), store, events }
    }

    pub(super) fn snapshot(&self) -> Operation {
        self.published.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Operation> {
        self.published.subscribe()
    }

    /// Tells whoever listens of an operation that has just begun.
    pub(super) fn announce(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(self.snapshot(), Lasting::Yes);
    }

    fn tell(&self, operation: Operation, lasting: Lasting) {
        self.events.publish(Change::Operation { operation: Box::new(operation) }, lasting);
    }

    /// Changes the state, unless `change` says that it does not. One that cannot be remembered is shown all the same; the
    /// error is returned.
    pub(super) fn change<T>(
        &self,
        remember: Remember,
        change: impl FnOnce(&mut Operation) -> Option<T>,
    ) -> (Option<T>, Result<(), StoreError>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut operation = self.snapshot();
        let Some(value) = change(&mut operation) else { return (None, Ok(())) };
        operation.updated_at = jiff::Timestamp::now();
        let remembered = match remember {
            Remember::First => in_place(|| self.store.put_operation(&operation)),
            Remember::No => Ok(()),
        };
        self.published.send_replace(operation.clone());
        // Progress alone is of use to nobody who was not listening.
        self.tell(operation, if remember == Remember::First { Lasting::Yes } else { Lasting::No });
        (Some(value), remembered)
    }
}
