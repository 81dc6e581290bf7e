//! What begins an operation, and the keys that make two requests one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_types::digest::Digest;
use banger_types::operation::{Asker, OperationKind, RequestKey};
use banger_types::vm::VmStopRequest;
use banger_types::{ApiError, OperationId, Refusal};
use tokio::sync::OwnedMutexGuard;

/// Who asks for something.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    pub(crate) asker: Asker,
    pub(crate) key: Option<RequestKey>,
}

impl Requester {
    /// The daemon itself, which keeps to a restart policy or goes on with something.
    pub(crate) fn daemon() -> Self {
        let asker = Asker { program: "bangerd".to_owned(), pid: Some(std::process::id()) };
        Self { asker, key: None }
    }
}

/// What an operation is begun with.
pub(crate) struct Terms {
    pub(crate) kind: OperationKind,
    pub(crate) subject: String,
    /// How a guest is stopped, by an operation that does that.
    pub(crate) stop: Option<VmStopRequest>,
    /// It has to wait for something else than its turn.
    pub(crate) waits: bool,
    /// What the next daemon needs to know to do it, if it can.
    pub(crate) assignment: Option<String>,
    pub(crate) requester: Requester,
}

#[derive(Default)]
struct State {
    known: HashMap<String, (Digest, OperationId)>,
    turns: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// The keys of requests whose operations are remembered.
#[derive(Default)]
pub(crate) struct Keys(Mutex<State>);

impl Keys {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other request with this key is being looked at.
    pub(crate) async fn enter(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut state = self.state();
            // Those that nobody holds or waits for may go.
            state.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(state.turns.entry(key.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Returns the operation that the same request has begun.
    pub(crate) fn operation(&self, request: &RequestKey) -> Result<Option<OperationId>, ApiError> {
        match self.state().known.get(&request.key) {
            None => Ok(None),
            Some((digest, id)) if *digest == request.digest => Ok(Some(id.clone())),
            Some((_, id)) => {
                let what = format!("the idempotency key '{}' is another request's", request.key);
                Err(ApiError::refused(Refusal::KeyTaken, what)
                    .because(format!("operation {id} was begun with it"))
                    .about(id.clone())
                    .fix("give each request a key of its own"))
            }
        }
    }

    pub(super) fn remember(&self, request: &RequestKey, id: &OperationId) {
        self.state().known.insert(request.key.clone(), (request.digest, id.clone()));
    }

    pub(super) fn forget(&self, ids: &[OperationId]) {
        let ids: HashSet<_> = ids.iter().collect();
        self.state().known.retain(|_, (_, id)| !ids.contains(id));
    }
}
