//! Pulls from a registry that stands still in the middle of a layer: cancelled, and cut off by the daemon's end.

use banger_api::request::PullRequest;
use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::{Environment, Passing, Proxy, Registry, RegistryOptions};
use banger_types::operation::{Operation, OperationStatus};
use serde_json::json;
use tar::EntryType;

use crate::support::{Daemon, names};

/// How much of the layer comes.
const COMES: u64 = 1 << 20;

/// A daemon that pulls an image whose layer stands still.
struct Standing {
    daemon: Daemon,
    registry: Registry,
    operation: Operation,
}

impl Standing {
    fn new() -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let directory = tempfile::tempdir().unwrap();
        let layer = archive(|b| add(b, EntryType::Regular, b"file", b"", &noise(3 << 20, 1)));
        let layout = Layout::of(directory.path(), &[(&layer, Packing::Gzip)], &json!({}));
        registry.push(&layout.path, "one", "standing");
        // The first is the configuration.
        let passing = Passing { cuts: vec![1 << 30, COMES], stalls: true, ..Passing::default() };
        let proxy = Proxy::before(&registry, passing);
        let daemon = Daemon::of(Environment::empty());
        let source = format!("docker://{}/standing", proxy.host());
        let request = PullRequest { source, name: Some("standing".to_owned()) };
        let operation = daemon.call(daemon.client.pull_image(&request)).unwrap();
        proxy.wait_for_stalls(1);
        Self { daemon, registry, operation }
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
fn a_pull_whose_daemon_is_killed_in_the_middle_of_a_layer_is_undone_and_begun_anew() {
    let standing = Standing::new();
    standing.daemon.environment.crash_daemon();
    standing.daemon.environment.succeed(&["daemon", "start"]);
    let operations = standing.daemon.environment.run(&["op", "ls", "--json"]).json();
    assert_eq!(operations[0]["status"], "failed", "{operations}");
    standing.check();
}
