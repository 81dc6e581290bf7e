//! Which requests to a VM are let through. No locks, no clock, no effects.

use banger_types::vm::VmState;

/// What a client may want of a VM that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Boot it.
    Start,
    /// Make its virtual CPUs stand still.
    Pause,
    /// Let them go on.
    Resume,
    /// Give the blocks of its disk back that its guest does not use.
    Trim,
    /// Stop it in order if it runs, and boot it.
    Restart,
    /// Ask its guest to go down, and kill it when that takes too long.
    Stop,
    /// End it at once.
    Kill,
    /// Delete it; `force` ends it first if it runs.
    Delete {
        /// Whether a running VM may be ended for it.
        force: bool,
    },
}

/// What happens with a request that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It runs now.
    Now,
    /// It runs as soon as the present request has ended, which is cancelled for it.
    AfterCancelled(Request),
}

/// Why a request was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// It is in the wanted state already.
    #[error("it is {0} already")]
    Already(VmState),
    /// Only a stopped or failed VM can be started.
    #[error("it is {0}")]
    NotStartable(VmState),
    /// Only a VM that runs can be stopped, killed or paused.
    #[error("it is {0}, not running")]
    NotRunning(VmState),
    /// Only a VM that runs, or rests, can be trimmed.
    #[error("it is {0}, neither running nor stopped")]
    NotTrimmable(VmState),
    /// Only a VM that is paused can be resumed.
    #[error("it is {0}, not paused")]
    NotPaused(VmState),
    /// Deleting a VM that runs must be asked for.
    #[error("it is {0}")]
    InUse(VmState),
    /// It is being deleted: nothing else can be done with it.
    #[error("it is being deleted")]
    Deleting,
    /// Something is under way that this request does not interrupt.
    #[error("another request for it is under way")]
    Busy,
}

/// The requests to one VM: at most one runs and at most one waits for it to give way.
#[derive(Debug, Clone, Default)]
pub struct RequestQueue {
    running: Option<Request>,
    waiting: Option<Request>,
}

impl RequestQueue {
    /// Asks for `request` on a VM in `state`.
    ///
    /// A request that ends the VM interrupts one that does not, and a harder end a softer one:
    /// start, pause, resume, trim < restart < stop < kill < delete. Everything else is denied with its reason.
    pub fn try_queue(&mut self, request: Request, state: VmState) -> Result<Admission, DenyReason> {
        if self.contains_delete() {
            return Err(DenyReason::Deleting);
        }
        // A deletion that did not come to its end can be asked for again, and nothing else can.
        if state == VmState::Deleting && !matches!(request, Request::Delete { .. }) {
            return Err(DenyReason::Deleting);
        }
        self.legal(request, state)?;
        let Some(running) = self.running else {
            self.running = Some(request);
            return Ok(Admission::Now);
        };
        let hardest = self.waiting.map_or(running, |waiting| harder(waiting, running));
        if strength(request) <= strength(hardest) {
            return Err(DenyReason::Busy);
        }
        // What waited gives way too: the harder end includes it.
        self.waiting = Some(request);
        Ok(Admission::AfterCancelled(running))
    }

    /// Says that the running request has ended. Returns the one that runs from now on.
    pub fn finished(&mut self) -> Option<Request> {
        self.running = self.waiting.take();
        self.running
    }

    /// Forgets the request that waits.
    pub const fn withdraw(&mut self) {
        self.waiting = None;
    }

    /// Returns the request that runs.
    pub const fn running(&self) -> Option<Request> {
        self.running
    }

    /// Returns the request that waits.
    pub const fn waiting(&self) -> Option<Request> {
        self.waiting
    }

    fn contains_delete(&self) -> bool {
        [self.running, self.waiting].into_iter().flatten().any(|r| matches!(r, Request::Delete { .. }))
    }

    fn legal(&self, request: Request, state: VmState) -> Result<(), DenyReason> {
        // A start that is only being launched counts as running: it can be stopped.
        let alive = state.is_alive() || matches!(self.running, Some(Request::Start | Request::Restart));
        match request {
            Request::Start | Request::Resume if state == VmState::Running => Err(DenyReason::Already(state)),
            Request::Start if alive || state == VmState::Creating => Err(DenyReason::NotStartable(state)),
            Request::Restart if state == VmState::Creating => Err(DenyReason::NotStartable(state)),
            Request::Pause if state == VmState::Paused => Err(DenyReason::Already(state)),
            Request::Pause if state != VmState::Running => Err(DenyReason::NotRunning(state)),
            Request::Resume if state != VmState::Paused => Err(DenyReason::NotPaused(state)),
            Request::Trim if !matches!(state, VmState::Running | VmState::Stopped | VmState::Failed) => {
                Err(DenyReason::NotTrimmable(state))
            }
            Request::Stop | Request::Kill if !alive => Err(DenyReason::NotRunning(state)),
            Request::Delete { .. } if state == VmState::Deleting => Ok(()),
            Request::Delete { force: false } if alive || state == VmState::Creating => {
                Err(DenyReason::InUse(state))
            }
            Request::Start
            | Request::Pause
            | Request::Resume
            | Request::Trim
            | Request::Restart
            | Request::Stop
            | Request::Kill
            | Request::Delete { .. } => Ok(()),
        }
    }
}

