//! The stream of events.

use std::time::Duration;

use banger_api::request::{EventQuery, PullRequest};
use banger_api::{Client, Events};
use banger_testkit::seed;
use banger_types::ErrorKind;
use banger_types::event::{Change, Event};
use banger_types::operation::OperationStatus;
use banger_types::vm::{VmRenameRequest, VmState};

use crate::support::{Daemon, assert_says};

/// How long an event that must come may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

fn of_vm(name: &str) -> EventQuery {
    EventQuery { vm: Some(name.to_owned()), kind: Some("vm".to_owned()), ..EventQuery::default() }
}

/// Reads events until one is the last; returns all of them.
async fn until(events: &mut Events, is_last: impl Fn(&Change) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    let read = async {
        while let Some(event) = events.next().await.unwrap() {
            let last = is_last(&event.change);
            seen.push(event);
            if last {
                return;
            }
        }
        panic!("the stream ended");
    };
    let in_time = tokio::time::timeout(LIMIT, read).await.is_ok();
    assert!(in_time, "waited in vain after {seen:?}");
    seen
}

fn states(events: &[Event]) -> Vec<VmState> {
    let state = |event: &Event| match &event.change {
        Change::Vm { vm } => Some(vm.state),
        _ => None,
    };
    let mut states: Vec<_> = events.iter().filter_map(state).collect();
    states.dedup();
    states
}

fn is_state(change: &Change, state: VmState) -> bool {
    matches!(change, Change::Vm { vm } if vm.state == state)
}

const fn is_gone(change: &Change) -> bool {
    matches!(change, Change::VmDeleted { .. })
}

#[test]
fn a_vms_life_is_told_in_its_order_and_once_more_to_who_comes_back() {
    let daemon = Daemon::new();
    let client: Client = daemon.client.clone();
    let listened = daemon.call(client.events(&EventQuery::default()));
    let mut events = listened.unwrap();
    daemon.create("web", |_| ());
    daemon.create("other", |request| request.no_start = true);
    daemon.succeed(daemon.client.delete_vm("web", true));
    let seen = daemon.call(until(&mut events, is_gone));
    let of_web: Vec<_> = seen.iter().filter(|event| is_of(event, "web")).cloned().collect();
    assert_eq!(
        states(&of_web),
        [
            VmState::Stopped,
            VmState::Starting,
            VmState::Running,
            VmState::Stopping,
            VmState::Stopped,
            VmState::Deleting
        ]
    );
    let succeeded = seen.iter().any(|event| {
        matches!(&event.change, Change::Operation { operation }
            if operation.subject == "web" && operation.status == OperationStatus::Succeeded)
    });
    assert!(succeeded, "{seen:?}");

    // A client that comes back hears what came after, without what was progress alone.
    let middle = of_running(&seen).unwrap();
    let query = EventQuery { after: Some(seen[middle].id.clone()), ..EventQuery::default() };
    let mut again = daemon.call(client.events(&query)).unwrap();
    let later = daemon.call(until(&mut again, is_gone));
    let ids = |events: &[Event]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    let all = ids(&seen[middle + 1..]);
    assert!(ids(&later).iter().all(|id| all.contains(id)), "{later:?}");
    let of_web: Vec<_> = later.into_iter().filter(|event| is_of(event, "web")).collect();
    assert_eq!(states(&of_web), [VmState::Stopping, VmState::Stopped, VmState::Deleting]);

    // Another daemon's events are others.
    daemon.environment.crash_daemon();
    // The stream goes with the daemon.
    while let Ok(Some(_)) = daemon.call(events.next()) {}
    daemon.environment.succeed(&["daemon", "start"]);
    let mut again = daemon.call(client.events(&query)).unwrap();
    let first = daemon.call(again.next()).unwrap().unwrap();
    assert_eq!(first.change, Change::Missed);
}

/// Where a VM is last told to be running: it is told more than once, as more is known of it.
fn of_running(events: &[Event]) -> Option<usize> {
    events.iter().rposition(|event| is_state(&event.change, VmState::Running))
}

fn is_of(event: &Event, name: &str) -> bool {
    match &event.change {
        Change::Vm { vm } => vm.name.as_str() == name,
        Change::VmDeleted { gone } => gone.name == name,
        _ => false,
    }
}

