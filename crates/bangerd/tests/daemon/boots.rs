//! Kernels that do not come up: what the console ended with, and how to see more.

use banger_testkit::Environment;
use serde_json::json;

use crate::support::{SMALL, assert_left, refuse};

/// Lets guests take no longer than this, as a user would.
pub(crate) fn limit_boots(environment: &Environment, limit: &str) {
    let directory = environment.data().join(".config/banger");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), format!("[vm]\nboot_timeout = {limit}\n")).unwrap();
}

fn create(environment: &Environment, name: &str) -> String {
    refuse(environment, 1, &[&["vm", "create", name], &SMALL[..]].concat())
}

#[test]
fn a_kernel_that_panics_ends_with_the_consoles_last_lines() {
    let environment = Environment::with_fake_vmm();
    let mut lines: Vec<String> = (1..10).map(|number| format!("[    0.{number}] line {number}")).collect();
    lines.push("[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs".to_owned());
    environment.behave(&json!({ "console": lines, "exit_at_boot": 0 }));
    insta::assert_snapshot!(create(&environment, "panics"), @"
    error: cannot start 'panics'
      because: the guest's kernel panicked: VFS: Unable to mount root fs
      because: console: [    0.6] line 6
      because: console: [    0.7] line 7
      because: console: [    0.8] line 8
      because: console: [    0.9] line 9
      because: console: [    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs
      try: see `banger vm logs panics`
    ");
    assert_eq!(environment.vm("panics")["state"], "failed");
    assert!(environment.succeed(&["vm", "logs", "panics"]).contains("line 1\n"), "the log has all of it");
    assert_left(&environment, 1, 3, 1);
}

#[test]
fn a_kernel_that_hangs_is_ended_after_the_limit_and_one_that_prints_nothing_too() {
    let environment = Environment::with_fake_vmm();
    limit_boots(&environment, "\"1s\"");
    environment.behave(&json!({ "console": ["waiting for a disk that never comes"], "never_ready": true }));
    insta::assert_snapshot!(create(&environment, "hangs"), @"
    error: cannot start 'hangs'
      because: the guest did not become ready within 1 s
      because: console: fake guest: booting
      because: console: waiting for a disk that never comes
      try: see `banger vm logs hangs`
    ");
    environment.behave(&json!({ "silent": true, "never_ready": true }));
    insta::assert_snapshot!(create(&environment, "silent"), @"
    error: cannot start 'silent'
      because: the guest did not become ready within 1 s
      because: nothing was printed on the console
      try: see `banger vm logs silent`
    ");
    for name in ["hangs", "silent"] {
        let vm = environment.vm(name);
        assert_eq!((&vm["state"], &vm["vmm_pid"]), (&json!("failed"), &json!(null)));
        assert_eq!(vm["reason"], "the guest did not become ready within 1 s");
    }
    assert_left(&environment, 2, 3, 1);
    // It was the kernel's fault, and it can be mended.
    environment.behave(&json!({}));
    environment.succeed(&["vm", "start", "silent"]);
}
