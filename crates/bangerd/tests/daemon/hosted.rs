//! What the daemon does with real VMs, on real Firecracker with real KVM, in a test host.

use banger_testkit::{TestHost, Tests, User};

#[test]
fn a_daemon_that_dies_is_followed_by_one_that_repairs_it_on_firecracker() {
    let test = "a_daemon_that_dies_is_followed_by_one_that_repairs_it_on_firecracker";
    let Some(host) = TestHost::with_firecracker(test) else { return };
    host.pass_own_tests(User::Plain, Tests::These(&["faults::the_same_with_real_vms"]));
}
