//! Errors: three parts, exit codes, JSON.

use banger_types::{ApiError, ErrorKind};

use crate::support::World;

#[test]
fn an_error_tells_what_why_and_what_to_do() {
    let world = World::new();
    let error = ApiError::new(ErrorKind::Failed, "cannot boot VM 'web'")
        .because("qemu ended with exit code 1")
        .because("Cannot allocate memory")
        .fix("banger vm create --memory 512M");
    world.daemon().shown(|shown| shown.refusal = Some(error.clone()));
    insta::assert_snapshot!(world.run(["vm", "start", "web"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot boot VM 'web'
      because: qemu ended with exit code 1
      because: Cannot allocate memory
      try: banger vm create --memory 512M
    ");
    world.daemon().shown(|shown| shown.refusal = Some(error.clone()));
    let ended = world.run(["--json", "vm", "start", "web"]);
    assert_eq!(serde_json::from_str::<ApiError>(&ended.stderr).unwrap(), error);
    assert!(ended.stdout.is_empty());
}

#[test]
fn the_kind_decides_the_exit_code() {
    let world = World::new();
    for (kind, code) in [
        (ErrorKind::Failed, 1),
        (ErrorKind::Usage, 2),
        (ErrorKind::NotFound, 3),
        (ErrorKind::Conflict, 4),
        (ErrorKind::Unreachable, 5),
        (ErrorKind::NotPermitted, 6),
        (ErrorKind::Cancelled, 7),
    ] {
        world.daemon().shown(|shown| shown.refusal = Some(ApiError::new(kind, "no")));
        assert_eq!(world.run(["vm", "start", "web"]).code, code, "{kind:?}");
        world.daemon().shown(|shown| shown.refusal = Some(ApiError::new(kind, "no")));
        assert_eq!(world.run(["run", "true"]).code, 125, "{kind:?}");
    }
}

#[test]
fn of_several_vms_each_failure_is_told_and_the_rest_is_done() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.shown(|shown| {
        shown.refusal = Some(ApiError::not_found("VM", "a"));
        shown
            .operations
            .push_back(crate::support::succeeded(banger_types::operation::OperationKind::VmStart, "b"));
    });
    insta::assert_snapshot!(world.run(["start", "a", "b"]), @r"
    exit code: 3
    --- stdout
    b
    --- stderr
    error: there is no VM named 'a'
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    ");
}

#[test]
fn an_answer_that_makes_no_sense_leads_to_the_versions() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.version = "9.9.9".to_owned();
        shown.nonsense = Some("<html>".to_owned());
    });
    let ended = world.run(["vm", "ls"]);
    insta::assert_snapshot!(
        ended.to_string().replace(env!("CARGO_PKG_VERSION"), "[VERSION]"),
        @r"
    exit code: 1
    --- stdout
    --- stderr
    error: bangerd gave an answer that this version of banger does not understand
      because: expected value at line 1 column 1
      because: bangerd is version 9.9.9, banger is [VERSION]
      try: banger daemon stop; the next command starts the bangerd that belongs to this banger
    "
    );
}

#[test]
fn nobody_reading_is_no_error() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = world.end(world.command(["vm", "ls", "--json"]).stdout(writer).spawn().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (141, ""));
}

#[test]
fn a_socket_of_somebody_else_is_no_reason_to_start_a_daemon() {
    let world = World::without_daemon();
    let socket = world.path().join("file");
    std::fs::write(&socket, "").unwrap();
    let mut command = world.command(["vm", "ls"]);
    let ended = world.end(command.env("BANGER_SOCKET", socket.join("below")).spawn().unwrap());
    insta::assert_snapshot!(ended, @r"
    exit code: 5
    --- stdout
    --- stderr
    error: cannot connect to bangerd on [DIR]/file/below
      because: Not a directory (os error 20)
    ");
}
