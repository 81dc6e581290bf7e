//! VMs: tables, JSON, and the requests that verbs make.

use banger_types::VmName;
use banger_types::guest::ShutdownAction;
use banger_types::operation::{Operation, OperationKind};
use banger_types::size::Mebibytes;
use banger_types::vm::{
    EngineKind, NetworkMode, RestartPolicy, Vm, VmCreateRequest, VmSetRequest, VmState, VmStopRequest,
};
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
    Restart:       no
    Created:       3 hours ago
    Started:       3 minutes ago
    Process:       4242
    Isolation:     filtered system calls, its own files alone
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
    Restart:       no
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
            network: Some(NetworkMode::None),
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
    let text = |arguments: &[&str]| world.run(arguments).text().to_owned();
    assert_eq!(text(&["logs", "web"]), "kind=serial&follow=false\none\ntwo\x1b[2J\r\nthree");
    for (arguments, query) in [
        (&["vm", "logs", "--serial", "web"][..], "kind=serial&follow=false\n"),
        (&["logs", "--boot", "-n", "5", "web"], "kind=boot&follow=false&lines=5\n"),
        (&["logs", "--engine", "-f", "web"], "kind=engine&follow=true\n"),
        (&["logs", "--monitor", "--follow", "--lines", "0", "web"], "kind=monitor&follow=true&lines=0\n"),
    ] {
        assert!(text(arguments).starts_with(query), "{arguments:?}");
    }
    insta::assert_snapshot!(world.run(["logs", "web", "--json"]), @r#"
    exit code: 0
    --- stdout
    {"line":"kind=serial&follow=false"}
    {"line":"one"}
    {"line":"two\u001b[2J"}
    {"line":"three"}
    --- stderr
    "#);
    assert_eq!(world.run(["logs", "none"]).code, 3);
}

