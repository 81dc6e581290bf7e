//! `banger vm forward`.

use banger_types::monitor::Forward;
use banger_types::vm::VmState;
use serde_json::json;

use crate::support::{World, vm};

fn world() -> World {
    let world = World::new();
    world.daemon().shown(|shown| shown.vms = vec![vm("web", VmState::Running)]);
    world
}

#[test]
fn forwards_are_listed() {
    let world = world();
    insta::assert_snapshot!(world.run(["vm", "forward", "ls", "web"]), @r"
    exit code: 0
    --- stdout
    HOST             GUEST
    127.0.0.1:8080   80
    --- stderr
    ");
    let ended = world.run(["vm", "forward", "ls", "web", "--json"]);
    let expected = world.daemon().shown(|shown| shown.vms[0].forwards.clone());
    assert_eq!(serde_json::from_slice::<Vec<Forward>>(&ended.stdout).unwrap(), expected);
    assert_eq!(world.run(["vm", "forward", "ls", "none"]).code, 3);
}

#[test]
fn a_forward_is_added_with_the_port_that_was_free() {
    let world = world();
    let ended = world.run(["vm", "forward", "add", "web", "0:443", "[::1]:9000:90"]);
    assert_eq!((ended.code, ended.text()), (0, "127.0.0.1:40000->443\n[::1]:9000->90\n"));
    let requests = world.daemon().requests();
    assert_eq!(requests[0].path, "/v1/vms/web/forwards");
    assert_eq!(requests[0].body, json!({"listen": "127.0.0.1:0", "guest_port": 443}));
    let ended = world.run(["vm", "forward", "add", "web", "0:443", "--json"]);
    assert_eq!(ended.text(), "{\"listen\":\"127.0.0.1:40000\",\"guest_port\":443}\n");
}

#[test]
fn a_forward_is_ended_if_it_leads_where_the_user_thinks() {
    let world = world();
    assert_eq!(world.run(["vm", "forward", "rm", "web", "8080:80"]).text(), "127.0.0.1:8080->80\n");
    let ended = world.run(["vm", "forward", "rm", "web", "[::1]:8080:80", "--json"]);
    assert_eq!(ended.text(), "{\"deleted\":\"[::1]:8080->80\"}\n");
    insta::assert_snapshot!(world.run(["vm", "forward", "rm", "web", "8080:81"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: VM 'web' has no forward 127.0.0.1:8080->81, but 127.0.0.1:8080->80
      try: banger vm forward rm web 127.0.0.1:8080:80
    ");
    let paths: Vec<String> = world.daemon().requests().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        ["/v1/vms/web/forwards?listen=127.0.0.1:8080", "/v1/vms/web/forwards?listen=[::1]:8080"]
    );
}
