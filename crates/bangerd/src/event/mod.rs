//! The one bus of events: whatever changes is told here, once, to everybody who listens.

mod filter;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_types::event::{Change, Event};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

pub(crate) use filter::{Filter, NamedVm};

/// How many events are kept for clients that come back, and how many one may lag behind.
const KEPT: usize = 1024;

/// Whether an event is kept for clients that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    Yes,
    /// The next one says the same and more.
    No,
}

struct State {
    last: u64,
    kept: VecDeque<Arc<Event>>,
    /// The last event that is kept no more.
    dropped: u64,
}

/// The bus. Telling never waits: who does not listen in time has missed something, and hears so.
pub(crate) struct Events {
    /// What this daemon's numbers begin with: those of the one before it are others.
    epoch: String,
    state: Mutex<State>,
    listeners: broadcast::Sender<(u64, Arc<Event>)>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let state = State { last: 0, kept: VecDeque::new(), dropped: 0 };
        Self {
            epoch: format!("{:x}", jiff::Timestamp::now().as_millisecond()),
            state: Mutex::new(state),
            listeners: broadcast::Sender::new(KEPT),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// Returns the number of an event of this daemon's.
    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.epoch)?.strip_prefix('-')?.parse().ok()
    }

    fn event(&self, number: u64, change: Change) -> Arc<Event> {
        Arc::new(Event { id: self.id(number), at: jiff::Timestamp::now(), change })
    }

    /// Tells everybody.
    pub(crate) fn publish(&self, change: Change, lasting: Lasting) {
        let mut state = self.state();
        if lasting == Lasting::No && self.listeners.receiver_count() == 0 {
            return;
        }
        state.last += 1;
        let event = self.event(state.last, change);
        if lasting == Lasting::Yes {
            if state.kept.len() == KEPT
                && let Some(oldest) = state.kept.pop_front()
            {
                state.dropped = self.number(&oldest.id).unwrap_or(state.dropped);
            }
            state.kept.push_back(Arc::clone(&event));
        }
        // Under the lock, so that the order is the numbers'. Nobody listening is no error.
        self.listeners.send((state.last, event)).ok();
    }

    /// Listens from now on; with the id of an event, to those after it as well. `present` returns what there is now and is to
    /// be heard first: nothing is told while it looks, so that no event after it tells of an earlier state. It must not wait
    /// for anybody who may be telling something.
    pub(crate) fn listen(
        self: &Arc<Self>,
        after: Option<&str>,
        present: impl FnOnce() -> Vec<Change>,
    ) -> Listener {
        let state = self.state();
        let receiver = self.listeners.subscribe();
        let known =
            after.map(|id| self.number(id).filter(|number| (state.dropped..=state.last).contains(number)));
        let backlog: VecDeque<_> = match known {
            None => VecDeque::new(),
            Some(None) => VecDeque::from([self.event(state.last, Change::Missed)]),
            Some(Some(after)) => {
                let later = |event: &&Arc<Event>| self.number(&event.id).is_some_and(|number| number > after);
                state.kept.iter().filter(later).cloned().collect()
            }
        };
        let mut listener = Listener { events: Arc::clone(self), began: state.last, backlog, receiver };
        listener.add(present());
        listener
    }
}

/// Somebody who listens.
pub(crate) struct Listener {
    events: Arc<Events>,
    began: u64,
    backlog: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<(u64, Arc<Event>)>,
}

impl Listener {
    /// Lets it hear of what there is before it hears of what has changed since it listens.
    pub(crate) fn add(&mut self, present: impl IntoIterator<Item = Change>) {
        let told = present.into_iter().map(|change| self.events.event(self.began, change));
        self.backlog.extend(told);
    }

    /// Returns the next event; `None` when there will be none.
    pub(crate) async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.backlog.pop_front() {
            return Some(event);
        }
        match self.receiver.recv().await {
            Ok((_, event)) => Some(event),
            Err(RecvError::Lagged(_)) => {
                // What it reads next is the oldest that is still there.
                let last = self.events.state().last;
                Some(self.events.event(last, Change::Missed))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use banger_types::event::Gone;

    use super::*;

    fn change(number: usize) -> Change {
        let gone = Gone { id: number.to_string(), name: format!("it{number}") };
        Change::VmDeleted { gone }
    }

    fn name(event: &Event) -> &str {
        match &event.change {
            Change::VmDeleted { gone } => &gone.name,
            other => other.name(),
        }
    }

    #[tokio::test]
    async fn a_client_that_comes_back_hears_what_it_missed_and_no_more() {
        let events = Arc::new(Events::new());
        let mut listener = events.listen(None, Vec::new);
        events.publish(change(1), Lasting::Yes);
        events.publish(change(2), Lasting::No);
        events.publish(change(3), Lasting::Yes);
        let first = listener.next().await.unwrap();
        assert_eq!(name(&first), "it1");
        let mut back = events.listen(Some(&first.id), Vec::new);
        events.publish(change(4), Lasting::Yes);
        assert_eq!(name(&back.next().await.unwrap()), "it3");
        assert_eq!(name(&back.next().await.unwrap()), "it4");
        for (number, expected) in [(2, "it2"), (3, "it3"), (4, "it4")] {
            assert_eq!(name(&listener.next().await.unwrap()), expected, "{number}");
        }
    }

    #[tokio::test]
    async fn what_is_not_kept_or_not_this_daemons_is_said_to_be_missed() {
        let events = Arc::new(Events::new());
        for number in 0..=KEPT {
            events.publish(change(number), Lasting::Yes);
        }
        let id = |number: u64| events.id(number);
        for lost in [id(0), id(KEPT as u64 + 2), "0-1".to_owned(), "nonsense".to_owned(), String::new()] {
            let mut listener = events.listen(Some(&lost), Vec::new);
            assert_eq!(name(&listener.next().await.unwrap()), "missed", "{lost}");
        }
        let mut listener = events.listen(Some(&id(1)), Vec::new);
        assert_eq!(name(&listener.next().await.unwrap()), "it1");
    }

    #[tokio::test]
    async fn who_does_not_read_delays_nobody_and_hears_that_they_missed_something() {
        let events = Arc::new(Events::new());
        let mut slow = events.listen(None, Vec::new);
        for number in 0..10 * KEPT {
            events.publish(change(number), Lasting::No);
        }
        assert_eq!(name(&slow.next().await.unwrap()), "missed");
        assert_eq!(name(&slow.next().await.unwrap()), format!("it{}", 9 * KEPT));
    }

    #[tokio::test]
    async fn what_there_is_comes_before_what_changes() {
        let events = Arc::new(Events::new());
        let mut listener = events.listen(None, || vec![change(1)]);
        events.publish(change(3), Lasting::Yes);
        listener.add([change(2)]);
        for expected in ["it1", "it2", "it3"] {
            assert_eq!(name(&listener.next().await.unwrap()), expected);
        }
    }
}
