//! What takes space, and deleting what nobody uses.

use serde_json::json;

use crate::support::{Terminal, World};

#[test]
fn what_takes_space_is_shown_by_kind_and_by_thing() {
    let world = World::new();
    insta::assert_snapshot!(world.run(["system", "df"]), @r"
    exit code: 0
    --- stdout
    WHAT     COUNT   SIZE       CAN GO
    images   2       590.0 MB   290.0 MB
    VMs      1       1.5 MB     -
    layers   -       90.0 MB    90.0 MB
    all      -       681.5 MB   380.0 MB
    free     -       20.0 GB    -
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["image", "df"]), @r"
    exit code: 0
    --- stdout
    WHAT     NAME                  SIZE       CAN GO   USED BY
    image    debian                300.0 MB   no       web, work
    image    debian@00000000000a   290.0 MB   yes      -
    layers   layers                90.0 MB    yes      -
    all      -                     680.0 MB   -        -
    --- stderr
    ");
}

#[test]
fn nothing_is_deleted_that_nobody_said_yes_to() {
    let world = World::new();
    let planned = world.run(["system", "prune", "--dry-run", "--older-than", "2d"]);
    assert_eq!(planned.code, 0, "{planned}");
    let asked = || world.daemon().requests();
    assert_eq!(
        asked()[0].body,
        json!({"images_only": false, "all": false, "older_than_seconds": 172_800, "keep": 0, "dry_run": true})
    );
    let refused = world.run(["image", "prune"]);
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused}");
    assert!(asked().iter().all(|request| request.body["dry_run"] == true));
    let pruned = world.run(["image", "prune", "--all", "--keep", "2", "--yes"]);
    assert!(pruned.code == 0 && pruned.text().contains("debian@00000000000a"), "{pruned}");
    let last = asked().last().unwrap().body.clone();
    assert_eq!(
        last,
        json!({"images_only": true, "all": true, "older_than_seconds": null, "keep": 2, "dry_run": false})
    );
    assert_eq!(world.run(["system", "prune", "--older-than", "soon"]).code, 2);
}

#[test]
fn on_a_terminal_only_what_was_shown_is_deleted() {
    let world = World::new();
    let mut terminal = Terminal::new(100, 24);
    let asked = || world.daemon().requests();
    for (answer, code) in [(&b"n\r"[..], 7), (b"y\r", 0)] {
        let child = terminal.spawn(world.command(["image", "prune"]));
        let shown = terminal.wait_for("Delete all of that? [y/N] ");
        assert!(shown.contains("debian@00000000000a") && shown.contains("layers"), "{shown}");
        assert!(asked().iter().all(|request| request.body["dry_run"] == true));
        terminal.type_keys(answer);
        assert_eq!(world.end(child).code, code);
    }
    terminal.wait_for("deleted 380.0 MB");
    let request = asked().last().unwrap().body.clone();
    assert_eq!(request["dry_run"], false);
    let only = json!([{"kind": "image", "name": "debian@00000000000a"}, {"kind": "layer", "name": "layers"}]);
    assert_eq!(request["only"], only);
}
