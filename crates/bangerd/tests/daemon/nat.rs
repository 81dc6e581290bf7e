//! VMs with places in networks of the root helper's, without machines: on a host made of namespaces, with the real helper.

use std::collections::BTreeSet;

use banger_testkit::{Environment, NetworkHost, pidfd, seed, wait_for_end, wait_until};
use banger_types::location::variable;
use rustix::process::{Pid, Signal, kill_process};

/// What a VM of these tests is made with.
const PLACED: [&str; 8] = ["--image", seed::PROBE, "--memory", "256M", "--vcpus", "1", "--net", "nat"];

/// Where the daemon dies, in what, and what has become of the VM when the next one has put everything in order.
pub(crate) const POINTS: &[(&str, &str, Option<&str>)] = &[
    ("StartPlaced", "start", Some("running")),
    ("StartPrepared", "start", Some("running")),
    ("StartAnnounced", "start", Some("running")),
    ("StartLaunched", "start", Some("running")),
    ("StartForwarded", "start", Some("running")),
    ("StartAttached", "start", Some("running")),
    ("StartPlaced", "restart", Some("running")),
    ("StopAsked", "stop", Some("stopped")),
    ("StopAnnounced", "stop", Some("stopped")),
    ("KillAnnounced", "kill", Some("stopped")),
    ("DeleteAnnounced", "rm", None),
    ("DeleteFilesGone", "rm", None),
    ("DeleteForgotten", "rm", None),
];

/// Returns a host with the helper, or says that the test is not run.
fn host(test: &str) -> Option<NetworkHost> {
    let host = NetworkHost::new(test)?;
    host.install_helper();
    Some(host)
}

fn create(environment: &Environment, name: &str, more: &[&str]) {
    environment.succeed(&[&["vm", "create", name], &PLACED[..], more].concat());
}

/// The name of a VM's device.
fn device(vm: &serde_json::Value) -> String {
    let place = std::fs::read(format!("{}/place.json", vm["directory"].as_str().unwrap())).unwrap();
    let place: serde_json::Value = serde_json::from_slice(&place).unwrap();
    place["device"]["device"].as_str().unwrap().to_owned()
}

