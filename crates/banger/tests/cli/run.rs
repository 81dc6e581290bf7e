//! `banger run`.

use banger_types::operation::{OperationKind, OperationStatus};
use banger_types::vm::{RestartPolicy, VmCreateRequest};
use banger_types::{ApiError, ErrorKind};

use crate::exec;
use crate::support::{GuestShown, World, operation, succeeded};

fn world() -> World {
    let world = exec::world();
    world.daemon().shown(|shown| shown.operations.push_back(succeeded(OperationKind::VmCreate, "web")));
    world
}

fn created(world: &World) -> VmCreateRequest {
    serde_json::from_value(world.daemon().requests()[0].body.clone()).unwrap()
}

#[test]
fn a_command_runs_in_a_new_vm() {
    let world = world();
    let ended = world.run(["run", "--name", "web", "-e", "A=1", "-w", "/srv", "show", "-l", "--rm"]);
    let shown: GuestShown = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(shown.request.argv, ["show".into(), "-l".into(), "--rm".into()]);
    assert_eq!(shown.request.directory, Some("/srv".into()));
    let request = created(&world);
    assert_eq!(request.environment, ["A=1"]);
    assert_eq!((request.name.unwrap().as_str(), request.remove), ("web", false));
    assert_eq!(world.daemon().requests().len(), 1, "it stays");
    insta::assert_snapshot!(ended.stderr, @r"
    disk: copy template ...
    disk: copy template: 12 ms
    boot ...
    boot: 2.3 s
    ");
}

#[test]
fn without_a_command_it_is_a_login_shell() {
    let ended = world().run_with_input(["run"], b"typed\n".to_vec());
    assert_eq!((ended.code, ended.text()), (5, "login shell of dev without a terminal\ntyped\n"));
}

#[test]
fn with_rm_the_daemon_is_told_and_the_vm_is_gone_at_the_end() {
    let world = world();
    world.daemon().shown(|shown| shown.operations.push_back(succeeded(OperationKind::VmDelete, "web")));
    assert_eq!(world.run(["run", "--rm", "--", "exit", "3"]).code, 3);
    assert!(created(&world).remove);
    assert_eq!(world.daemon().requests()[1].path, "/v1/vms/web?force=true");
}

#[test]
fn a_service_is_made_and_left_to_itself() {
    let world = world();
    let ended = world.run(["run", "--service", "--name", "web", "--restart", "always"]);
    assert_eq!((ended.code, ended.text()), (0, "web\n"), "{ended}");
    let request = created(&world);
    assert_eq!((request.service, request.restart, request.remove), (true, RestartPolicy::Always, false));
    assert_eq!(world.daemon().requests().len(), 1);
    insta::assert_snapshot!(world.run(["run", "--service", "sleep", "1"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: a service is the image's own command, and takes no other
      try: leave CMD out, or leave --service out; a service of another command needs an image that names it
    ");
    for option in [&["--rm"][..], &["-t"], &["-i"], &["-u", "root"], &["-w", "/"]] {
        assert_eq!(world.run([&["run", "--service"], option].concat()).code, 2, "{option:?}");
    }
    // Its failures are banger's alone: there is no program whose exit code they could be taken for.
    world.daemon().shown(|shown| shown.refusal = Some(ApiError::new(ErrorKind::Conflict, "taken")));
    assert_eq!(world.run(["run", "--service"]).code, 4);
}

#[test]
fn a_vm_that_cannot_be_made_is_bangers_failure() {
    let world = exec::world();
    let mut steps = vec![operation(OperationKind::VmCreate, "web"); 2];
    steps[1].status = OperationStatus::Failed;
    steps[1].error = Some(ApiError::new(ErrorKind::NotFound, "there is no image 'x'"));
    world.daemon().shown(|shown| shown.operations.push_back(steps));
    insta::assert_snapshot!(world.run(["run", "--image", "x", "true"]), @r"
    exit code: 125
    --- stdout
    --- stderr
    disk: copy template ...
    error: there is no image 'x'
    ");
}
