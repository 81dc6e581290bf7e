//! Operations against a model of them: ARCHITECTURE.md's diagram, and the order of turns, as a few lines of code.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use banger_core::store::{Page, Store};
use banger_store::SqliteStore;
use banger_types::operation::{Asker, Operation, OperationKind, OperationStatus};
use banger_types::{ApiError, ErrorKind, OperationId};
use proptest::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::{Handle, Operations, Requester, Settings, Terms};
use crate::event::Events;
use crate::layout::Layout;

/// How many run at once.
const AT_ONCE: usize = 2;

/// What happens. Numbers choose among the operations that there are.
#[derive(Debug, Clone)]
enum Action {
    Begin {
        takes_turns: bool,
    },
    Cancel(usize),
    ForbidCancel(usize),
    Succeed(usize),
    Fail(usize),
    /// The work has heard of its cancel, and has undone everything.
    Undone(usize),
    /// The daemon is killed, and followed by another one.
    Crash,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => any::<bool>().prop_map(|takes_turns| Action::Begin { takes_turns }),
        3 => any::<usize>().prop_map(Action::Cancel),
        1 => any::<usize>().prop_map(Action::ForbidCancel),
        2 => any::<usize>().prop_map(Action::Succeed),
        1 => any::<usize>().prop_map(Action::Fail),
        2 => any::<usize>().prop_map(Action::Undone),
        1 => Just(Action::Crash),
    ];
    prop::collection::vec(action, 1..40)
}

/// An operation as it should be.
#[derive(Debug, Clone)]
struct Expected {
    status: OperationStatus,
    takes_turns: bool,
    may_cancel: bool,
}

#[derive(Debug, Default)]
struct Model {
    all: Vec<Expected>,
    /// Those that wait for their turn, in order.
    waiting: VecDeque<usize>,
}

impl Model {
    fn begin(&mut self, takes_turns: bool) {
        let waits = takes_turns && self.running() >= AT_ONCE;
        let status = if waits { OperationStatus::Pending } else { OperationStatus::Running };
        if waits {
            self.waiting.push_back(self.all.len());
        }
        self.all.push(Expected { status, takes_turns, may_cancel: true });
    }

    /// Counts those that have a turn.
    fn running(&self) -> usize {
        let has_turn = |it: &&Expected| {
            it.takes_turns && matches!(it.status, OperationStatus::Running | OperationStatus::Cancelling)
        };
        self.all.iter().filter(has_turn).count()
    }

    /// Returns whether a cancel is taken.
    fn cancel(&mut self, index: usize) -> bool {
        let it = &mut self.all[index];
        match it.status {
            // Nothing of it was done.
            OperationStatus::Pending => {
                it.status = OperationStatus::Cancelled;
                self.waiting.retain(|waiting| *waiting != index);
                true
            }
            OperationStatus::Running if it.may_cancel => {
                it.status = OperationStatus::Cancelling;
                true
            }
            OperationStatus::Cancelling => true,
            _ => false,
        }
    }

    fn is_at_work(&self, index: usize) -> bool {
        matches!(self.all[index].status, OperationStatus::Running | OperationStatus::Cancelling)
    }

    fn end(&mut self, index: usize, status: OperationStatus) {
        self.all[index].status = status;
        if self.all[index].takes_turns
            && let Some(next) = self.waiting.pop_front()
        {
            self.all[next].status = OperationStatus::Running;
        }
    }
}

/// What the work is told to do.
enum Order {
    ForbidCancel,
    End(Result<(), ApiError>),
}

/// Somebody at work.
struct Work {
    orders: UnboundedSender<Order>,
    task: AbortHandle,
}

/// The operations of one daemon, and the work that they do.
struct World {
    store: Arc<dyn Store>,
    layout: Layout,
    operations: Operations,
    ids: Vec<OperationId>,
    work: Vec<Work>,
}

