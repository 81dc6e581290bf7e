//! VMs: tables, JSON, and the requests that verbs make.

use banger_types::VmName;
use banger_types::guest::ShutdownAction;
use banger_types::operation::{Operation, OperationKind};
use banger_types::size::Mebibytes;
use banger_types::vm::{NetworkMode, Vm, VmCreateRequest, VmState, VmStopRequest};
use serde_json::json;

use crate::support::{Request, World, succeeded, vm};

fn world_with(vms: Vec<Vm>) -> World {
    let world = World::new();
    world.daemon().shown(|shown| shown.vms = vms);
    world
}

fn next(world: &World, kind: OperationKind, subject: &str) {
    world.daemon().shown(|shown| shown.operations.push_back(succeeded(kind, subject)));
}

#[test]
fn a_list_is_a_table_names_or_json() {
    let vms = vec![vm("a", VmState::Stopped), vm("web", VmState::Running)];
    let world = world_with(vms.clone());
    insta::assert_snapshot!(world.run(["vm", "ls"]), @r"
    exit code: 0
    --- stdout
    NAME   STATE     IMAGE             VCPUS   MEMORY   DISK             CREATED       PORTS
    a      stopped   debian:bookworm   2       2G       26.7 MB of 20G   3 hours ago   -
    web    running   debian:bookworm   2       2G       26.7 MB of 20G   3 hours ago   127.0.0.1:8080->80
    --- stderr
    ");
    assert_eq!(world.run(["ps"]).text(), world.run(["vm", "ls"]).text());
    assert_eq!(world.run(["vm", "ls", "-q"]).text(), "a\nweb\n");
    assert_eq!(serde_json::from_slice::<Vec<Vm>>(&world.run(["vm", "ls", "--json"]).stdout).unwrap(), vms);
}

#[test]
fn an_empty_list_has_its_heading() {
    let world = world_with(Vec::new());
    insta::assert_snapshot!(world.run(["ps"]), @r"
    exit code: 0
    --- stdout
    NAME   STATE   IMAGE   VCPUS   MEMORY   DISK   CREATED   PORTS
    --- stderr
    ");
}

#[test]
fn everything_about_a_vm_is_shown() {
    let world = world_with(vec![vm("web", VmState::Running), vm("dead", VmState::Failed)]);
    insta::assert_snapshot!(world.run(["vm", "show", "web"]), @r"
    exit code: 0
    --- stdout
    Name:          web
    Id:            0123456789ab
    State:         running
    Image:         debian:bookworm (00000000000a)
    Kernel:        debian:bookworm (00000000000b)
    vCPUs:         2
    Memory:        2G
    Disk:          26.7 MB of 20G
    Network:       user
    Engine:        qemu (emulation)
    Created:       3 hours ago
    Started:       3 minutes ago
    Process:       4242
    Ports:         127.0.0.1:8080->80
    Environment:   LANG=C
    Directory:     /data/vms/0123456789ab
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["vm", "show", "dead"]), @r"
    exit code: 0
    --- stdout
    Name:          dead
    Id:            0123456789ab
    State:         failed
    Reason:        qemu exited with code 1
    Image:         debian:bookworm (00000000000a)
    Kernel:        debian:bookworm (00000000000b)
    vCPUs:         2
    Memory:        2G
    Disk:          26.7 MB of 20G
    Network:       user
    Engine:        qemu
    Created:       3 hours ago
    Ports:         127.0.0.1:8080->80
    Environment:   LANG=C
    Directory:     /data/vms/0123456789ab
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["vm", "show", "none"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: there is no VM named 'none'
      try: banger vm ls
    ");
    let shown: Vm = serde_json::from_slice(&world.run(["vm", "show", "web", "--json"]).stdout).unwrap();
    assert_eq!(shown.name.as_str(), "web");
}

#[test]
fn create_asks_for_what_was_typed() {
    let world = world_with(Vec::new());
    next(&world, OperationKind::VmCreate, "web");
    let mut command = world.command([
        "vm",
        "create",
        "web",
        "--image",
        "tar:/x.tar",
        "--vcpus",
        "4",
        "-m",
        "1.5G",
        "--disk",
        "8G",
        "--kernel",
        "k",
        "--net",
        "none",
        "-p",
        "8080:80",
        "-p",
        "[::1]:0:443",
        "-e",
        "A=1 2",
        "-e",
        "HERE",
        "-e",
        "NOWHERE",
        "--no-start",
    ]);
    let ended = world.end(command.env("HERE", "x").spawn().unwrap());
    assert_eq!((ended.code, ended.text()), (0, "web\n"), "{ended}");
    let [Request { method, path, body }] = &world.daemon().requests()[..] else { panic!() };
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/v1/vms"));
    let forward = |listen: &str, guest_port| banger_types::monitor::Forward {
        listen: listen.parse().unwrap(),
        guest_port,
    };
    assert_eq!(
        serde_json::from_value::<VmCreateRequest>(body.clone()).unwrap(),
        VmCreateRequest {
            name: Some("web".parse::<VmName>().unwrap()),
            image: Some("tar:/x.tar".to_owned()),
            kernel: Some("k".to_owned()),
            vcpus: Some(4),
            memory: Some(Mebibytes(1536)),
            disk: Some(Mebibytes(8192)),
            network: NetworkMode::None,
            environment: vec!["A=1 2".to_owned(), "HERE=x".to_owned()],
            forwards: vec![forward("127.0.0.1:8080", 80), forward("[::1]:0", 443)],
            no_start: true,
            remove: false,
            ..VmCreateRequest::default()
        }
    );
}

#[test]
fn create_without_anything_leaves_everything_to_the_daemon() {
    let world = world_with(vec![vm("quiet-otter", VmState::Running)]);
    next(&world, OperationKind::VmCreate, "quiet-otter");
    insta::assert_snapshot!(world.run(["vm", "create"]), @r"
    exit code: 0
    --- stdout
    quiet-otter
    --- stderr
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    ");
    let body = world.daemon().requests()[0].body.clone();
    assert_eq!(serde_json::from_value::<VmCreateRequest>(body).unwrap(), VmCreateRequest::default());
    next(&world, OperationKind::VmCreate, "quiet-otter");
    let ended = world.run(["vm", "create", "--json"]);
    assert_eq!(serde_json::from_slice::<Vm>(&ended.stdout).unwrap().name.as_str(), "quiet-otter");
    assert_eq!(ended.stderr, "");
}

#[test]
fn who_does_not_wait_gets_the_operation() {
    let world = world_with(Vec::new());
    next(&world, OperationKind::VmStart, "web");
    assert_eq!(world.run(["start", "--no-wait", "web"]).text(), "0000000000c1\n");
    next(&world, OperationKind::VmStart, "web");
    let ended = world.run(["start", "--no-wait", "--json", "web"]);
    assert_eq!(serde_json::from_slice::<Operation>(&ended.stdout).unwrap().subject, "web");
}

#[test]
fn stop_kill_and_start_say_which() {
    let world = world_with(Vec::new());
    next(&world, OperationKind::VmStop, "web");
    assert_eq!(world.run(["stop", "-t", "5", "web"]).text(), "web\n");
    next(&world, OperationKind::VmStop, "web");
    assert_eq!(world.run(["vm", "kill", "web"]).text(), "web\n");
    let stop = VmStopRequest { timeout_ms: 5_000, action: ShutdownAction::Poweroff };
    let request = |method: &str, path: &str, body| Request { method: method.into(), path: path.into(), body };
    assert_eq!(
        world.daemon().requests(),
        [
            request("POST", "/v1/vms/web/stop", serde_json::to_value(stop).unwrap()),
            request("POST", "/v1/vms/web/kill", json!(null)),
        ]
    );
}

#[test]
fn a_deletion_is_not_done_without_a_word() {
    let world = world_with(Vec::new());
    insta::assert_snapshot!(world.run(["rm", "web"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: this deletes something, and there is no terminal to ask on
      try: --yes
    ");
    insta::assert_snapshot!(world.run(["image", "rm", "x"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: this deletes something, and there is no terminal to ask on
      try: --yes
    ");
    assert!(world.daemon().requests().is_empty());
}

#[test]
fn a_deletion_that_is_sure_is_done() {
    let world = world_with(Vec::new());
    next(&world, OperationKind::VmDelete, "a");
    next(&world, OperationKind::VmDelete, "b");
    assert_eq!(world.run(["rm", "--yes", "a", "b"]).text(), "a\nb\n");
    next(&world, OperationKind::VmDelete, "web");
    assert_eq!(world.run(["rm", "-f", "web", "--json"]).text(), "{\"deleted\":\"web\"}\n");
    let paths: Vec<String> = world.daemon().requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/v1/vms/a?force=false", "/v1/vms/b?force=false", "/v1/vms/web?force=true"]);
}

#[test]
fn logs_are_raw_in_a_pipe_and_lines_in_json() {
    let world = world_with(vec![vm("web", VmState::Running)]);
    assert_eq!(world.run(["logs", "web"]).text(), "kind=serial\none\ntwo\x1b[2J\r\nthree");
    assert!(world.run(["vm", "logs", "--engine", "web"]).text().starts_with("kind=engine\n"));
    assert!(world.run(["vm", "logs", "--monitor", "web"]).text().starts_with("kind=monitor\n"));
    insta::assert_snapshot!(world.run(["logs", "web", "--json"]), @r#"
    exit code: 0
    --- stdout
    {"line":"kind=serial"}
    {"line":"one"}
    {"line":"two\u001b[2J"}
    {"line":"three"}
    --- stderr
    "#);
    assert_eq!(world.run(["logs", "none"]).code, 3);
}
