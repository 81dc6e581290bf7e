//! `banger version`.

use crate::support::World;

#[test]
fn both_versions_are_told() {
    let world = World::new();
    world.daemon().shown(|shown| shown.system.version = "9.9.9".to_owned());
    insta::assert_snapshot!(world.run(["version"]), @r"
    exit code: 0
    --- stdout
    banger 0.1.0
    bangerd 9.9.9
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["version", "--json"]), @r#"
    exit code: 0
    --- stdout
    {
      "banger": "0.1.0",
      "bangerd": "9.9.9"
    }
    --- stderr
    "#);
}

#[test]
fn it_starts_no_daemon() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["version"]), @r"
    exit code: 0
    --- stdout
    banger 0.1.0
    bangerd (not running)
    --- stderr
    ");
    assert!(!world.path().join("data").exists());
}

#[test]
fn a_daemon_that_cannot_be_understood_still_has_a_version() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.version = "9.9.9".to_owned();
        shown.nonsense = Some("{}".to_owned());
    });
    insta::assert_snapshot!(world.run(["version"]), @r"
    exit code: 0
    --- stdout
    banger 0.1.0
    bangerd 9.9.9
    --- stderr
    ");
}
