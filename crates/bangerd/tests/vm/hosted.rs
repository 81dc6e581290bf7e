//! The same tests on real Firecracker with real KVM, in a test host.

use std::path::PathBuf;

use banger_testkit::{TestHost, User, is_full_run, not_run};

/// What is tried every day: of each kind one. The full run leaves nothing out.
const DAILY: [&str; 1] = ["ends::a_busybox_guests_own_ends"];
/// Marks the tests that run in a test host.
const HOSTED: &str = "BANGER_TEST_HOSTED";

#[test]
fn everything_holds_on_firecracker() {
    if std::env::var_os(HOSTED).is_some() {
        return;
    }
    let Some(firecracker) = firecracker() else {
        not_run(
            "everything_holds_on_firecracker",
            "there is no firecracker on PATH, nor in BANGER_FIRECRACKER",
        );
        return;
    };
    let host = TestHost::start();
    host.install(&firecracker);
    let tests = "/srv/banger/programs/vm-tests";
    host.copy_in(&std::env::current_exe().unwrap(), tests);
    let mut command = vec!["env".to_owned(), format!("{HOSTED}=1")];
    command.extend(host.variables());
    command.push(tests.to_owned());
    command.push("--test-threads=2".to_owned());
    if !is_full_run() {
        command.push("--exact".to_owned());
        command.extend(DAILY.map(str::to_owned));
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let outcome = host.run(User::Plain, &command);
    println!("{}", outcome.text());
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.text(), outcome.stderr);
}

/// Returns the Firecracker of this machine, if there is one.
fn firecracker() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BANGER_FIRECRACKER") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("firecracker")).find(|file| file.is_file())
}
