//! Cancels at moments that nobody has chosen: what was begun is undone, and the next try works.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use banger_api::request::PullRequest;
use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::{Registry, RegistryOptions, is_full_run};
use banger_types::operation::{Operation, OperationStatus};
use serde_json::json;
use tar::EntryType;

use crate::support::{Daemon, assert_left, names, request};

/// Moments in a round.
const MOMENTS: u32 = 20;
/// Rounds in the full run.
const ROUNDS: u32 = 50;

/// A daemon beside a registry that has an image of two layers.
struct World {
    daemon: Daemon,
    source: String,
    /// Images that are there from the beginning, and how many kernels.
    there: (Vec<String>, usize),
    _registry: Registry,
}

impl World {
    fn new() -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let directory = tempfile::tempdir().unwrap();
        let layer = |name: &str, seed| {
            archive(|b| add(b, EntryType::Regular, name.as_bytes(), b"", &noise(3 << 20, seed)))
        };
        let layers = [layer("one", 1), layer("two", 2)];
        let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Packing::Gzip)).collect();
        let layout = Layout::of(directory.path(), &layers, &json!({}));
        registry.push(&layout.path, "one", "subject");
        let source = format!("docker://{}/subject", registry.host());
        let daemon = Daemon::new();
        let there = (images(&daemon), names(&daemon.environment.data().join("kernels")).len());
        Self { daemon, source, there, _registry: registry }
    }

    /// Lets something come to its end once, then cancels it at moments between its beginning and a little after that.
    /// Nothing may be left of what was cancelled, and what was not has to be there. Returns what is
    /// of interest.
    fn cancel_at_any_moment(&self, begin: impl Fn() -> Operation) -> String {
        let daemon = &self.daemon;
        let begun = Instant::now();
        let whole = daemon.follow_until(&begin(), |operation| operation.status.is_final());
        assert_eq!(whole.status, OperationStatus::Succeeded, "{whole:?}");
        let takes = begun.elapsed();
        self.clean_up();
        let (mut cancelled, mut slowest) = (0, Duration::ZERO);
        let rounds = if is_full_run() { ROUNDS } else { 1 };
        for _ in 0..rounds * MOMENTS {
            let operation = begin();
            // A moment is a time: nothing is waited for.
            std::thread::sleep(takes.mul_f64(fraction() * 1.1));
            let asked = Instant::now();
            // It may have ended before.
            let _ = daemon.call(daemon.client.cancel_operation(operation.id.as_str()));
            let ended = daemon.follow_until(&operation, |operation| operation.status.is_final());
            match ended.status {
                OperationStatus::Cancelled => {
                    (cancelled, slowest) = (cancelled + 1, slowest.max(asked.elapsed()));
                }
                OperationStatus::Succeeded => {}
                _ => panic!("{ended:?}"),
            }
            self.check(&ended);
            self.clean_up();
        }
        assert!(cancelled > 0, "none was quick enough");
        let again = daemon.follow_until(&begin(), |operation| operation.status.is_final());
        assert_eq!(again.status, OperationStatus::Succeeded, "{again:?}");
        format!("{cancelled} of {} were cancelled, the slowest in {slowest:?}", rounds * MOMENTS)
    }

    fn check(&self, ended: &Operation) {
        let succeeded = ended.status == OperationStatus::Succeeded;
        let vms = usize::from(succeeded && ended.kind.is_of_vm());
        let listed = images(&self.daemon).len();
        // An image that was there before its VM was cancelled is an image.
        assert!(listed == self.there.0.len() || succeeded || ended.kind.is_of_vm(), "{ended:?}");
        assert_left(&self.daemon.environment, vms, listed, self.there.1);
    }

    /// Everything begins anew: the VM, the image and its layers go.
    fn clean_up(&self) {
        let environment = &self.daemon.environment;
        environment.run(&["vm", "rm", "--force", "--yes", "subject"]);
        for image in images(&self.daemon).iter().filter(|image| !self.there.0.contains(image)) {
            environment.succeed(&["image", "rm", "--yes", image]);
        }
        for layers in ["layers/sha256", "layers/diff-ids"] {
            let layers = environment.data().join(layers);
            for layer in names(&layers) {
                std::fs::remove_file(layers.join(layer)).unwrap();
            }
        }
        assert_left(environment, 0, self.there.0.len(), self.there.1);
    }
}

fn images(daemon: &Daemon) -> Vec<String> {
    daemon.environment.succeed(&["image", "ls", "-q"]).lines().map(str::to_owned).collect()
}

/// Returns a number between 0 and 1.
fn fraction() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap();
    f64::from(random) / f64::from(u32::MAX)
}

#[test]
fn a_pull_is_cancelled_at_any_moment() {
    let world = World::new();
    let daemon = &world.daemon;
    let pull = PullRequest { source: world.source.clone(), name: Some("subject".to_owned()) };
    let said = world.cancel_at_any_moment(|| daemon.call(daemon.client.pull_image(&pull)).unwrap());
    println!("{said}");
}

#[test]
fn a_create_is_cancelled_at_any_moment() {
    let world = World::new();
    let daemon = &world.daemon;
    let create = request("subject", |request| request.image = Some(world.source.clone()));
    let said = world.cancel_at_any_moment(|| daemon.call(daemon.client.create_vm(&create)).unwrap());
    println!("{said}");
}