#[test]
fn a_list_shows_what_all_filters_let_through() {
    let labelled = |mut vm: Vm, label: &str, value: &str| {
        vm.spec.labels.insert(label.to_owned(), value.to_owned());
        vm
    };
    let world = world_with(vec![
        labelled(vm("api-1", VmState::Running), "team", "red"),
        labelled(vm("api-2", VmState::Stopped), "team", "blue"),
        vm("web", VmState::Running),
    ]);
    for (filters, names) in [
        (&["name=api-*"][..], "api-1\napi-2\n"),
        (&["name=pi-"], "api-1\napi-2\n"),
        (&["state=running"], "api-1\nweb\n"),
        (&["label=team"], "api-1\napi-2\n"),
        (&["label=team=blue"], "api-2\n"),
        (&["name=api", "state=running"], "api-1\n"),
        (&["image=debian:bookworm", "name=w?b"], "web\n"),
        (&["image=alpine"], ""),
    ] {
        let options = filters.iter().flat_map(|filter| ["--filter", *filter]);
        let ended = world.run(["ps", "-q"].into_iter().chain(options));
        assert_eq!((ended.code, ended.text()), (0, names), "{filters:?}");
    }
    let listed: Vec<Vm> =
        serde_json::from_slice(&world.run(["vm", "ls", "-f", "name=web", "--json"]).stdout).unwrap();
    assert_eq!(listed.len(), 1);
    insta::assert_snapshot!(world.run(["vm", "ls", "--filter", "colour=red"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: invalid value 'colour=red' for '--filter <KEY=VALUE>': there is no filter 'colour'; there are name, state, label and image

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(world.run(["vm", "ls", "--filter", "state=asleep"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: invalid value 'state=asleep' for '--filter <KEY=VALUE>': there is no state 'asleep'; there are creating, stopped, starting, running, paused, stopping, failed, deleting

    For more information, try '--help'.
    ");
}

#[test]
fn labels_policy_and_what_is_to_come_are_shown() {
    let mut vm = vm("web", VmState::Failed);
    vm.spec.labels = [("team", "red"), ("test", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    vm.spec.restart = RestartPolicy::OnFailure;
    vm.spec.service = true;
    // Far enough ahead that a slow test sees the same minute.
    vm.restart_at = Some(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_599));
    let world = world_with(vec![vm]);
    let shown = world.run(["vm", "show", "web"]).text().replace(|c: char| c.is_ascii_digit(), "N");
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| ["Restart", "Service", "Labels", " "].iter().any(|start| line.starts_with(start)))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Restarts:      in NN min NN s
    Restart:       on-failure
    Service:       the image's own command, from every boot on
    Labels:        team=red
                   test
    ");
}

#[test]
fn create_asks_for_labels_and_a_policy() {
    let world = world_with(Vec::new());
    next(&world, OperationKind::VmCreate, "web");
    let ended = world.run(["vm", "create", "--label", "team=red", "-l", "test", "--restart", "on-failure"]);
    assert_eq!(ended.code, 0, "{ended}");
    let request: VmCreateRequest = serde_json::from_value(world.daemon().requests()[0].body.clone()).unwrap();
    let labels = [("team", "red"), ("test", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(
        request,
        VmCreateRequest { labels, restart: RestartPolicy::OnFailure, ..VmCreateRequest::default() }
    );
}

#[test]
fn restart_pause_and_resume_say_which() {
    let world = world_with(Vec::new());
    for (kind, arguments) in [
        (OperationKind::VmRestart, &["vm", "restart", "-t", "5", "web"][..]),
        (OperationKind::VmPause, &["vm", "pause", "web"]),
        (OperationKind::VmResume, &["vm", "resume", "web"]),
    ] {
        next(&world, kind, "web");
        assert_eq!(world.run(arguments).text(), "web\n");
    }
    let stop = VmStopRequest { timeout_ms: 5_000, action: ShutdownAction::Poweroff };
    let request = |path: &str, body| Request { method: "POST".into(), path: path.into(), body };
    assert_eq!(
        world.daemon().requests(),
        [
            request("/v1/vms/web/restart", serde_json::to_value(stop).unwrap()),
            request("/v1/vms/web/pause", json!(null)),
            request("/v1/vms/web/resume", json!(null)),
        ]
    );
}

#[test]
fn a_vm_gets_another_name() {
    let world = world_with(vec![vm("web", VmState::Running)]);
    assert_eq!(world.run(["vm", "rename", "web", "api"]).text(), "api\n");
    let renamed: Vm =
        serde_json::from_slice(&world.run(["vm", "rename", "web", "api", "--json"]).stdout).unwrap();
    assert_eq!(renamed.name.as_str(), "api");
    assert_eq!(world.daemon().requests()[0].body, json!({"name": "api"}));
    assert_eq!(world.run(["vm", "rename", "web", "Not_A_Name"]).code, 2);
    assert_eq!(world.run(["vm", "rename", "none", "api"]).code, 3);
}

#[test]
fn what_is_wanted_of_a_vm_changes() {
    let world = world_with(vec![vm("web", VmState::Stopped)]);
    let words = "vm set web --vcpus 4 -m 4G --disk 40G --engine qemu --restart always --auto-forward off --allow-host on --label team=red --remove-label test";
    assert_eq!(world.run(words.split(' ')).text(), "web\n");
    let [Request { method, path, body }] = &world.daemon().requests()[..] else { panic!() };
    assert_eq!((method.as_str(), path.as_str()), ("PATCH", "/v1/vms/web"));
    assert_eq!(
        serde_json::from_value::<VmSetRequest>(body.clone()).unwrap(),
        VmSetRequest {
            vcpus: Some(4),
            memory: Some(Mebibytes(4096)),
            engine: Some(EngineKind::Qemu),
            disk: Some(Mebibytes(40960)),
            restart: Some(RestartPolicy::Always),
            automatic_forwards: Some(false),
            allow_host: Some(true),
            network: None,
            no_peers: None,
            labels: [("team".to_owned(), Some("red".to_owned())), ("test".to_owned(), None)].into(),
        }
    );
    let shown: Vm =
        serde_json::from_slice(&world.run(["vm", "set", "web", "-l", "x", "--json"]).stdout).unwrap();
    assert_eq!(shown.name.as_str(), "web");
    insta::assert_snapshot!(world.run(["vm", "set", "web"]), @"
    exit code: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <--vcpus <N>|--memory <SIZE>|--disk <SIZE>|--engine <ENGINE>|--restart <POLICY>|--auto-forward <WHETHER>|--net <NETWORK>|--no-peers <WHETHER>|--allow-host <WHETHER>|--label <NAME=VALUE>|--remove-label <NAME>>

    Usage: banger vm set [OPTIONS] <NAME>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(world.run(["vm", "set", "web", "-l", "a=1", "--remove-label", "a"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: the label 'a' is to be set and to be taken away
      try: --label a=VALUE, or --remove-label a
    ");
}

#[test]
fn a_warning_is_said_once() {
    const WARNING: &str = "the disk may not find the room that it was promised";
    let mut warned = vm("web", VmState::Running);
    warned.warnings = vec![WARNING.to_owned()];
    let world = world_with(vec![warned]);
    let count = |text: &str| text.matches(WARNING).count();
    for json in [false, true] {
        world.daemon().shown(|shown| {
            let mut steps = succeeded(OperationKind::VmCreate, "web");
            for step in &mut steps {
                step.warnings = vec![WARNING.to_owned()];
            }
            shown.operations.push_back(steps);
        });
        let more: &[&str] = if json { &["--json"] } else { &[] };
        let created = world.run([&["vm", "create", "web"], more].concat());
        assert_eq!(count(&created.stderr), 1, "{created}");
    }
    assert_eq!(count(world.run(["vm", "show", "web"]).text()), 1);
}
