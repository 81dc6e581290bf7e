//! Pulls from a registry that stands still in the middle of a layer: cancelled, and left to the next daemon.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use banger_api::ClientError;
use banger_api::request::PullRequest;
use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::{Environment, Passing, Proxy, Registry, RegistryOptions, SmallDisk, seed};
use banger_types::ErrorKind;
use banger_types::location::variable;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::vm::VmCreateRequest;
use serde_json::json;
use tar::EntryType;

use crate::support::{Daemon, Pipe, SMALL, names};

/// How much of the layer comes.
const COMES: u64 = 1 << 20;

/// A daemon that pulls an image whose layer stands still.
struct Standing {
    daemon: Daemon,
    registry: Registry,
    proxy: Proxy,
    source: String,
    operation: Operation,
}

impl Standing {
    fn new() -> Self {
        Self::in_environment(Environment::empty())
    }

    fn in_environment(environment: Environment) -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let directory = tempfile::tempdir().unwrap();
        let layer = archive(|b| add(b, EntryType::Regular, b"file", b"", &noise(3 << 20, 1)));
        let layout = Layout::of(directory.path(), &[(&layer, Packing::Gzip)], &json!({}));
        registry.push(&layout.path, "one", "standing");
        // The first is the configuration.
        let passing = Passing { cuts: vec![1 << 30, COMES], stalls: true, ..Passing::default() };
        let proxy = Proxy::before(&registry, passing);
        let daemon = Daemon::of(environment);
        let source = format!("docker://{}/standing", proxy.host());
        let request = PullRequest { source: source.clone(), name: Some("standing".to_owned()) };
        let operation = daemon.call(daemon.client.pull_image(&request)).unwrap();
        proxy.wait_for_stalls(1);
        Self { daemon, registry, proxy, source, operation }
    }

    /// Nothing is half there, and the image can be had.
    fn check(&self) {
        let environment = &self.daemon.environment;
        assert_eq!(names(&environment.data().join("images")), [""; 0]);
        assert_eq!(environment.succeed(&["image", "ls", "-q"]), "");
        let source = format!("docker://{}/standing", self.registry.host());
        environment.succeed(&["image", "pull", &source, "--name", "standing"]);
        assert_eq!(names(&environment.data().join("images")).len(), 1);
        // What had come was not taken for the whole layer, nor left beside it.
        assert_eq!(names(&environment.data().join("layers/sha256")).len(), 1);
    }
}

#[test]
fn a_pull_is_cancelled_in_the_middle_of_a_layer() {
    let standing = Standing::new();
    let Standing { daemon, operation, .. } = &standing;
    let ended = daemon.finish(daemon.client.cancel_operation(operation.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled, "{ended:?}");
    standing.check();
}

#[test]
fn a_pull_whose_daemon_is_killed_in_the_middle_of_a_layer_goes_on_there() {
    goes_on_after(Environment::crash_daemon);
}

#[test]
fn a_pull_whose_daemon_is_told_to_end_goes_on_with_the_next() {
    goes_on_after(|environment| drop(environment.succeed(&["daemon", "stop"])));
}

fn goes_on_after(end: impl FnOnce(&Environment)) {
    let standing = Standing::new();
    let Standing { daemon, operation, proxy, .. } = &standing;
    let id = operation.id.as_str();
    let mut watch = daemon.environment.banger(&["op", "watch", id]);
    let mut watch = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut left) = (BufReader::new(watch.stderr.take().unwrap()), String::new());
    // What it says first is what is being done.
    said.read_line(&mut left).unwrap();
    end(&daemon.environment);
    said.read_to_string(&mut left).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(5), "{left}");
    assert!(left.contains("goes on with it"), "{left}");

    let watched = daemon.environment.run(&["op", "watch", id]);
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    assert!(watched.stderr.contains("warning: bangerd ended meanwhile"), "{}", watched.stderr);
    let ended = daemon.call(daemon.client.operation(id)).unwrap();
    assert_eq!(ended.status, OperationStatus::Succeeded);
    assert_eq!(ended.made.unwrap().name, "standing");
    // What had come of the layer did not come again.
    assert_eq!(proxy.partial_requests(), 1);
    assert_eq!(names(&daemon.environment.data().join("images")).len(), 1);
    assert_eq!(names(&daemon.environment.data().join("layers/sha256")).len(), 1);
}

