//! VMs with addresses of their own, which the root helper gives: on a host made of namespaces, with the real helper.

use std::net::IpAddr;

use banger_testkit::{Environment, NetworkHost, wait_until};

use crate::guest::{BUSYBOX, EchoServer, small};
use crate::network::reaches;

/// What is beyond the host.
pub(crate) const WORLD: &str = "203.0.113.9";
pub(crate) const WORLD_V6: &str = "2001:db8::9";

/// Returns a host with the helper and ways out by both families, and what is at the other end.
pub(crate) fn host_and_world(test: &str) -> Option<(NetworkHost, NetworkHost)> {
    let host = NetworkHost::new(test)?;
    host.install_helper();
    let world = host.peer("wan0");
    for words in [
        "ip address add 203.0.113.1/24 dev wan0",
        "ip address add 2001:db8::1/64 dev wan0 nodad",
        &format!("ip route add default via {WORLD}"),
        &format!("ip route add default via {WORLD_V6}"),
    ] {
        host.run(words);
    }
    world.run(&format!("ip address add {WORLD}/24 dev eth0"));
    world.run(&format!("ip address add {WORLD_V6}/64 dev eth0 nodad"));
    Some((host, world))
}

pub(crate) fn create(environment: &Environment, name: &str, options: &[&str]) -> String {
    let outcome = environment.run(&[&["vm", "create", name], &small(&BUSYBOX)[..6], options].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stderr
}

/// Returns a VM's addresses.
pub(crate) fn addresses(environment: &Environment, vm: &str) -> [IpAddr; 2] {
    let shown = environment.vm(vm);
    ["v4", "v6"].map(|family| shown["addresses"][family].as_str().unwrap().parse().unwrap())
}

/// Returns a VM's place, as its daemon has noted it.
pub(crate) fn place_of(environment: &Environment, vm: &str) -> serde_json::Value {
    let directory = environment.vm(vm)["directory"].as_str().unwrap().to_owned();
    serde_json::from_slice(&std::fs::read(format!("{directory}/place.json")).unwrap()).unwrap()
}

/// Runs a shell's script in a guest, as root.
pub(crate) fn in_guest(environment: &Environment, vm: &str, script: &str) -> banger_testkit::Outcome {
    environment.run_with_input(&["exec", "-u", "root", vm, "--", "sh", "-c", script], b"")
}

#[test]
fn guests_have_addresses_and_names_reach_each_other_and_the_world_and_not_the_host() {
    let Some((host, world)) = host_and_world("guests_have_addresses_and_names") else { return };
    let before = host.state();
    let environment = Environment::new().on(&host);
    environment.succeed(&["daemon", "start"]);
    let status = environment.run(&["daemon", "status", "--json"]).json();
    assert_eq!(status["helper"]["state"], "ready", "{status}");

    // The best that the host is ready for, and that is said once.
    let news = "addresses of their own from the root helper";
    assert!(create(&environment, "web", &[]).contains(news));
    assert!(!create(&environment, "api", &["-p", "127.0.0.1:0:8000"]).contains(news));
    let trusting = create(&environment, "trusting", &["--allow-host", "--no-peers"]);
    assert!(!trusting.contains("warning"), "{trusting}");
    let shown = environment.run(&["vm", "show", "web"]).text();
    let [web, web_v6] = addresses(&environment, "web");
    let [api, api_v6] = addresses(&environment, "api");
    for words in ["nat", "web.banger", &web.to_string(), &web_v6.to_string()] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // The world.
    let servers = [format!("{WORLD}:80"), format!("[{WORLD_V6}]:80"), format!("{WORLD}:80/udp")];
    let _served: Vec<_> = servers.iter().map(|server| world.serve(server)).collect();
    for server in &servers {
        assert!(reaches(&environment, "web", server), "{server}");
    }
    // The host to its guests, by address and by name; guests to each other; and by forwards as well.
    let _server = EchoServer::inside(&environment, "api", "0.0.0.0:8000");
    let _server_v6 = EchoServer::inside(&environment, "api", "[::]:8001");
    assert!(host.reaches(&format!("{api}:8000")) && host.reaches(&format!("[{api_v6}]:8001")));
    let mut found = host.resolve("api.banger");
    found.sort();
    assert_eq!(found, [api, api_v6]);
    assert!(reaches(&environment, "web", &format!("{api}:8000")));
    assert!(reaches(&environment, "web", &format!("[{api_v6}]:8001")));
    assert!(!reaches(&environment, "trusting", &format!("{api}:8000")), "it has no peers");
    let forward = environment.vm("api")["forwards"][0]["listen"].as_str().unwrap().to_owned();
    assert!(host.reaches(&forward), "{forward}");
    // Names, as guests ask for them: each other's, and their host's.
    for name in ["api.banger", "host.banger"] {
        let asked = in_guest(&environment, "web", &format!("nslookup {name}"));
        assert_eq!(asked.code, 0, "{}{}", asked.text(), asked.stderr);
        assert!(name != "api.banger" || asked.text().contains(&api.to_string()), "{}", asked.text());
    }
    assert_ne!(in_guest(&environment, "web", "nslookup nobody.banger").code, 0);

    // The host's own addresses, and those where clouds tell of themselves.
    host.run("ip address add 169.254.169.254/32 dev lo");
    let hosts = host.serve("0.0.0.0:8080");
    let gateway = in_guest(&environment, "web", "ip route show default").text();
    let gateway = gateway.split_whitespace().nth(2).unwrap();
    for own in [gateway, "203.0.113.1"] {
        assert!(!reaches(&environment, "web", &format!("{own}:8080")), "{own}");
        assert!(reaches(&environment, "trusting", &format!("{own}:8080")), "{own}");
    }
    for vm in ["web", "trusting"] {
        assert!(!reaches(&environment, vm, "169.254.169.254:8080"));
        assert!(!reaches(&environment, vm, "127.0.0.1:8080"));
    }
    host.run("ip address del 169.254.169.254/32 dev lo");
    drop(hosts);

    // A hostile root of a guest takes its neighbour's addresses.
    let mac = in_guest(&environment, "api", "cat /sys/class/net/eth0/address").text();
    let spoof = format!(
        "ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up; ip address flush dev eth0; \
         ip address add {api}/24 dev eth0; ip route add default via {gateway}; arping -c 3 -U -I eth0 {api}; true",
        mac.trim()
    );
    assert_eq!(in_guest(&environment, "web", &spoof).code, 0);
    assert!(!reaches(&environment, "web", &servers[0]), "as somebody else");
    assert!(host.reaches(&format!("{api}:8000")), "who has them is as well as before");

    let web_device = place_of(&environment, "web")["device"]["device"].as_str().unwrap().to_owned();
    assert!(host.run("ip -brief link").contains(&web_device));
    // A VM that has ended has no place, and the network goes with the last.
    environment.succeed(&["vm", "stop", "web"]);
    let gone = |what: &str| {
        wait_until(|| host.run("ip -brief link"), |links| !links.contains(what));
    };
    gone(&web_device);
    wait_until(|| host.hosts(), |names| !names.contains("web.banger"));
    assert!(environment.vm("web")["addresses"].is_null());
    environment.succeed(&["vm", "start", "web"]);
    assert!(reaches(&environment, "web", &servers[0]), "itself again");
    environment.succeed(&["vm", "rm", "--yes", "--force", "web", "api", "trusting"]);
    host.wait_for_state(&before);
}

#[test]
fn a_place_is_kept_while_no_daemon_runs_and_taken_away_when_its_vm_has_ended_then() {
    let Some((host, world)) = host_and_world("a_place_is_kept_while_no_daemon_runs") else { return };
    let before = host.state();
    let environment = Environment::new().on(&host);
    create(&environment, "web", &["--net", "nat"]);
    let own = addresses(&environment, "web");
    let _server = world.serve(&format!("{WORLD}:80"));
    environment.crash_daemon();
    assert_eq!(addresses(&environment, "web"), own);
    assert!(reaches(&environment, "web", &format!("{WORLD}:80")));
    // Its VMM ends while nobody looks.
    let vmm = environment.vm("web")["vmm_pid"].as_u64().unwrap();
    environment.crash_daemon();
    let vmm = rustix::process::Pid::from_raw(i32::try_from(vmm).unwrap()).unwrap();
    rustix::process::kill_process(vmm, rustix::process::Signal::KILL).unwrap();
    environment.succeed(&["daemon", "start"]);
    host.wait_for_state(&before);
    environment.succeed(&["vm", "rm", "--yes", "web"]);
}

#[test]
fn without_the_helper_nat_is_refused_with_what_can_be_done() {
    let environment = Environment::new();
    environment.succeed(&["daemon", "start"]);
    if environment.run(&["daemon", "status", "--json"]).json()["helper"]["state"] == "ready" {
        return banger_testkit::not_run("without_the_helper", "this host has the root helper");
    }
    let refused =
        environment.run(&[&["vm", "create", "web", "--net", "nat"], &small(&BUSYBOX)[..6]].concat());
    assert_ne!(refused.code, 0);
    for words in
        ["cannot give 'web' its network", "the root helper is not installed", "vm set web --net user"]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    environment.succeed(&["vm", "set", "web", "--net", "none"]);
    environment.succeed(&["vm", "start", "web"]);
    let refused = environment.run(&["vm", "set", "web", "--net", "user"]);
    assert_eq!(refused.code, 4, "while it runs: {}", refused.stderr);
}
