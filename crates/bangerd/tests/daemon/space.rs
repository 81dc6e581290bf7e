//! What takes space, and what of it goes.

use std::path::Path;
use std::time::Duration;

use banger_testkit::layers::{Layout, Packing, archive, noise};
use banger_testkit::space::{assert_df_is_du, df};
use banger_testkit::{Environment, FileServer, Registry, RegistryOptions, Serving, seed};
use banger_types::operation::OperationStatus;
use banger_types::space::{PruneRequest, PruneRules};
use banger_types::{ErrorKind, Refusal};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use crate::support::{Daemon, SMALL, assert_left, names, refuse, request};

fn item<'a>(usage: &'a Value, kind: &str, name: &str) -> &'a Value {
    let items = usage["items"].as_array().unwrap();
    items.iter().find(|item| item["kind"] == kind && item["name"] == name).unwrap_or(&Value::Null)
}

fn prune(environment: &Environment, more: &[&str]) -> Value {
    let pruned = environment.run(&[&["system", "prune", "--yes", "--json"], more].concat());
    assert_eq!(pruned.code, 0, "{}", pruned.stderr);
    pruned.json()
}

/// Whatever nobody uses.
const EVERYTHING: PruneRules =
    PruneRules { images_only: false, all: true, older_than_seconds: None, keep: 0 };

/// Returns what goes, as `KIND NAME`, sorted.
fn gone(pruned: &Value) -> Vec<String> {
    let items = pruned["items"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut gone: Vec<_> =
        items.map(|item| format!("{} {}", text(&item["kind"]), text(&item["name"]))).collect();
    gone.sort();
    gone
}

#[test]
fn everything_is_counted_once_and_what_is_in_use_is_said() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "vm"], &SMALL[..]].concat());
    let usage = df(&environment);
    assert_eq!(item(&usage, "image", "probe")["used_by"], json!(["vm"]));
    assert_eq!(item(&usage, "image", "probe")["may_go"], false);
    assert_eq!(item(&usage, "image", "busybox")["may_go"], true);
    assert_eq!(item(&usage, "kernel", "debian")["may_go"], false);
    assert!(item(&usage, "vm", "vm")["bytes"].as_u64().unwrap() > 100_000, "{usage}");
    assert!(usage["available"].as_u64().unwrap() > 0);
    assert_df_is_du(&environment);
    let shown = environment.succeed(&["system", "df"]);
    assert!(shown.starts_with("WHAT") && shown.contains("images") && shown.contains("free"), "{shown}");
    let verbose = environment.succeed(&["system", "df", "-v"]);
    assert!(verbose.lines().any(|line| line.starts_with("image") && line.ends_with("vm")), "{verbose}");
    let images = environment.succeed(&["image", "df"]);
    assert!(images.contains("busybox") && !images.contains("kernel"), "{images}");
}

#[test]
fn a_disk_that_another_program_has_is_not_booted() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "vm", "--no-start"], &SMALL[..]].concat());
    let disk = Path::new(environment.vm("vm")["directory"].as_str().unwrap()).join("disk.ext4");
    let disk = std::fs::File::options().read(true).write(true).open(disk).unwrap();
    // As a VMM has it that an earlier daemon has booted.
    rustix::fs::fcntl_lock(&disk, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = refuse(&environment, 4, &["vm", "start", "vm"]);
    assert!(refused.contains("another program still has its disk"), "{refused}");
    drop(disk);
    environment.succeed(&["vm", "start", "vm"]);
}

