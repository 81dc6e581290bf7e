//! All operations that are remembered.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use banger_core::store::{Page, Store, StoreError};
use banger_types::operation::{Operation, OperationStatus};
use banger_types::{ApiError, OperationId, Refusal};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cancel::Cancel;
use super::handle::Handle;
use super::record::{Record, Remember};
use super::request::{Keys, Terms};
use super::turns::{Place, Turns};
use crate::event::Events;
use crate::failure::FromStore as _;
use crate::fault::FaultPoint;
use crate::layout::Layout;
use crate::random;
use crate::vm::in_place;

/// What is forgotten is looked for this often, or as often as an operation is kept, if that is less.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// What a user may set of operations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How many run at once of those that take turns.
    pub(crate) at_once: usize,
    /// How long one that has ended is remembered.
    pub(crate) kept: Duration,
}

struct Entry {
    record: Arc<Record>,
    cancel: Cancel,
    /// The next daemon can do it.
    durable: bool,
}

type Entries = Arc<Mutex<HashMap<OperationId, Entry>>>;

fn lock(entries: &Entries) -> MutexGuard<'_, HashMap<OperationId, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an operation that has ended tells.
pub(super) struct Ended(Entries);

impl Ended {
    /// The database knows how it ended: nobody needs more.
    pub(super) fn forget(&self, id: &OperationId) {
        lock(&self.0).remove(id);
    }
}

/// The operations of this daemon, and of those before it.
pub(crate) struct Operations {
    store: Arc<dyn Store>,
    layout: Layout,
    events: Arc<Events>,
    settings: Settings,
    /// Those that are under way, and those whose end could not be remembered.
    entries: Entries,
    keys: Keys,
    turns: Turns,
    ending: Arc<AtomicBool>,
}

impl Operations {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        layout: Layout,
        events: Arc<Events>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let keys = Keys::default();
        for (request, id) in store.request_keys()? {
            keys.remember(&request, &id);
        }
        let turns = Turns::new(settings.at_once);
        let (entries, ending) = Default::default();
        Ok(Self { store, layout, events, settings, entries, keys, turns, ending })
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<OperationId, Entry>> {
        lock(&self.entries)
    }

    /// The keys that requests came with.
    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Begins an operation. It is remembered before anything of it is done; but what makes room is done on a full disk as
    /// well.
    pub(crate) fn begin(&self, terms: Terms) -> Result<Arc<Handle>, StoreError> {
        let now = Timestamp::now();
        let kind = terms.kind;
        let place = kind.takes_turns().then(|| self.turns.next());
        let waits = terms.waits || matches!(place, Some(Place::Later(_)));
        let operation = Operation {
            id: random::operation_id(),
            kind,
            subject: terms.subject,
            asked_by: Some(terms.requester.asker),
            request: terms.requester.key,
            stop: terms.stop,
            status: if waits { OperationStatus::Pending } else { OperationStatus::Running },
            progress: None,
            finished_phases: Vec::new(),
            may_cancel: true,
            warnings: Vec::new(),
            made: None,
            pruned: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        let remembered = match &terms.assignment {
            Some(assignment) => self.store.assign(&operation, assignment),
            None => self.store.put_operation(&operation),
        };
        match remembered {
            Err(error @ StoreError::Full { .. }) if kind.makes_room() => {
                tracing::warn!(operation = %operation.id, %error, "begun without being remembered");
            }
            other => other?,
        }
        if let Some(request) = &operation.request {
            self.keys.remember(request, &operation.id);
        }
        Ok(self.add(operation, place, terms.assignment.is_some()))
    }

    /// Takes an operation up that an earlier daemon left.
    pub(crate) fn resume(&self, operation: Operation) -> Arc<Handle> {
        self.add(operation, None, false)
    }

    /// Takes an operation up that an earlier daemon left, to do it from its beginning. That is begun even if it cannot be
    /// remembered: a daemon that did not start could not be asked to make room.
    pub(crate) fn begin_again(&self, mut operation: Operation, assignment: &str) -> Arc<Handle> {
        let place = operation.kind.takes_turns().then(|| self.turns.next());
        let waits = matches!(place, Some(Place::Later(_)));
        operation.status = if waits { OperationStatus::Pending } else { OperationStatus::Running };
        (operation.progress, operation.may_cancel) = (None, true);
        if let Err(error) = self.store.assign(&operation, assignment) {
            tracing::warn!(operation = %operation.id, %error, "gone on with without being remembered");
        }
        self.add(operation, place, true)
    }

    fn add(&self, operation: Operation, place: Option<Place>, durable: bool) -> Arc<Handle> {
        let id = operation.id.clone();
        tracing::info!(operation = %id, kind = ?operation.kind, subject = operation.subject, "begun");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.layout.operation_log(&id))
            .inspect_err(|error| tracing::warn!(operation = %id, %error, "cannot keep its log"))
            .ok();
        let record = Arc::new(Record::new(operation, Arc::clone(&self.store), Arc::clone(&self.events)));
        let cancel = Cancel::default();
        let entry = Entry { record: Arc::clone(&record), cancel: cancel.clone(), durable };
        self.entries().insert(id, entry);
        record.announce();
        let ended = Ended(Arc::clone(&self.entries));
        Arc::new(Handle::new((record, cancel), place, log, ended, Arc::clone(&self.ending)))
    }

