//! Guests that are not what they should be: what they say costs nobody but themselves.

use std::time::Instant;

use banger_types::ErrorKind;
use banger_types::vm::{VmState, VmStopRequest};

use crate::support::{Daemon, assert_says, resident};

/// Most that a monitor may take of the host's memory, KiB: many times of what it takes when its guest is a good one.
const MONITOR_LIMIT: u64 = 16 << 10;

/// What an agent says, and what a monitor says of it.
const WORDS: &[(&str, &str)] = &[
    ("endless 256", "a line of more than"),
    ("say {\"sockets\": 7}", "a line that is no message"),
    ("say [[[[[[", "a line that is no message"),
    ("say {\"reply\":{\"id\":99,\"result\":{\"Ok\":\"done\"}}}", "an impossible order"),
    ("say {\"hello\":{}}", "a line that is no message"),
];

#[test]
fn an_agent_that_says_anything_is_not_listened_to_and_delays_nobody() {
    let daemon = Daemon::new();
    daemon.create("other", |_| {});
    for (number, (command, said)) in WORDS.iter().enumerate() {
        let name = format!("hostile{number}");
        daemon.create(&name, |_| {});
        let monitor = daemon.monitor_pid(&name);
        daemon.guest(&name, command);
        // The agent is gone for its monitor; whether the guest is, is another question.
        let vm = daemon.wait(&name, |vm| vm.reason.as_deref() == Some("the guest's agent is not connected"));
        assert_eq!(vm.state, VmState::Running);
        let log = vm.directory.join("monitor.log");
        let words = std::fs::read_to_string(&log).unwrap();
        assert!(words.contains(said), "{command}: {words}");
        assert!(resident(monitor) < MONITOR_LIMIT, "{command}: {} KiB", resident(monitor));
        // Everybody else is served meanwhile, and it can be ended.
        daemon.call(daemon.client.vm_ports("other")).unwrap();
        daemon.succeed(daemon.client.kill_vm(&name));
        daemon.succeed(daemon.client.delete_vm(&name, true));
    }
    daemon.succeed(daemon.client.stop_vm("other", &VmStopRequest::default()));
}

#[test]
fn an_agent_that_answers_nothing_is_not_waited_for() {
    let daemon = Daemon::new();
    daemon.create("mute", |_| {});
    daemon.create("other", |_| {});
    daemon.guest("mute", "mute");
    let begun = Instant::now();
    let refused = daemon.refused(daemon.client.vm_ports("mute"));
    assert_says(&refused, ErrorKind::Failed, "does not answer");
    // What it takes is known without its word.
    let stats = daemon.call(daemon.client.vm_stats("mute")).unwrap();
    assert!(stats.guest.is_none() && stats.host.is_some());
    println!("a mute guest is given up after {:?}", begun.elapsed());
    assert!(daemon.call(daemon.client.vm_stats("other")).unwrap().guest.is_some());
    // Nor does its end depend on it.
    daemon
        .succeed(daemon.client.stop_vm("mute", &VmStopRequest { timeout_ms: 1, ..VmStopRequest::default() }));
}
