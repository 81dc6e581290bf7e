//! What VMs take, asked of fake guests and real processes.

use banger_types::vm::VmStopRequest;
use banger_types::{ErrorKind, guest::GuestStats};

use crate::support::{Daemon, assert_says};

#[test]
fn a_vm_tells_what_it_takes_and_the_host_what_that_costs() {
    let daemon = Daemon::new();
    daemon.create("web", |_| ());
    let first = daemon.call(daemon.client.vm_stats("web")).unwrap();
    assert_eq!(first.name.as_str(), "web");
    let host = first.host.unwrap();
    assert_eq!((host.processes, host.untold), (2, 0), "a monitor and a VMM: {host:?}");
    // Both are real: the smallest of programs has some memory of its own.
    assert!((100 << 10..1 << 30).contains(&host.pss), "{host:?}");
    let guest = first.guest.unwrap();
    assert_eq!(guest, GuestStats { uptime_ms: guest.uptime_ms, ..fake() });
    assert_eq!(first.disk_allocated, daemon.vm("web").disk_usage);
    let second = daemon.call(daemon.client.vm_stats("web")).unwrap();
    assert!(second.at > first.at && second.host.unwrap().cpu_ms >= host.cpu_ms);

    // A guest that says nothing is shown as far as the host knows it.
    daemon.create("mute", |_| ());
    crate::support::signal(daemon.vmm_pid("mute"), rustix::process::Signal::STOP);
    let mute = daemon.call(daemon.client.vm_stats("mute")).unwrap();
    assert!(mute.guest.is_none() && mute.host.is_some(), "{mute:?}");
    crate::support::signal(daemon.vmm_pid("mute"), rustix::process::Signal::CONT);

    daemon.succeed(daemon.client.stop_vm("web", &VmStopRequest::default()));
    let stopped = daemon.call(daemon.client.vm_stats("web")).unwrap();
    assert!(stopped.guest.is_none() && stopped.host.is_none(), "{stopped:?}");
    assert_says(&daemon.refused(daemon.client.vm_stats("none")), ErrorKind::NotFound, "none");
}

/// What a fake guest says, whenever it is asked.
fn fake() -> GuestStats {
    GuestStats { memory_total: 256 << 20, memory_available: 128 << 20, ..GuestStats::default() }
}

#[test]
fn the_command_line_shows_rates_and_what_runs() {
    let daemon = Daemon::new();
    daemon.create("web", |_| ());
    daemon.create("idle", |request| request.no_start = true);
    let shown = daemon.environment.succeed(&["vm", "stats"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "what runs alone: {shown}");
    assert!(lines[0].starts_with("NAME   CPU   MEMORY"), "{shown}");
    assert!(lines[1].starts_with("web    -     134.2 MB of 268.4 MB"), "{shown}");
    let named = daemon.environment.succeed(&["vm", "stats", "idle", "--json"]);
    let named: serde_json::Value = serde_json::from_str(&named).unwrap();
    assert!(named["guest"].is_null() && named["name"] == "idle", "{named}");
    for names in [&["none"][..], &["web", "none"]] {
        assert_eq!(daemon.environment.run(&[&["vm", "stats"], names].concat()).code, 3, "{names:?}");
    }
}
