//! Dockerfiles, as far as no builder is needed: what one gets, and what it is to forget.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use banger_testkit::layers::{Layout, Packing, add, archive};
use banger_testkit::{Builder, Environment, not_run, programs};
use serde_json::json;
use tar::EntryType;

use crate::support::{SMALL, assert_left};

/// A program that is called as a builder is and builds nothing: what it gets, what is taken from it and what it is to forget does
/// not depend on how it builds. Docker's daemon does not run where these tests do.
struct FakeBuilder(tempfile::TempDir);

impl FakeBuilder {
    /// `does` is a shell's script, with its verb as `$1`, its last argument as `$last` and its own directory as `$here`.
    fn new(name: &str, does: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(name);
        let here = directory.path().display();
        let script = format!(
            "#!/bin/sh\nhere={here}\necho \"$@\" >> \"$here/calls\"\n\
             for last; do :; done\n{does}\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the environment, where this is the first builder that the daemon finds.
    fn of(&self, environment: Environment) -> Environment {
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{others}", self.path().display(), programs().display());
        environment.with_variable("PATH", &path)
    }

    /// Returns what it was called with, a line each time.
    fn calls(&self) -> String {
        std::fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }
}

/// What the seed has.
const SEED: (usize, usize) = (3, 1);

#[test]
fn what_is_part_of_the_program_is_what_a_builder_gets() {
    // No image is built by it: whether that goes well is another test's.
    let builder = FakeBuilder::new(
        "buildah",
        "[ $1 = build ] && cp \"$last/Dockerfile\" \"$here\" && echo 'no network'; exit 1",
    );
    let environment = builder.of(Environment::empty());
    let configuration = environment.data().join(".config/banger");
    std::fs::create_dir_all(&configuration).unwrap();
    let nowhere = "[debian]\nmirror = \"http://127.0.0.1:1/debian\"\n";
    std::fs::write(configuration.join("config.toml"), nowhere).unwrap();
    let refused = environment.run(&[&["vm", "create"], &SMALL[2..]].concat());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let error = &refused.stderr[refused.stderr.find("\nerror: ").unwrap()..];
    for words in ["dockerfile:images/golden: buildah did not build", "no network", "debian:bookworm: "] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/golden/Dockerfile");
    let got = std::fs::read_to_string(builder.path().join("Dockerfile")).unwrap();
    assert!(got == std::fs::read_to_string(golden).unwrap());
    assert_left(&environment, 0, 0, 0);
}

#[test]
fn a_daemon_that_dies_while_something_is_built_lets_the_builder_forget_it() {
    let builder = FakeBuilder::new("buildah", "[ $1 = build ] && exec sleep 1000; exit 125");
    let environment = builder.of(Environment::with_fake_vmm());
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let source = format!("dockerfile:{}", context.path().display());
    environment.run(&["image", "pull", &source, "--name", "mine", "--no-wait"]);
    let until_it_builds = |times: usize| {
        let deadline = Instant::now() + Duration::from_mins(1);
        while builder.calls().matches("build ").count() < times {
            assert!(Instant::now() < deadline, "{}", environment.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until_it_builds(1);
    environment.crash_daemon();
    let operations = environment.run(&["op", "ls", "--json"]).json();
    // The next one builds it anew.
    until_it_builds(2);
    environment.succeed(&["op", "cancel", operations[0]["id"].as_str().unwrap()]);
    let tag = builder.calls().split_once("--tag=").unwrap().1.split(' ').next().unwrap().to_owned();
    assert!(tag.starts_with("localhost/banger-dockerfile:"), "{tag}");
    assert!(builder.calls().contains(&format!("rmi {tag}\n")), "{}", builder.calls());
    assert_left(&environment, 0, SEED.0, SEED.1);
}

#[test]
fn docker_hands_over_what_it_has_built_as_an_archive() {
    let test = "docker_hands_over_what_it_has_built_as_an_archive";
    if !rustix::process::geteuid().is_root() {
        not_run(test, "only root can hide the other builders");
        return;
    }
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let docker = FakeBuilder::new(
        "docker",
        "case $1 in build|rmi) ;; save) cp \"$here/image.tar\" \"$3\" ;; *) exit 125 ;; esac",
    );
    let environment = docker.of(Environment::with_fake_vmm());
    // What it has built is an archive as Docker's are, by skopeo.
    let layer = archive(|b| add(b, EntryType::Regular, b"made", b"", b"by docker"));
    let layout =
        Layout::of(&docker.path().join("layout"), &[(&layer, Packing::Gzip)], &json!({"Cmd": ["/made"]}));
    let source = format!("oci:{}:one", layout.path.display());
    let place = format!("docker-archive:{}:built:1", docker.path().join("image.tar").display());
    let copied = Command::new("skopeo").args(["copy", "--quiet", &source, &place]).status().unwrap();
    assert!(copied.success());
    Builder::start_daemon_without(&environment, &["buildah", "podman"]);
    let source = format!("dockerfile:{}?arg=A=b&target=last", context.path().display());
    let pulled = environment.run(&["image", "pull", &source, "--name", "mine"]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert!(pulled.stderr.contains("build it with docker"), "{}", pulled.stderr);
    let calls = docker.calls();
    let tag = calls.split_once("--tag=").unwrap().1.split(' ').next().unwrap();
    let lines: Vec<_> = calls.lines().collect();
    let build = format!("build --tag={tag} --target=last --build-arg=A=b -- {}", context.path().display());
    assert_eq!((lines[0], lines[2]), (&*build, &*format!("rmi {tag}")));
    assert!(lines[1].starts_with("save --output ") && lines[1].ends_with(&format!(" {tag}")), "{calls}");
    let shown = environment.run(&["image", "show", "mine", "--json"]).json();
    assert_eq!(shown["config"]["command"], json!(["/made"]));
    assert_left(&environment, 0, SEED.0 + 1, SEED.1);
}