#[test]
fn one_hears_of_what_one_asks_for() {
    let daemon = Daemon::new();
    for name in ["web", "other"] {
        daemon.create(name, |request| request.no_start = true);
    }
    // The VM keeps its events under another name, and another VM does not get them.
    let mut events =
        daemon.call(daemon.client.events(&EventQuery { current: true, ..of_vm("web") })).unwrap();
    let present = daemon.call(until(&mut events, |change| *change == Change::Current));
    assert_eq!(states(&present), [VmState::Stopped]);
    assert_eq!(present.len(), 2, "{present:?}");
    daemon.call(daemon.client.rename_vm("web", &VmRenameRequest { name: "new".parse().unwrap() })).unwrap();
    daemon.create("web", |_| ());
    daemon.succeed(daemon.client.start_vm("new"));
    daemon.succeed(daemon.client.delete_vm("new", true));
    let seen = daemon.call(until(&mut events, is_gone));
    let named = |event: &Event, name| is_of(event, name);
    assert!(seen.iter().all(|event| named(event, "new")), "{seen:?}");

    let kinds =
        |kind: &str| EventQuery { kind: Some(kind.to_owned()), current: true, ..EventQuery::default() };
    let mut events = daemon.call(daemon.client.events(&kinds("image,kernel"))).unwrap();
    let present = daemon.call(until(&mut events, |change| *change == Change::Current));
    let names: Vec<_> = present.iter().map(|event| event.change.name()).collect();
    assert_eq!(names, ["image", "image", "image", "kernel", "current"]);
    let tar = format!("tar:{}", seed::directory().join("probe.tar").display());
    let pull = PullRequest { source: tar, name: Some("mine".to_owned()) };
    daemon.succeed(daemon.client.pull_image(&pull));
    daemon.call(daemon.client.delete_image("mine")).unwrap();
    let seen = daemon.call(until(&mut events, |change| matches!(change, Change::ImageDeleted { .. })));
    assert_eq!(seen.iter().map(|event| event.change.name()).collect::<Vec<_>>(), ["image", "image_deleted"]);

    for (query, kind, words) in [
        (kinds("vm,vms"), ErrorKind::Usage, "there are no events of 'vms'"),
        (EventQuery { current: true, ..of_vm("none") }, ErrorKind::NotFound, "'none'"),
        (
            EventQuery { operation: Some("nonsense".to_owned()), ..kinds("operation") },
            ErrorKind::NotFound,
            "nonsense",
        ),
    ] {
        assert_says(&daemon.refused(daemon.client.events(&query)), kind, words);
    }
    // What is not there yet may be listened for.
    let mut events = daemon.call(daemon.client.events(&of_vm("later"))).unwrap();
    daemon.create("later", |_| ());
    daemon.call(until(&mut events, |change| is_state(change, VmState::Running)));
}

#[test]
fn who_never_reads_delays_nobody_and_hears_that_they_missed_something() {
    let daemon = Daemon::new();
    daemon.create("web", |_| ());
    let silent: Vec<_> =
        (0..20).map(|_| daemon.call(daemon.client.events(&EventQuery::default())).unwrap()).collect();
    // More than the sockets and the bus hold.
    for _ in 0..300 {
        daemon.succeed(daemon.client.pause_vm("web"));
        daemon.succeed(daemon.client.resume_vm("web"));
    }
    for mut late in silent {
        let seen = daemon.call(until(&mut late, |change| *change == Change::Missed));
        assert!(seen.len() > 1, "what fitted is read");
    }
}

#[test]
fn the_command_line_prints_them() {
    use std::io::{BufRead as _, BufReader};
    let daemon = Daemon::new();
    daemon.create("web", |request| request.no_start = true);
    let mut command = daemon.environment.banger(&["events", "--vm", "web", "--current"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(first.ends_with(" vm        web stopped"), "{first}");
    daemon.succeed(daemon.client.start_vm("web"));
    let seen: Vec<String> = lines.by_ref().take_while(|line| !line.ends_with("web running")).collect();
    assert!(seen.iter().any(|line| line.contains("start VM, running: boot the guest")), "{seen:?}");
    // It ends with the daemon, and says so.
    daemon.environment.succeed(&["daemon", "stop"]);
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