#[test]
fn superseded_versions_go_and_nothing_that_is_in_use() {
    let environment = Environment::with_fake_vmm();
    let busybox = format!("tar:{}", seed::directory().join("busybox.tar").display());
    let probe = format!("tar:{}", seed::directory().join("probe.tar").display());
    let pull = |source: &str| environment.succeed(&["image", "pull", source, "--name", "mine"]);
    let create = |name: &str| {
        let create = ["vm", "create", name, "--no-start", "--image", "mine"];
        environment.succeed(&[&create[..], &SMALL[2..]].concat());
    };
    pull(&busybox);
    create("old");
    // Each is another one than that before.
    pull(&probe);
    pull(&busybox);
    let versions = || {
        let listed = environment.succeed(&["image", "ls", "-q"]);
        listed.lines().filter(|name| name.starts_with("mine")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(versions().len(), 3);
    let before = (df(&environment), versions());
    let planned = environment.run(&["system", "prune", "--dry-run", "--json"]).json();
    assert_eq!((versions(), gone(&planned).len()), (before.1, 1), "{planned}");
    // Without a terminal to ask on nothing is deleted.
    assert_eq!(environment.run(&["system", "prune"]).code, 2);
    assert_eq!(versions().len(), 3);
    assert_eq!(gone(&prune(&environment, &["--keep", "2"])), [""; 0]);
    assert_eq!(gone(&prune(&environment, &["--older-than", "1h"])), [""; 0]);
    let pruned = prune(&environment, &[]);
    assert_eq!(gone(&pruned), gone(&planned));
    assert_eq!(versions().len(), 2, "one that is called so, and one that a VM uses");
    let freed = before.0["total"].as_u64().unwrap() - df(&environment)["total"].as_u64().unwrap();
    assert!(freed >= 4096 && pruned["bytes"].as_u64().unwrap() >= 4096, "{freed} {pruned}");

    // Whatever nobody uses, and images alone first.
    let planned = environment.run(&["image", "prune", "--all", "--dry-run", "--json"]).json();
    assert_eq!(gone(&planned), ["image busybox", "image debian", "image mine", "image probe"]);
    environment.succeed(&["image", "prune", "--all", "--yes"]);
    assert_left(&environment, 1, 1, 1);
    environment.succeed(&["vm", "start", "old"]);
    assert_eq!(gone(&prune(&environment, &["--all"])), [""; 0]);
    environment.succeed(&["vm", "rm", "-f", "old"]);
    assert_eq!(gone(&prune(&environment, &[])).len(), 1, "what it alone has used");
    assert_left(&environment, 0, 0, 1);
    assert_df_is_du(&environment);
}

#[test]
fn what_a_vm_is_being_made_from_stays() {
    let environment = Environment::with_fake_vmm();
    // A kernel that is not had to the end.
    let server = FileServer::start(Serving {
        content: noise(1 << 20, 5),
        cuts: vec![4096],
        holds: true,
        ..Serving::default()
    });
    let text = format!(
        "[image.mine]\ndescription = \"Mine\"\nkernel = \"slow\"\nsources = [\"tar:{}\"]\n\
         [kernel.slow]\ndescription = \"Slow\"\nsources = [\"{}#sha256={}\"]\n",
        seed::directory().join("busybox.tar").display(),
        server.url("vmlinux"),
        "5".repeat(64),
    );
    let configuration = environment.data().join(".config/banger");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("catalog.toml"), text).unwrap();
    let daemon = Daemon::of(environment);
    let mut request = request("vm", |request| request.image = Some("mine".to_owned()));
    request.kernel = None;
    let operation = daemon.call(daemon.client.create_vm(&request)).unwrap();
    daemon.reach(&operation, "kernel: download it");
    let pruned = prune(&daemon.environment, &["--all"]);
    assert!(!gone(&pruned).contains(&"image mine".to_owned()), "{pruned}");
    let refused = daemon.environment.run(&["image", "rm", "-y", "mine"]);
    assert!(refused.code == 4 && refused.stderr.contains("being made from it"), "{}", refused.stderr);
    daemon.call(daemon.client.cancel_operation(operation.id.as_str())).unwrap();
    assert_eq!(daemon.environment.run(&["op", "watch", operation.id.as_str()]).code, 7);
    daemon.environment.succeed(&["image", "rm", "-y", "mine"]);
}

#[test]
fn layers_go_when_they_were_not_used_for_long_and_never_under_a_pull() {
    let registry = Registry::start(RegistryOptions::default());
    let directory = tempfile::tempdir().unwrap();
    let content = noise(2 << 20, 7);
    let layer = archive(|b| {
        banger_testkit::layers::add(b, tar::EntryType::Regular, b"file", b"", &content);
    });
    let layout = Layout::of(&directory.path().join("layout"), &[(&layer[..], Packing::Gzip)], &json!({}));
    registry.push(&layout.path, "one", "tool");
    let environment = Environment::empty();
    let source = format!("docker://{}/tool", registry.host());
    environment.succeed(&["image", "pull", &source, "--name", "tool"]);
    let stored = environment.data().join("layers/sha256");
    assert_eq!(gone(&prune(&environment, &[])), [""; 0], "it was used just now");
    let layer = stored.join(&names(&stored)[0]);
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(8 * 24);
    std::fs::File::options().append(true).open(&layer).unwrap().set_modified(long_ago).unwrap();
    let pruned = prune(&environment, &["--dry-run"]);
    assert_eq!(gone(&pruned), ["layer layers"]);
    let bytes = pruned["bytes"].as_u64().unwrap();
    assert!((2 << 20..3 << 20).contains(&bytes), "both its names are one file: {pruned}");
    prune(&environment, &[]);
    assert_eq!(names(&stored), [""; 0]);
    assert_eq!(names(&environment.data().join("layers/diff-ids")), [""; 0]);
    assert_df_is_du(&environment);

    // Somebody pulls, and waits for a pipe that nobody writes to.
    environment.succeed(&["image", "rm", "-y", "tool"]);
    environment.succeed(&["image", "pull", &source, "--name", "tool"]);
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let daemon = Daemon::of(environment);
    let request = banger_api::request::PullRequest {
        source: format!("tar:{}", pipe.display()),
        name: Some("waits".to_owned()),
    };
    let operation = daemon.call(daemon.client.pull_image(&request)).unwrap();
    let writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    let pruned = prune(&daemon.environment, &["--all"]);
    assert_eq!(gone(&pruned), ["image tool"]);
    assert!(pruned["notes"][0].as_str().unwrap().contains("being pulled"), "{pruned}");
    assert_eq!(names(&stored).len(), 1);
    daemon.call(daemon.client.cancel_operation(operation.id.as_str())).unwrap();
    drop(writer);
    let nothing = PruneRequest { rules: EVERYTHING, only: Some(Vec::new()) };
    let pruned = daemon.finish(daemon.client.prune(&nothing)).pruned.unwrap();
    assert_eq!((pruned.items, pruned.bytes), (Vec::new(), 0));
    assert_eq!(daemon.environment.run(&["op", "watch", operation.id.as_str()]).code, 7);
    assert_eq!(gone(&prune(&daemon.environment, &["--all"])), ["layer layers"]);
}

#[test]
fn a_prune_is_an_operation_that_one_can_cancel() {
    let daemon = Daemon::of(Environment::empty());
    let stored = daemon.environment.data().join("layers/sha256");
    let fill = || {
        for number in 0..2000 {
            std::fs::write(stored.join(format!("{number:064x}")), b"layer").unwrap();
        }
    };
    let begin = || daemon.call(daemon.client.prune(&PruneRequest { rules: EVERYTHING, only: None })).unwrap();
    let mut cancelled = 0;
    for _ in 0..20 {
        fill();
        let begun = begin();
        // It may have ended before.
        let _ = daemon.call(daemon.client.cancel_operation(begun.id.as_str()));
        let ended = daemon.follow_until(&begun, |operation| operation.status.is_final());
        let left = names(&stored).len();
        match ended.status {
            OperationStatus::Cancelled => {
                cancelled += 1;
                // A block each.
                let gone = ended.pruned.map_or(0, |pruned| pruned.bytes) / 4096;
                assert_eq!(gone + left as u64, 2000, "what is gone is said");
            }
            OperationStatus::Succeeded => assert_eq!(left, 0, "{ended:?}"),
            _ => panic!("{ended:?}"),
        }
    }
    assert!(cancelled > 0, "none was quick enough");
    // The next try works, and says what it has done for as long as it is remembered.
    fill();
    let ended = daemon.follow_until(&begin(), |operation| operation.status.is_final());
    assert_eq!((ended.status, names(&stored).len()), (OperationStatus::Succeeded, 0), "{ended:?}");
    let shown = daemon.environment.succeed(&["op", "show", ended.id.as_str()]);
    assert!(shown.contains("Deleted:") && shown.contains("(layers)"), "{shown}");
}

#[test]
fn what_was_asked_for_with_a_key_is_deleted_once() {
    let daemon = Daemon::of(Environment::with_fake_vmm());
    let image = format!("tar:{}", seed::directory().join("probe.tar").display());
    let pull = || daemon.environment.succeed(&["image", "pull", &image, "--name", "mine"]);
    pull();
    let client = daemon.client.with_key("once");
    let first = daemon.finish(client.delete_image("mine"));
    assert_eq!((first.status, &*first.subject), (OperationStatus::Succeeded, "mine"), "{first:?}");
    // Whoever has not heard the answer asks again, and the image of that name is another one by then.
    pull();
    assert_eq!(daemon.call(client.delete_image("mine")).unwrap().id, first.id);
    daemon.environment.succeed(&["image", "show", "mine"]);
    let unknown = daemon.refused(daemon.client.delete_image("nobody"));
    assert_eq!(unknown.kind, ErrorKind::NotFound);
    let in_use = daemon.refused({
        daemon.create("vm", |request| request.no_start = true);
        daemon.client.delete_image(seed::PROBE)
    });
    assert_eq!(in_use.refusal, Some(Refusal::InUse), "{in_use:?}");
    assert_eq!(in_use.why, ["it is in use by vm"]);
    assert_eq!(in_use.what, format!("cannot delete the image '{}'", seed::PROBE));
}