#[test]
fn twenty_vms_come_and_go_and_nothing_is_left() {
    let Some(host) = host("twenty_vms_come_and_go") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    environment.succeed(&["daemon", "start"]);
    let names: Vec<String> = (0..20).map(|number| format!("vm{number}")).collect();
    // All at once, as somebody's script may.
    std::thread::scope(|scope| {
        for name in &names {
            let environment = &environment;
            scope.spawn(move || create(environment, name, &[]));
        }
    });
    let address = |name: &String| environment.vm(name)["addresses"]["v4"].as_str().unwrap().to_owned();
    let addresses: BTreeSet<String> = names.iter().map(address).collect();
    assert_eq!(addresses.len(), names.len());
    assert_eq!(host.resolve("vm7.banger"), [address(&names[7]).parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(host.run("ip -brief link show master bgr0").lines().count(), 20);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    environment.succeed(&[&["vm", "rm", "--force", "--yes"], &all[..]].concat());
    host.wait_for_state(&before);
}

#[test]
fn a_daemon_that_dies_at_any_point_is_followed_by_one_that_leaves_no_place() {
    let Some(host) = host("a_daemon_that_dies_at_any_point_leaves_no_place") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    for (point, verb, outcome) in POINTS {
        create(&environment, "web", if *verb == "start" { &["--no-start"] } else { &[] });
        environment.succeed(&["daemon", "stop"]);
        let mut start = environment.banger(&["daemon", "start"]);
        let started = environment.outcome(start.env(variable::FAULT_POINT, point));
        assert_eq!(started.code, 0, "{point}: {}", started.stderr);
        let daemon = pidfd(environment.daemon_pid());
        let act: &[&str] =
            if *verb == "rm" { &["vm", "rm", "--force", "--yes", "web"] } else { &["vm", verb, "web"] };
        environment.run(act);
        assert!(wait_for_end(&daemon), "{point}: the daemon did not get there");

        let look = || environment.run(&["vm", "show", "web", "--json"]);
        wait_until(
            || String::from_utf8_lossy(&look().stdout).into_owned(),
            |_| match (look(), outcome) {
                (shown, Some(state)) => shown.code == 0 && shown.json()["state"] == *state,
                (shown, None) => shown.code == 3,
            },
        );
        if *outcome == Some("running") {
            let place = device(&environment.vm("web"));
            assert!(host.run("ip -brief link show master bgr0").contains(&place), "{point}");
            assert!(!environment.vm("web")["addresses"].is_null(), "{point}");
        } else {
            host.wait_for_state(&before);
        }
        if outcome.is_some() {
            environment.succeed(&["vm", "rm", "--force", "--yes", "web"]);
        }
        host.wait_for_state(&before);
    }
    println!("kill -9 of a daemon whose VMs have places at {} points", POINTS.len());
}

#[test]
fn a_vm_whose_monitor_is_killed_has_no_place_any_more() {
    let Some(host) = host("a_vm_whose_monitor_is_killed") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    create(&environment, "web", &[]);
    let monitor = Pid::from_raw(environment.monitor_pid("web")).unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
    host.wait_for_state(&before);
    assert_eq!(environment.vm("web")["state"], "failed");
    // Nor one that could not be started.
    environment.behave(&serde_json::json!({"exit_at_boot": 3}));
    assert_ne!(environment.run(&["vm", "start", "web"]).code, 0);
    host.wait_for_state(&before);
}

#[test]
fn what_somebody_ends_or_flushes_is_put_in_force_again() {
    let Some(host) = host("what_somebody_ends_or_flushes") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    create(&environment, "web", &[]);
    let rules = || host.run("nft list ruleset");
    let (whole, servers) = (rules(), || host.run("ss -Hlunp sport = 53"));
    let pid = |servers: &str| servers.split("pid=").nth(1)?.split(',').next()?.parse::<i32>().ok();
    let first = pid(&servers()).unwrap();
    // The end of the name server is an event, and all of the network is looked after then.
    host.run("nft flush ruleset");
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    wait_until(servers, |servers| pid(servers).is_some_and(|pid| pid != first));
    wait_until(rules, |rules| rules == whole);
    // Nobody tells of a flush alone: the next daemon looks.
    environment.crash_daemon();
    host.run("nft flush ruleset");
    environment.succeed(&["daemon", "start"]);
    wait_until(rules, |rules| rules == whole);
    environment.succeed(&["vm", "rm", "--force", "--yes", "web"]);
    host.wait_for_state(&before);
}

/// Has the helper's tool kill it in the middle of its work, until the host forgets that.
fn make_helper_die(host: &NetworkHost) {
    let deadly = "printf '#!/bin/sh\\nkill -9 $PPID\\n' > /run/deadly && chmod 755 /run/deadly \
                  && mount --bind /run/deadly $(readlink -f /usr/sbin/nft)";
    assert!(host.command("sh").args(["-c", deadly]).status().unwrap().success());
}

fn let_helper_live(host: &NetworkHost) {
    // What has killed the helper may not have ended itself yet, and be in use.
    host.run(&format!("umount --lazy {}", host.run("readlink -f /usr/sbin/nft").trim()));
    host.run("rm /run/deadly");
}

#[test]
fn a_place_that_cannot_be_taken_away_goes_with_the_next_or_with_the_next_daemon() {
    let Some(host) = host("a_place_that_cannot_be_taken_away") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    let leave = || {
        create(&environment, "web", &[]);
        let left = device(&environment.vm("web"));
        make_helper_die(&host);
        environment.succeed(&["vm", "rm", "--force", "--yes", "web"]);
        assert!(host.run("ip -brief link").contains(&left) || host.hosts().contains("web.banger"), "{left}");
        let_helper_live(&host);
    };
    leave();
    create(&environment, "api", &[]);
    environment.succeed(&["vm", "rm", "--force", "--yes", "api"]);
    host.wait_for_state(&before);
    leave();
    environment.crash_daemon();
    environment.succeed(&["daemon", "start"]);
    host.wait_for_state(&before);
    // Nor is it taken from a VM that has it again.
    create(&environment, "web", &[]);
    make_helper_die(&host);
    environment.succeed(&["vm", "kill", "web"]);
    let_helper_live(&host);
    environment.succeed(&["vm", "start", "web"]);
    create(&environment, "api", &[]);
    environment.succeed(&["vm", "rm", "--force", "--yes", "api"]);
    wait_until(|| host.hosts(), |names| !names.contains("api.banger"));
    assert!(host.run("ip -brief link").contains(&device(&environment.vm("web"))));
    environment.succeed(&["vm", "rm", "--force", "--yes", "web"]);
    host.wait_for_state(&before);
}

#[test]
fn a_helper_that_is_killed_is_an_error_and_leaves_nothing() {
    let Some(host) = host("a_helper_that_is_killed_is_an_error") else { return };
    let before = host.state();
    let environment = Environment::with_fake_vmm().on(&host);
    create(&environment, "web", &["--no-start"]);
    make_helper_die(&host);
    let refused = environment.run(&["vm", "start", "web"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for words in ["cannot give 'web' its network", "cannot run the root helper", "vm set web --net user"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let_helper_live(&host);
    environment.succeed(&["vm", "start", "web"]);
    environment.succeed(&["vm", "rm", "--force", "--yes", "web"]);
    host.wait_for_state(&before);
}
