//! Engines.

use banger_types::engine::EngineStatus;
use banger_types::operation::OperationKind;
use banger_types::vm::EngineKind;

use crate::support::{World, succeeded};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn firecracker() -> EngineStatus {
    EngineStatus {
        kind: EngineKind::Firecracker,
        program: Some("/data/engines/firecracker-1.16.1/firecracker".into()),
        version: Some("1.16.1".to_owned()),
        problem: None,
        fix: None,
    }
}

fn qemu() -> EngineStatus {
    EngineStatus {
        kind: EngineKind::Qemu,
        program: None,
        version: None,
        problem: Some("the program 'qemu-system-x86_64' is not installed".to_owned()),
        fix: Some("sudo apt install qemu-system-x86".to_owned()),
    }
}

#[test]
fn engines_are_listed_with_what_to_do_about_those_that_are_not_there() {
    let world = World::new();
    world.daemon().shown(|shown| shown.engines = vec![firecracker(), qemu()]);
    insta::assert_snapshot!(world.run(["engine", "ls"]), @r"
    exit code: 0
    --- stdout
    NAME          VERSION   PROGRAM
    firecracker   1.16.1    /data/engines/firecracker-1.16.1/firecracker
    qemu          -         the program 'qemu-system-x86_64' is not installed
    --- stderr
    qemu: sudo apt install qemu-system-x86
    ");
    assert_eq!(world.run(["engine", "ls", "-q"]).text(), "firecracker\n");
    let listed = world.run(["engine", "ls", "--json"]);
    assert_eq!(serde_json::from_slice::<Vec<EngineStatus>>(&listed.stdout).unwrap(), [firecracker(), qemu()]);
}

#[test]
fn an_engine_is_installed() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.engines = vec![firecracker(), qemu()];
        shown.operations.extend([(); 3].map(|()| succeeded(OperationKind::EngineInstall, "firecracker")));
    });
    insta::assert_snapshot!(world.run(["engine", "install"]), @r"
    exit code: 0
    --- stdout
    firecracker 1.16.1
    --- stderr
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    ");
    let other = world.run(["engine", "install", "--url", "http://here/fc.tgz", "--sha256", DIGEST, "--json"]);
    assert_eq!(serde_json::from_slice::<EngineStatus>(&other.stdout).unwrap(), firecracker());
    let asked = world.daemon().requests();
    assert_eq!(asked[0].body, serde_json::json!({ "engine": "firecracker", "url": null, "digest": null }));
    assert_eq!(
        asked[1].body,
        serde_json::json!({ "engine": "firecracker", "url": "http://here/fc.tgz", "digest": DIGEST })
    );
    assert_eq!(world.run(["engine", "install", "--no-wait"]).text(), "0000000000c1\n");
}

#[test]
fn a_digest_that_is_none_is_refused() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["engine", "install", "--url", "http://here", "--sha256", "12"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: invalid value '12' for '--sha256 <DIGEST>': '12' is not a SHA-256 digest: write 'sha256:' and 64 lower-case hexadecimal digits

    For more information, try '--help'.
    ");
    assert_eq!(world.run(["engine", "install", "--url", "http://here"]).code, 2);
}
