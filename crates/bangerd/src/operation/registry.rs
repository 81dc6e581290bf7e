//! All operations that are remembered.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use banger_core::store::{Store, StoreError};
use banger_types::operation::{Operation, OperationKind, OperationStatus};
use banger_types::vm::VmStopRequest;
use banger_types::{ApiError, ErrorKind, OperationId};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::cancel::Cancel;
use super::handle::Handle;
use crate::failure::FromStore as _;
use crate::layout::Layout;
use crate::random;

/// How long an operation that has ended is remembered.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

struct Entry {
    published: watch::Receiver<Operation>,
    cancel: Cancel,
}

/// The operations of this daemon, and of those before it.
pub(crate) struct Operations {
    store: Arc<dyn Store>,
    layout: Layout,
    entries: Mutex<HashMap<OperationId, Entry>>,
    ending: Arc<AtomicBool>,
}

impl Operations {
    pub(crate) fn new(store: Arc<dyn Store>, layout: Layout) -> Self {
        Self { store, layout, entries: Mutex::default(), ending: Arc::default() }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation. It is remembered before anything of it is done; but what makes room is done on a full disk as
    /// well. `stop` says how a guest is stopped, by an operation that does that.
    pub(crate) fn begin(
        &self,
        kind: OperationKind,
        subject: &str,
        stop: Option<VmStopRequest>,
    ) -> Result<Arc<Handle>, StoreError> {
        let now = Timestamp::now();
        let operation = Operation {
            id: random::operation_id(),
            kind,
            subject: subject.to_owned(),
            stop,
            status: OperationStatus::Running,
            progress: None,
            finished_phases: Vec::new(),
            may_cancel: true,
            warnings: Vec::new(),
            error: None,
            created_at: now,
            updated_at: now,
        };
        match self.store.put_operation(&operation).and_then(|()| self.prune(now)) {
            Err(error @ StoreError::Full { .. }) if kind.makes_room() => {
                tracing::warn!(operation = %operation.id, %error, "begun without being remembered");
            }
            other => other?,
        }
        Ok(self.resume(operation))
    }

    /// Takes an operation up that an earlier daemon left.
    pub(crate) fn resume(&self, operation: Operation) -> Arc<Handle> {
        let id = operation.id.clone();
        tracing::info!(operation = %id, kind = ?operation.kind, subject = operation.subject, "begun");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.layout.operation_log(&id))
            .inspect_err(|error| tracing::warn!(operation = %id, %error, "cannot keep its log"))
            .ok();
        let (sender, published) = watch::channel(operation);
        let cancel = Cancel::default();
        self.entries().insert(id, Entry { published, cancel: cancel.clone() });
        Arc::new(Handle::new(sender, cancel, Arc::clone(&self.store), log, Arc::clone(&self.ending)))
    }

    /// Done at each beginning: there is nothing to forget while nothing is begun, and so no timer.
    fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        for id in self.store.prune_operations(now - KEPT)? {
            self.entries().remove(&id);
            fs_err::remove_file(self.layout.operation_log(&id)).ok();
        }
        Ok(())
    }

    /// Returns all operations, newest first; those under way as they stand now.
    pub(crate) fn list(&self) -> Result<Vec<Operation>, StoreError> {
        let mut operations = self.store.operations()?;
        let entries = self.entries();
        for operation in &mut operations {
            if let Some(entry) = entries.get(&operation.id) {
                *operation = entry.published.borrow().clone();
            }
        }
        Ok(operations)
    }

    /// Returns the present state of an operation, and its changes if it is one of this daemon's.
    pub(crate) fn watch(&self, id: &OperationId) -> Result<watch::Receiver<Operation>, ApiError> {
        if let Some(entry) = self.entries().get(id) {
            return Ok(entry.published.clone());
        }
        let remembered = self.store.operations().map_err(ApiError::from_store("look for an operation"))?;
        let operation = remembered.into_iter().find(|operation| operation.id == *id);
        let operation = operation.ok_or_else(|| ApiError::not_found("operation", id.as_str()))?;
        Ok(watch::channel(operation).1)
    }

    /// Asks an operation to stop.
    pub(crate) fn cancel(&self, id: &OperationId) -> Result<Operation, ApiError> {
        let operation = self.watch(id)?.borrow().clone();
        let refused = |reason: &str| {
            Err(ApiError::new(ErrorKind::Conflict, format!("cannot cancel operation {id}")).because(reason))
        };
        if operation.status.is_final() {
            return refused("it has ended");
        }
        if !operation.may_cancel {
            return refused("it is past the point where it could be undone");
        }
        let cancel = self.entries().get(id).map(|entry| entry.cancel.clone());
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
        Ok(operation)
    }

    /// From now on, work that is dropped is left to the next daemon.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Returns the operations of this daemon that are under way.
    pub(crate) fn running(&self) -> Vec<watch::Receiver<Operation>> {
        let entries = self.entries();
        entries
            .values()
            .map(|entry| entry.published.clone())
            .filter(|it| !it.borrow().status.is_final())
            .collect()
    }
}