impl World {
    fn new(directory: &Path) -> Self {
        let layout = Layout::new(directory.to_owned());
        for needed in layout.directories() {
            std::fs::create_dir_all(needed).unwrap();
        }
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&layout.database()).unwrap());
        let operations = daemon(&store, &layout);
        Self { store, layout, operations, ids: Vec::new(), work: Vec::new() }
    }

    fn begin(&mut self, takes_turns: bool) {
        let kind = if takes_turns { OperationKind::ImagePull } else { OperationKind::VmStart };
        assert_eq!(kind.takes_turns(), takes_turns);
        let requester = Requester { asker: Asker { program: "model".to_owned(), pid: None }, key: None };
        let subject = format!("subject{}", self.ids.len());
        let terms = Terms { kind, subject, stop: None, waits: false, assignment: None, requester };
        let handle = self.operations.begin(terms).unwrap();
        let (sender, orders) = unbounded_channel();
        self.ids.push(handle.id().clone());
        let task = tokio::spawn(work(handle, orders)).abort_handle();
        self.work.push(Work { orders: sender, task });
    }

    fn order(&self, index: usize, order: Order) {
        self.work[index].orders.send(order).ok();
    }

    /// The daemon dies; what its successor finds is taken up as it is, and ends.
    async fn crash(&mut self, model: &mut Model) {
        self.operations.end();
        self.work.iter().for_each(|work| work.task.abort());
        settle().await;
        self.operations = daemon(&self.store, &self.layout);
        for left in self.store.unfinished_operations().unwrap() {
            let index = self.ids.iter().position(|id| *id == left.id).unwrap();
            assert_eq!(left.status, model.all[index].status, "{left:?}");
            let handle = self.operations.resume(left);
            let cancelling = model.all[index].status == OperationStatus::Cancelling;
            handle.finish(Err(error(if cancelling { ErrorKind::Cancelled } else { ErrorKind::Failed })));
            model.all[index].status =
                if cancelling { OperationStatus::Cancelled } else { OperationStatus::Failed };
        }
        model.waiting.clear();
        let unfinished = model.all.iter().filter(|it| !it.status.is_final()).count();
        assert_eq!(unfinished, 0, "the next daemon does not know of all");
    }

    /// Everything that is shown is as it should be, and the database says the same.
    fn check(&self, model: &Model) {
        let limit = u32::try_from(self.ids.len()).unwrap();
        let listed = self.operations.list(&Page { limit, after: None }).unwrap();
        assert_eq!(listed.len(), self.ids.len());
        for (index, id) in self.ids.iter().enumerate() {
            let expected = &model.all[index];
            let shown = self.operations.get(id).unwrap();
            assert_eq!(shown.status, expected.status, "{index}: {shown:?}");
            assert_eq!(
                self.store.operation(id).unwrap().unwrap().status,
                expected.status,
                "{index}: {shown:?}"
            );
            let listed: &Operation = listed.iter().find(|listed| listed.id == *id).unwrap();
            assert_eq!(listed.status, expected.status);
            assert_eq!(self.operations.watch(id).is_some(), !expected.status.is_final());
            if expected.status == OperationStatus::Running {
                assert_eq!(shown.may_cancel, expected.may_cancel);
            }
        }
    }
}

fn daemon(store: &Arc<dyn Store>, layout: &Layout) -> Operations {
    let settings = Settings { at_once: AT_ONCE, kept: Duration::from_hours(1) };
    Operations::new(Arc::clone(store), layout.clone(), Arc::new(Events::new()), settings).unwrap()
}

fn error(kind: ErrorKind) -> ApiError {
    ApiError::new(kind, "told to")
}

/// Does what it is told, as the daemon's own work does: its turn first, its end last.
async fn work(handle: Arc<Handle>, mut orders: UnboundedReceiver<Order>) {
    let result = match handle.turn().await {
        Err(error) => Err(error),
        Ok(()) => loop {
            match orders.recv().await {
                Some(Order::ForbidCancel) => drop(handle.forbid_cancel()),
                Some(Order::End(result)) => break result,
                None => return,
            }
        },
    };
    handle.finish(result);
}

/// Lets every task do what it can.
async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn follow(actions: Vec<Action>, directory: &Path) {
    let (mut world, mut model) = (World::new(directory), Model::default());
    for action in actions {
        let chosen = |number: usize| number.checked_rem(model.all.len());
        match action {
            Action::Begin { takes_turns } => {
                world.begin(takes_turns);
                model.begin(takes_turns);
            }
            Action::Crash => world.crash(&mut model).await,
            Action::Cancel(number) => {
                let Some(index) = chosen(number) else { continue };
                let taken = world.operations.cancel(&world.ids[index]);
                assert_eq!(taken.is_ok(), model.cancel(index), "{taken:?}");
            }
            Action::ForbidCancel(number) => {
                let Some(index) = chosen(number).filter(|index| model.is_at_work(*index)) else { continue };
                world.order(index, Order::ForbidCancel);
                model.all[index].may_cancel = false;
            }
            Action::Succeed(number) => {
                let Some(index) = chosen(number).filter(|index| model.is_at_work(*index)) else { continue };
                world.order(index, Order::End(Ok(())));
                model.end(index, OperationStatus::Succeeded);
            }
            Action::Fail(number) => {
                let Some(index) = chosen(number).filter(|index| model.is_at_work(*index)) else { continue };
                world.order(index, Order::End(Err(error(ErrorKind::Failed))));
                model.end(index, OperationStatus::Failed);
            }
            Action::Undone(number) => {
                let is_cancelling = |index: &usize| model.all[*index].status == OperationStatus::Cancelling;
                let Some(index) = chosen(number).filter(is_cancelling) else { continue };
                world.order(index, Order::End(Err(error(ErrorKind::Cancelled))));
                model.end(index, OperationStatus::Cancelled);
            }
        }
        settle().await;
        world.check(&model);
    }
}

proptest! {
    #[test]
    fn operations_are_as_the_diagram_says(actions in actions()) {
        // Nothing is asked of the disk: where there is memory, that does.
        let memory = Path::new("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(follow(actions, directory.path()));
    }
}
