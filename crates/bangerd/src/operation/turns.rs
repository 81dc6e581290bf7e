//! How many operations run at once, and in what order the others follow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

struct Queue {
    free: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right of so many to run at once; the others come in the order in which they asked.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

/// The right to run. Whoever drops it hands it on.
pub(super) struct Turn(Turns);

/// A place in the order.
pub(super) enum Place {
    /// It may run at once.
    Now(Turn),
    /// It is told when it may.
    Later(oneshot::Receiver<Turn>),
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { free: at_once, waiting: VecDeque::new() })))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next place.
    pub(super) fn next(&self) -> Place {
        let mut queue = self.queue();
        if queue.free > 0 {
            queue.free -= 1;
            return Place::Now(Turn(self.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        queue.waiting.push_back(sender);
        Place::Later(receiver)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        // Whoever waits no more is passed over.
        queue.waiting.retain(|next| !next.is_closed());
        let Some(next) = queue.waiting.pop_front() else {
            queue.free += 1;
            return;
        };
        drop(queue);
        // If nobody takes it after all, it comes back here by being dropped.
        next.send(Self(self.0.clone())).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_are_handed_on() {
        let turns = Turns::new(1);
        let Place::Now(first) = turns.next() else { panic!("nobody else has one") };
        let Place::Later(gives_up) = turns.next() else { panic!("there was one") };
        let Place::Later(mut second) = turns.next() else { panic!("there was one") };
        let Place::Later(mut third) = turns.next() else { panic!("there was one") };
        drop(gives_up);
        assert!(second.try_recv().is_err());
        drop(first);
        let turn = second.await.unwrap();
        assert!(third.try_recv().is_err());
        drop(turn);
        drop(third.await.unwrap());
        assert!(matches!(turns.next(), Place::Now(_)));
    }

    #[tokio::test]
    async fn a_turn_that_was_given_to_somebody_who_left_is_not_lost() {
        let turns = Turns::new(1);
        let Place::Now(first) = turns.next() else { panic!("nobody else has one") };
        let Place::Later(second) = turns.next() else { panic!("there was one") };
        drop(first);
        // It is in the channel, and nobody reads it any more.
        drop(second);
        assert!(matches!(turns.next(), Place::Now(_)));
    }
}
