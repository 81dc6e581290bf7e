//! What a monitor costs while nothing happens, and how it learns of what happens to the host.

use std::time::Duration;

use banger_types::monitor::file;

use crate::support::{Vm, eventually, process_status};

#[test]
fn a_monitor_sleeps_while_nothing_happens() {
    let vm = Vm::ready();
    let slept_through = || {
        let wake_ups = || process_status(vm.monitor.id(), "voluntary_ctxt_switches:");
        let before = wake_ups();
        // There is no event to wait for: that there is none is the point.
        std::thread::sleep(Duration::from_secs(1));
        wake_ups() == before
    };
    // Somebody may set the host's clock meanwhile, the next test for example; nobody does all the time.
    assert!((0..10).any(|_| slept_through()));
}

#[test]
fn a_guest_is_told_when_the_hosts_clock_jumps() {
    let vm = Vm::ready();
    for times in 1..=2 {
        // As it is: a jump all the same, and of no harm to others.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        if rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).is_err() {
            banger_testkit::not_run(
                "a_guest_is_told_when_the_hosts_clock_jumps",
                "the host's clock may not be set (CAP_SYS_TIME)",
            );
            return;
        }
        let told = || -> Vec<i128> {
            let log = vm.read(file::SERIAL_LOG);
            log.lines()
                .filter_map(|line| line.trim_end().strip_prefix("the clock is set to ")?.parse().ok())
                .collect()
        };
        // Others may set the clock meanwhile, other tests for example.
        eventually("the guest is told", || told().len() >= times);
        let now = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        let latest = *told().last().unwrap();
        assert!((latest - now).abs() < 1_000_000_000, "{latest} at {now}");
    }
}
