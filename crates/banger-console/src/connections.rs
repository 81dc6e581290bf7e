//! Connections that are open, and which of them goes when there are too many.
//!
//! Any user of this host can connect. So those who have not shown a session's cookie have a bound of their own, and when they come to
//! that the oldest of them goes: whoever holds connections and says nothing, or reads nothing, keeps nobody out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Most connections at a time of those who have shown no session. A browser has six at most, and shows its session with the first request.
const MOST_STRANGERS: usize = 128;
/// Most connections at a time of all: pages' streams and terminals have bounds of their own, which are below this.
const MOST: usize = 256;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    is_known: AtomicBool,
    closed: CancellationToken,
}

impl Connection {
    /// Takes note that it is of somebody who has signed in.
    pub(crate) fn is_of_session(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Waits until it is to be closed.
    pub(crate) async fn is_to_be_closed(&self) {
        self.closed.cancelled().await;
    }

    fn is_strange(&self) -> bool {
        !self.is_known.load(Ordering::Relaxed)
    }
}

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<VecDeque<Arc<Connection>>>);

impl Connections {
    /// Takes one more in, for which an older one may have to go; nothing if there are too many.
    pub(crate) fn admit(&self) -> Option<Arc<Connection>> {
        let mut open = self.open();
        if open.iter().filter(|it| it.is_strange()).count() >= MOST_STRANGERS
            && let Some(at) = open.iter().position(|it| it.is_strange())
            && let Some(oldest) = open.remove(at)
        {
            oldest.closed.cancel();
        }
        if open.len() >= MOST {
            return None;
        }
        let connection = Arc::new(Connection::default());
        open.push_back(Arc::clone(&connection));
        Some(connection)
    }

    /// Returns what forgets one when it is dropped, whatever has ended it: a panic, too.
    pub(crate) const fn forgetting<'a>(&'a self, one: &'a Arc<Connection>) -> Forgetting<'a> {
        Forgetting { all: self, one }
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a connection when dropped.
pub(crate) struct Forgetting<'a> {
    all: &'a Connections,
    one: &'a Arc<Connection>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.all.open().retain(|it| !Arc::ptr_eq(it, self.one));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_strangers_the_oldest_goes_and_whoever_has_signed_in_stays() {
        let connections = Connections::default();
        let known = connections.admit().unwrap();
        known.is_of_session();
        let strangers: Vec<_> = (0..MOST_STRANGERS).map(|_| connections.admit().unwrap()).collect();
        assert!(strangers.iter().all(|it| !it.closed.is_cancelled()));
        let newest = connections.admit().unwrap();
        let closed: Vec<_> = strangers.iter().map(|it| it.closed.is_cancelled()).collect();
        assert!(closed[0] && !closed[1..].contains(&true), "{closed:?}");
        assert!(!known.closed.is_cancelled() && !newest.closed.is_cancelled());
        drop(connections.forgetting(&strangers[1]));
        connections.admit().unwrap();
        assert!(!strangers[2].closed.is_cancelled(), "there was room");
    }

    #[test]
    fn those_who_have_signed_in_have_a_bound_too() {
        let connections = Connections::default();
        let all: Vec<_> = std::iter::from_fn(|| {
            let connection = connections.admit()?;
            connection.is_of_session();
            Some(connection)
        })
        .take(MOST + 1)
        .collect();
        assert_eq!(all.len(), MOST);
        drop(connections.forgetting(&all[0]));
        assert!(connections.admit().is_some());
    }
}