    /// Forgets operations that ended long ago, with their logs, until the daemon ends.
    pub(crate) async fn prune_until(self: Arc<Self>, shutdown: CancellationToken) {
        let interval = PRUNE_INTERVAL.min(self.settings.kept);
        let operations = Arc::clone(&self);
        let sweep = move || operations.remove_lost_logs();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(sweep).await {
            tracing::warn!(%error, "logs of operations that are forgotten are not looked for");
        }
        loop {
            let operations = Arc::clone(&self);
            let prune = move || operations.prune(Timestamp::now());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(prune).await {
                tracing::warn!(%error, "old operations are not forgotten");
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Removes logs of operations that a daemon before this one has forgotten, and was killed.
    fn remove_lost_logs(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for entry in fs_err::read_dir(self.layout.operation_logs())? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|id| id.to_str()).and_then(|id| id.parse().ok());
            // One that is under way is remembered, but for those that make room on a full disk.
            let Some(id): Option<OperationId> = id else { continue };
            if !self.entries().contains_key(&id) && self.store.operation(&id)?.is_none() {
                fs_err::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let kept = SignedDuration::try_from(self.settings.kept).unwrap_or(SignedDuration::MAX);
        // A time before all times forgets nothing.
        let Ok(before) = now.checked_sub(kept) else { return Ok(()) };
        let forgotten = self.store.prune_operations(before)?;
        for id in &forgotten {
            self.entries().remove(id);
            fs_err::remove_file(self.layout.operation_log(id)).ok();
        }
        self.keys.forget(&forgotten);
        Ok(())
    }

    /// Returns operations, newest first; those under way as they stand now.
    pub(crate) fn list(&self, page: &Page<OperationId>) -> Result<Vec<Operation>, StoreError> {
        let mut operations = self.store.operations(page)?;
        let entries = self.entries();
        for operation in &mut operations {
            if let Some(entry) = entries.get(&operation.id) {
                *operation = entry.record.snapshot();
            }
        }
        Ok(operations)
    }

    /// Returns those that are under way.
    pub(crate) fn running(&self) -> Vec<Operation> {
        let entries = self.entries();
        let all = entries.values().map(|entry| entry.record.snapshot());
        all.filter(|operation| !operation.status.is_final()).collect()
    }

    /// Returns those under way that a daemon has to undo before it ends: they concern no VM, which goes on without it, and
    /// the next daemon could not do them.
    pub(crate) fn to_be_undone(&self) -> Vec<OperationId> {
        let entries = self.entries();
        let undone = entries.iter().filter(|(_, entry)| {
            let operation = entry.record.snapshot();
            !entry.durable && !operation.status.is_final() && !operation.kind.is_of_vm()
        });
        undone.map(|(id, _)| id.clone()).collect()
    }

    /// Returns the present state of an operation.
    pub(crate) fn get(&self, id: &OperationId) -> Result<Operation, ApiError> {
        if let Some(entry) = self.entries().get(id) {
            return Ok(entry.record.snapshot());
        }
        let remembered =
            in_place(|| self.store.operation(id)).map_err(ApiError::from_store("look for an operation"))?;
        remembered.ok_or_else(|| ApiError::not_found("operation", id.as_str()))
    }

    /// Returns an operation's changes, if it is under way.
    pub(crate) fn watch(&self, id: &OperationId) -> Option<watch::Receiver<Operation>> {
        self.entries().get(id).map(|entry| entry.record.watch())
    }

    /// Asks an operation to stop. That is remembered before anybody hears of it: a daemon that is killed in between is
    /// followed by one that undoes what was being cancelled. To ask twice is to ask once.
    pub(crate) fn cancel(&self, id: &OperationId) -> Result<Operation, ApiError> {
        let found = self.entries().get(id).map(|entry| (Arc::clone(&entry.record), entry.cancel.clone()));
        let refused = |refusal: Refusal, reason: String| {
            let error = ApiError::refused(refusal, format!("cannot cancel operation {id}"));
            Err(error.about(id.clone()).because(reason))
        };
        let Some((record, cancel)) = found else {
            return refused(Refusal::Ended, format!("it has ended: {}", self.get(id)?.status));
        };
        let (begun, remembered) = record.change(Remember::First, |operation| {
            let takes_it = operation.may_cancel
                && matches!(operation.status, OperationStatus::Pending | OperationStatus::Running);
            takes_it.then(|| operation.status = OperationStatus::Cancelling)
        });
        let operation = record.snapshot();
        if begun.is_some() {
            if let Err(error) = remembered {
                tracing::warn!(operation = %id, %error, "a cancel is not remembered");
            }
            FaultPoint::CancelRemembered.reach();
            cancel.cancel();
            return Ok(operation);
        }
        match operation.status {
            OperationStatus::Cancelling => Ok(operation),
            ended if ended.is_final() => refused(Refusal::Ended, format!("it has ended: {ended}")),
            _ => refused(Refusal::PastCancel, "it is past the point where it could be undone".to_owned()),
        }
    }

    /// From now on, work that is dropped is left to the next daemon.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }
}
