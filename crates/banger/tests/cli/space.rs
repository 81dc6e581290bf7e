//! What takes space, and deleting what nobody uses.

use banger_types::operation::{Operation, OperationKind, OperationStatus};
use banger_types::space::Pruned;
use banger_types::{ApiError, ErrorKind};
use serde_json::json;

use crate::support::sample::{self, succeeded};
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

fn operations_of(id: &str, pruned: Pruned) -> Vec<Operation> {
    let mut all = succeeded(OperationKind::Prune, "images");
    for operation in &mut all {
        operation.id = id.parse().unwrap();
    }
    let end = all.last_mut().unwrap();
    end.pruned = Some(pruned);
    all
}

#[test]
fn nothing_is_deleted_that_nobody_said_yes_to() {
    let world = World::new();
    let planned = world.run(["system", "prune", "--dry-run", "--older-than", "2d"]);
    assert!(planned.code == 0 && planned.text().contains("debian@00000000000a"), "{planned}");
    let query = world.daemon().shown(|shown| shown.planned.clone());
    assert_eq!(query.as_deref(), Some("images_only=false&all=false&keep=0&older_than_seconds=172800"));
    let refused = world.run(["image", "prune"]);
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused}");
    let asked = || world.daemon().requests();
    assert_eq!(asked(), []);
    let operations = operations_of("0000000000c1", sample::pruned());
    world.daemon().shown(|shown| shown.operations.push_back(operations));
    let pruned = world.run(["image", "prune", "--all", "--keep", "2", "--yes"]);
    assert!(pruned.code == 0 && pruned.text().contains("debian@00000000000a"), "{pruned}");
    assert_eq!(asked().last().unwrap().body, json!({"rules": {"images_only": true, "all": true, "keep": 2}}));
    assert_eq!(world.run(["system", "prune", "--older-than", "soon"]).code, 2);
}

#[test]
fn what_is_gone_is_said_although_not_all_of_it_is() {
    let world = World::new();
    let mut operations = operations_of("0000000000c1", sample::pruned());
    let end = operations.last_mut().unwrap();
    end.status = OperationStatus::Failed;
    let error = ApiError::new(ErrorKind::Failed, "not all of it could be deleted");
    end.error = Some(error.because("cannot delete layers: it is a directory"));
    world.daemon().shown(|shown| shown.operations.push_back(operations));
    insta::assert_snapshot!(world.run(["image", "prune", "--yes"]), @r"
    exit code: 1
    --- stdout
    WHAT     NAME                  SIZE       CAN GO   USED BY
    image    debian@00000000000a   290.0 MB   yes      -
    layers   layers                90.0 MB    yes      -
    all      -                     380.0 MB   -        -
    --- stderr
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    error: not all of it could be deleted
      because: cannot delete layers: it is a directory
    ");
    // Nor is anybody kept who does not want to wait.
    world.daemon().shown(|shown| shown.operations.push_back(operations_of("0000000000c2", sample::pruned())));
    assert_eq!(world.run(["system", "prune", "--yes", "--no-wait"]).text(), "0000000000c2\n");
}

#[test]
fn on_a_terminal_only_what_was_shown_is_deleted() {
    let world = World::new();
    let mut terminal = Terminal::new(100, 24);
    let asked = || world.daemon().requests();
    let operations = operations_of("0000000000c1", sample::pruned());
    world.daemon().shown(|shown| shown.operations.push_back(operations));
    for (answer, code) in [(&b"n\r"[..], 7), (b"y\r", 0)] {
        let child = terminal.spawn(world.command(["image", "prune"]));
        let shown = terminal.wait_for("Delete all of that? [y/N] ");
        assert!(shown.contains("debian@00000000000a") && shown.contains("layers"), "{shown}");
        assert_eq!(asked(), []);
        terminal.type_keys(answer);
        assert_eq!(world.end(child).code, code);
    }
    terminal.wait_for("deleted 380.0 MB");
    let only = json!([{"kind": "image", "name": "debian@00000000000a"}, {"kind": "layer", "name": "layers"}]);
    assert_eq!(asked().last().unwrap().body["only"], only);
}
