//! An image of a registry in a VM: what all kinds of layers come to, and what its configuration asks for.

use std::path::Path;
use std::process::Command;

use banger_testkit::layers::{Layout, Packing, corpus};
use banger_testkit::{Environment, Registry, RegistryOptions, not_run, seed, wait_until};
use serde_json::json;

/// Tells everything of a tree that busybox can tell: kind, mode, owner, size, time and devices of every file, the links of those
/// that are no directories (an overlay has its own idea of theirs), where links lead, and digests.
const LOOK: &str = r#"cd "$1" || exit 1
$2 find $3 -print0 | $2 sort -z | $2 xargs -0 $2 stat -c '%n|%F|%a|%u|%g|%Y|%t|%T'
$2 find $3 ! -type d -print0 | $2 sort -z | $2 xargs -0 $2 stat -c '%n|%h|%N'
$2 find $3 -type f -print0 | $2 sort -z | $2 xargs -0 $2 sha256sum"#;

/// What an image's service does: tells with what it runs, and what ends it.
const SERVICE: &str = "trap 'echo asked by QUIT; exit 0' QUIT; \
                       echo \"served as $(id -un):$(id -gn) in $(pwd) with $GIVEN and $1\"; \
                       while :; do sleep 0.2; done";

fn push(registry: &Registry, directory: &Path) -> Layout {
    let busybox = std::fs::read(seed::directory().join("busybox.tar")).unwrap();
    let corpus = corpus::merged();
    let mut layers = vec![(&busybox[..], Packing::Plain)];
    layers.extend(corpus.iter().map(|layer| (&layer[..], Packing::Gzip)));
    let config = json!({
        "User": "alice",
        "Env": ["GIVEN=a value", "PATH=/usr/bin:/bin"],
        "WorkingDir": "/merged/usr",
        "Entrypoint": ["/bin/sh", "-c", SERVICE, "service"],
        "Cmd": ["an argument"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"of": "the test"},
        "StopSignal": "SIGQUIT",
    });
    let layout = Layout::of(&directory.join("layout"), &layers, &config);
    registry.push(&layout.path, "one", "all/of:it");
    layout
}

#[test]
fn an_image_of_a_registry_is_in_a_vm_what_it_says() {
    if !rustix::process::geteuid().is_root() {
        not_run(
            "an_image_of_a_registry_is_in_a_vm_what_it_says",
            "only root unpacks devices to compare with",
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(RegistryOptions::default());
    let layout = push(&registry, directory.path());
    let environment = Environment::new();
    let source = format!("{}/all/of:it", registry.host());
    let small = ["--memory", "256M", "--vcpus", "1", "--net", "none"];
    // The image is got by whoever wants a VM of it.
    let run = ["vm", "run", "--service", "--name", "all", "--image", &source];
    environment.succeed(&[&run[..], &small].concat());

    let look = |tops: &str| {
        let script = ["sh", "-c", LOOK, "look", "/", "/bin/busybox", tops];
        environment.succeed(&[&["exec", "-u", "root", "all", "--"], &script[..]].concat())
    };
    let bundle = directory.path().join("bundle");
    let image = format!("{}:one", layout.path.display());
    let unpacked = Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let rootfs = bundle.join("rootfs");
    for top in corpus::TOP {
        let mut script = Command::new("sh");
        let output = script.args(["-c", LOOK, "look"]).arg(&rootfs).args(["busybox", top]).output().unwrap();
        let expected = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(expected.lines().count() > 3, "{expected}");
        let found = look(top);
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected, "{top}");
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{top}");
    }
    let capability = environment.run(&["exec", "-u", "root", "all", "--", "getfattr", "--version"]);
    assert_ne!(capability.code, 0, "busybox has grown a getfattr: compare attributes here, too");

    its_configuration_is_honoured(&environment, &source);
}

fn its_configuration_is_honoured(environment: &Environment, source: &str) {
    let shown = environment.run(&["image", "show", source, "--json"]).json();
    assert_eq!(shown["config"]["exposed_ports"], json!(["8080/tcp"]));
    assert_eq!(shown["config"]["labels"], json!({"of": "the test"}));
    let said = environment.succeed(&["exec", "all", "--", "sh", "-c", "id -un; pwd; echo $GIVEN"]);
    assert_eq!(said, "alice\n/merged/usr\na value\n");
    let console = || {
        let log = environment.vm("all")["directory"].as_str().unwrap().to_owned() + "/serial.log";
        String::from_utf8_lossy(&std::fs::read(log).unwrap()).replace("\r\n", "\n")
    };
    let served = "served as alice:alice in /merged/usr with a value and an argument\n";
    wait_until(console, |console| console.contains(served));
    environment.succeed(&["vm", "stop", "all"]);
    // Its own signal has ended it.
    wait_until(console, |console| console.contains("asked by QUIT\n"));
}