#[test]
fn a_pull_that_is_called_as_a_vm_is_goes_on_as_well() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "standing", "--no-start"], &SMALL[..]].concat());
    let standing = Standing::in_environment(environment);
    let environment = &standing.daemon.environment;
    environment.crash_daemon();
    environment.succeed(&["daemon", "start"]);
    environment.succeed(&["op", "watch", standing.operation.id.as_str()]);
}

/// A VM whose image is on its way goes on with that, and has the name that was asked for, or drawn.
#[test]
fn a_vm_whose_image_is_on_its_way_when_the_daemon_is_killed_is_made_by_the_next() {
    let standing = Standing::new();
    let Standing { daemon, .. } = &standing;
    let request = VmCreateRequest {
        image: Some(standing.source.clone()),
        no_start: true,
        ..serde_json::from_value(json!({"network": "none"})).unwrap()
    };
    let begun = daemon.call(daemon.client.create_vm(&request)).unwrap();
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    // Its name is taken at once.
    let same = VmCreateRequest { name: Some(begun.subject.parse().unwrap()), ..request };
    let refused = daemon.call(daemon.client.create_vm(&same)).unwrap_err();
    assert!(matches!(refused, ClientError::Api(error) if error.kind == ErrorKind::Conflict));
    let id = begun.id.as_str();
    daemon.environment.succeed(&["op", "watch", id]);
    assert_eq!(daemon.environment.vm(&begun.subject)["state"], "stopped");
    assert_eq!(daemon.call(daemon.client.operation(id)).unwrap().made.unwrap().name, begun.subject);
}

/// What comes once cannot come again: it is undone, and its end says so.
#[test]
fn a_pull_from_a_pipe_is_not_gone_on_with() {
    let pipe = Pipe::new();
    let daemon = Daemon::of(Environment::empty());
    let request = PullRequest { source: pipe.source(), name: Some("once".to_owned()) };
    let begun = daemon.call(daemon.client.pull_image(&request)).unwrap();
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    let ended = daemon.call(daemon.client.operation(begun.id.as_str())).unwrap();
    assert_eq!(ended.status, OperationStatus::Failed);
    assert!(ended.error.unwrap().why.iter().any(|why| why.contains("was undone")));
}

/// What ends every daemon that takes it up is given up.
#[test]
fn what_no_daemon_survives_is_given_up() {
    const POINT: &str = "PullJournaled";
    let environment = Environment::empty();
    // Every daemon that a command starts comes to the same point, perhaps before that command is answered.
    let run = |arguments: &[&str]| {
        environment.outcome(environment.banger(arguments).env(variable::FAULT_POINT, POINT))
    };
    let source = format!("tar:{}", seed::directory().join("probe.tar").display());
    run(&["image", "pull", &source, "--name", "fatal", "--no-wait"]);
    let ended = loop {
        let listed = run(&["op", "ls", "--json"]);
        if listed.code == 0 && listed.json()[0]["status"] == "failed" {
            break listed.json();
        }
        assert!(matches!(listed.code, 0 | 5), "{}", listed.stderr);
    };
    assert_eq!(ended[0]["error"]["why"][0], "bangerd ended; what it had begun was undone");
    let log = std::fs::read_to_string(environment.data().join("bangerd.log")).unwrap();
    assert_eq!(log.matches("ending at a fault point").count(), 5, "{log}");
    assert_eq!(names(&environment.data().join("images")), [""; 0]);
}

#[test]
fn a_full_disk_keeps_no_daemon_from_going_on_with_what_it_can() {
    let Some(disk) = SmallDisk::new("a_full_disk_keeps_no_daemon_from_going_on_with_what_it_can", "48M")
    else {
        return;
    };
    let standing = Standing::in_environment(Environment::within(disk.path()));
    let environment = &standing.daemon.environment;
    let _ballast = disk.fill(0);
    environment.crash_daemon();
    environment.succeed(&["daemon", "start"]);
    // It can be asked to make room.
    environment.succeed(&["system", "prune", "--yes"]);
    let shown = environment.succeed(&["op", "show", standing.operation.id.as_str(), "--json"]);
    assert!(shown.contains("goes on") || shown.contains("gone on"), "{shown}");
}