const fn strength(request: Request) -> u8 {
    match request {
        Request::Start | Request::Pause | Request::Resume | Request::Trim => 0,
        Request::Restart => 1,
        Request::Stop => 2,
        Request::Kill => 3,
        Request::Delete { .. } => 4,
    }
}

const fn harder(a: Request, b: Request) -> Request {
    if strength(a) >= strength(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELETE: Request = Request::Delete { force: false };
    const FORCED_DELETE: Request = Request::Delete { force: true };

    #[test]
    fn a_stop_interrupts_a_start() {
        let mut queue = RequestQueue::default();
        assert_eq!(queue.try_queue(Request::Start, VmState::Stopped), Ok(Admission::Now));
        assert_eq!(
            queue.try_queue(Request::Stop, VmState::Starting),
            Ok(Admission::AfterCancelled(Request::Start))
        );
        assert_eq!(queue.finished(), Some(Request::Stop));
        assert_eq!(queue.finished(), None);
    }

    #[test]
    fn nothing_interrupts_a_delete() {
        let mut queue = RequestQueue::default();
        queue.try_queue(FORCED_DELETE, VmState::Running).unwrap();
        for request in [Request::Start, Request::Stop, Request::Kill, DELETE, FORCED_DELETE] {
            assert_eq!(queue.try_queue(request, VmState::Running), Err(DenyReason::Deleting));
        }
    }

    #[test]
    fn each_state_denies_what_makes_no_sense_in_it() {
        let ask = |request, state| RequestQueue::default().try_queue(request, state);
        assert_eq!(ask(Request::Start, VmState::Running), Err(DenyReason::Already(VmState::Running)));
        assert_eq!(ask(Request::Stop, VmState::Stopped), Err(DenyReason::NotRunning(VmState::Stopped)));
        assert_eq!(ask(Request::Kill, VmState::Failed), Err(DenyReason::NotRunning(VmState::Failed)));
        assert_eq!(ask(Request::Start, VmState::Paused), Err(DenyReason::NotStartable(VmState::Paused)));
        assert_eq!(ask(Request::Pause, VmState::Running), Ok(Admission::Now));
        assert_eq!(ask(Request::Pause, VmState::Paused), Err(DenyReason::Already(VmState::Paused)));
        assert_eq!(ask(Request::Pause, VmState::Starting), Err(DenyReason::NotRunning(VmState::Starting)));
        assert_eq!(ask(Request::Resume, VmState::Paused), Ok(Admission::Now));
        assert_eq!(ask(Request::Resume, VmState::Running), Err(DenyReason::Already(VmState::Running)));
        assert_eq!(ask(Request::Resume, VmState::Stopped), Err(DenyReason::NotPaused(VmState::Stopped)));
        assert_eq!(ask(Request::Trim, VmState::Running), Ok(Admission::Now));
        assert_eq!(ask(Request::Trim, VmState::Failed), Ok(Admission::Now));
        assert_eq!(ask(Request::Trim, VmState::Paused), Err(DenyReason::NotTrimmable(VmState::Paused)));
        assert_eq!(ask(Request::Restart, VmState::Stopped), Ok(Admission::Now));
        assert_eq!(ask(Request::Restart, VmState::Running), Ok(Admission::Now));
        assert_eq!(ask(Request::Stop, VmState::Paused), Ok(Admission::Now));
        assert_eq!(ask(DELETE, VmState::Paused), Err(DenyReason::InUse(VmState::Paused)));
        assert_eq!(ask(DELETE, VmState::Running), Err(DenyReason::InUse(VmState::Running)));
        assert_eq!(ask(FORCED_DELETE, VmState::Running), Ok(Admission::Now));
        assert_eq!(ask(Request::Start, VmState::Failed), Ok(Admission::Now));
        assert_eq!(ask(Request::Start, VmState::Deleting), Err(DenyReason::Deleting));
        assert_eq!(ask(DELETE, VmState::Deleting), Ok(Admission::Now), "one that failed is tried again");
    }

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Start),
            Just(Request::Pause),
            Just(Request::Resume),
            Just(Request::Trim),
            Just(Request::Restart),
            Just(Request::Stop),
            Just(Request::Kill),
            Just(DELETE),
            Just(FORCED_DELETE)
        ]
    }

    fn any_state() -> impl Strategy<Value = VmState> {
        prop_oneof![
            Just(VmState::Creating),
            Just(VmState::Stopped),
            Just(VmState::Starting),
            Just(VmState::Running),
            Just(VmState::Paused),
            Just(VmState::Stopping),
            Just(VmState::Failed),
            Just(VmState::Deleting)
        ]
    }

    /// The queue as its users see it: what they may ask in which state, and who gives way to whom. Written as tables,
    /// so that it shares nothing with the code but the words.
    #[derive(Debug, Default)]
    struct Model {
        /// What runs, then what waits.
        line: Vec<Request>,
    }

    /// From the softest to the hardest. Those in one row do not interrupt each other.
    const ROWS: [&[Request]; 5] = [
        &[Request::Start, Request::Pause, Request::Resume, Request::Trim],
        &[Request::Restart],
        &[Request::Stop],
        &[Request::Kill],
        &[DELETE, FORCED_DELETE],
    ];

    impl Model {
        fn row(request: Request) -> usize {
            ROWS.iter().position(|row| row.contains(&request)).unwrap()
        }

        /// The states in which a request makes sense while nothing runs.
        fn states(request: Request) -> &'static [VmState] {
            use VmState::{Creating, Deleting, Failed, Paused, Running, Starting, Stopped, Stopping};
            match request {
                Request::Start => &[Stopped, Failed],
                Request::Pause => &[Running],
                Request::Resume => &[Paused],
                Request::Trim => &[Running, Stopped, Failed],
                Request::Restart => &[Stopped, Failed, Starting, Running, Paused, Stopping],
                Request::Stop | Request::Kill => &[Starting, Running, Paused, Stopping],
                Request::Delete { force: false } => &[Stopped, Failed, Deleting],
                Request::Delete { force: true } => {
                    &[Creating, Stopped, Failed, Starting, Running, Paused, Stopping, Deleting]
                }
            }
        }

        /// Whether the request is let through, and whether it runs at once.
        fn ask(&mut self, request: Request, state: VmState) -> Option<bool> {
            if self.line.iter().any(|other| Self::row(*other) == ROWS.len() - 1) {
                return None;
            }
            // What is being launched can be ended, whatever the state says yet.
            let launching = matches!(self.line.first(), Some(Request::Start | Request::Restart));
            let state = match state {
                VmState::Stopped | VmState::Failed if launching => VmState::Starting,
                other => other,
            };
            let softest_that_counts = self.line.iter().map(|other| Self::row(*other) + 1).max().unwrap_or(0);
            if !Self::states(request).contains(&state) || Self::row(request) < softest_that_counts {
                return None;
            }
            self.line.truncate(1);
            self.line.push(request);
            Some(self.line.len() == 1)
        }

        fn finish(&mut self) {
            if !self.line.is_empty() {
                self.line.remove(0);
            }
        }
    }

    proptest! {
        /// The queue does what the model does, whatever is asked in whatever state.
        #[test]
        fn the_queue_is_as_its_model(steps in prop::collection::vec(
            (any_request(), any_state(), any::<bool>()), 0..64)) {
            let (mut queue, mut model) = (RequestQueue::default(), Model::default());
            for (request, state, finish) in steps {
                // Nothing is under way on a VM that is not there yet.
                if state == VmState::Creating && !model.line.is_empty() {
                    continue;
                }
                let answer = queue.try_queue(request, state);
                let expected = model.ask(request, state);
                prop_assert_eq!(
                    answer.ok().map(|admission| admission == Admission::Now), expected,
                    "{:?} while {:?}, answered {:?}", request, state, answer
                );
                if finish {
                    queue.finished();
                    model.finish();
                }
                let line: Vec<Request> = queue.running().into_iter().chain(queue.waiting()).collect();
                prop_assert_eq!(&line, &model.line);
            }
        }

        /// Whatever comes, in whatever state: what waits is harder than what runs, a denied request
        /// changes nothing, and every admitted request gets its turn or gives way to a harder one.
        #[test]
        fn the_queue_keeps_its_promises(steps in prop::collection::vec(
            (any_request(), any_state(), any::<bool>()), 0..64)) {
            let mut queue = RequestQueue::default();
            for (request, state, finish) in steps {
                let before = (queue.running(), queue.waiting());
                match queue.try_queue(request, state) {
                    Err(_) => prop_assert_eq!((queue.running(), queue.waiting()), before),
                    Ok(Admission::Now) => {
                        prop_assert_eq!(before, (None, None));
                        prop_assert_eq!(queue.running(), Some(request));
                    }
                    Ok(Admission::AfterCancelled(running)) => {
                        prop_assert_eq!(before.0, Some(running));
                        prop_assert_eq!(queue.waiting(), Some(request));
                        prop_assert!(strength(request) > strength(running));
                    }
                }
                if finish {
                    let waiting = queue.waiting();
                    prop_assert_eq!(queue.finished(), waiting);
                    prop_assert_eq!(queue.waiting(), None);
                }
            }
        }
    }
}
