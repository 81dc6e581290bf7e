//! The same tests on real Firecracker with real KVM, in a test host.

use banger_testkit::{TestHost, Tests, User, is_full_run};

/// What is tried every day, as a user who is nobody special: of each kind one.
const DAILY: [&str; 5] = [
    "ends::a_busybox_guests_own_ends",
    "survival::a_vm_does_not_notice_that_the_daemon_was_killed",
    "survival::a_vm_goes_on_while_every_program_of_banger_is_replaced",
    "verbs::a_pause_is_no_time_for_the_guest_and_its_clock_is_right_after_it",
    "lifecycle::a_guest_that_powers_off_is_stopped_and_one_that_dies_has_failed",
];
/// What takes root: network namespaces, another's system calls, and a file system of its own.
const OF_ROOT: [&str; 3] = [
    "network::a_guest_reaches_the_world_but_neither_the_hosts_loopback_nor_another_guest",
    "durability::a_guests_fsync_reaches_the_host_as_fsync",
    "survival::a_console_that_finds_no_room_does_not_stop_its_guest",
];
/// What takes root and its time: it sets the host's clock.
const OF_ROOT_AT_LEISURE: [&str; 2] =
    ["verbs::the_clock_follows_a_host_that_slept", "verbs::the_clock_is_right_after_the_monitor_was_stopped"];
/// What the host has nothing for: mmdebstrap and a mirror, a registry, a builder, or a third host within.
const NOT_THERE: [&str; 8] = [
    "dockerfile::",
    "first::",
    "hosted::",
    "pulled::",
    "scopes::",
    "space::after_ten_rounds",
    "lifecycle::a_cancelled_pull_leaves_nothing_behind",
    "survival::what_a_killed_daemon_had_begun_is_gone_on_with_by_the_next",
];

#[test]
fn everything_holds_on_firecracker() {
    let Some(host) = TestHost::with_firecracker("everything_holds_on_firecracker") else { return };
    let tests = if is_full_run() { Tests::AllBut(&NOT_THERE) } else { Tests::These(&DAILY) };
    let clean = host.snapshot();
    host.pass_own_tests(User::Plain, tests);
    host.restore(&clean);
    // Once is enough for a user who could become root and does not; all of it is for those who like to wait.
    let of_sudoer = if is_full_run() { &DAILY[..] } else { &DAILY[..1] };
    host.pass_own_tests(User::Sudoer, Tests::These(of_sudoer));
    host.pass_own_tests(User::Root, Tests::These(&OF_ROOT));
    host.restore(&clean);
    crate::two_users::have_networks_of_their_own(&host);
    if is_full_run() {
        host.pass_own_tests(User::Root, Tests::These(&OF_ROOT_AT_LEISURE));
    }
}
