//! The real program, which holds another to what it may see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// Runs a line of shell confined, and says whether it succeeded.
fn succeeds(paths: &[(&str, &Path)], more: &[&str], line: &str) -> bool {
    let mut confine = Command::new(env!("CARGO_BIN_EXE_banger-confine"));
    for (access, path) in paths {
        confine.arg(access).arg(path);
    }
    let output = confine.args(more).args(["--", "/bin/sh", "-c", line]).output().unwrap();
    output.status.success()
}

/// Whether this kernel confines, as it says itself; says so if not.
fn confines(test: &str) -> bool {
    let confines = banger_testkit::landlock_version() > 0;
    if !confines {
        banger_testkit::not_run(test, "this kernel has no Landlock");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_banger-confine")).arg("--check").output().unwrap();
    assert_eq!(check.status.success(), confines, "{check:?}");
    confines
}

#[test]
fn files_are_what_is_named_and_nothing_beside() {
    if !confines("files_are_what_is_named_and_nothing_beside") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [own, given, secret] = ["own", "given", "secret"].map(|name| directory.path().join(name));
    for file in [&own, &given, &secret] {
        std::fs::write(file, "word\n").unwrap();
    }
    std::os::unix::fs::symlink(&secret, directory.path().join("link")).unwrap();
    let try_it = |line: &str| {
        let paths =
            [("--read", given.as_path()), ("--write", own.as_path()), ("--sockets", directory.path())];
        succeeds(&paths, &[], &format!("cd {} && {line}", directory.path().display()))
    };
    assert!(try_it("read word < given"));
    assert!(try_it("echo new > own && read word < own"));
    for line in [
        "read word < secret".to_owned(),
        "read word < link".to_owned(),
        "echo changed > given".to_owned(),
        "echo new > file".to_owned(),
        "rm own".to_owned(),
        "mv own secret".to_owned(),
        "ln -s secret another".to_owned(),
        "mkfifo pipe".to_owned(),
        "read word < /etc/passwd".to_owned(),
        "ls /home".to_owned(),
    ] {
        assert!(!try_it(&line), "{line}");
    }
    assert_eq!(std::fs::read_to_string(&given).unwrap(), "word\n");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "new\n");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
}

#[test]
fn other_processes_are_out_of_reach() {
    if !confines("other_processes_are_out_of_reach") {
        return;
    }
    let environment_of = |process: &str| format!("cat /proc/{process}/environ");
    assert!(!succeeds(&[], &[], &environment_of(&std::process::id().to_string())));
    assert!(succeeds(&[], &[], &environment_of("self")));
    // Nor is more than that root's, if this is root.
    assert!(succeeds(&[], &[], "grep -Eq '^CapEff:\t000000000000000[0-7]$' /proc/self/status"));
}

#[test]
fn connections_are_made_only_by_who_may() {
    const TEST: &str = "connections_are_made_only_by_who_may";
    if !confines(TEST) {
        return;
    }
    if !Path::new("/bin/bash").exists() {
        return banger_testkit::not_run(TEST, "there is no bash");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let line = format!("exec /bin/bash -c 'exec 3<> /dev/tcp/127.0.0.1/{port}'");
    assert!(succeeds(&[], &["--network"], &line));
    assert!(!succeeds(&[], &[], &line) && !succeeds(&[], &["--connect"], &line), "by TCP");
    let datagrams = line.replace("/tcp/", "/udp/");
    assert!(succeeds(&[], &["--network"], &datagrams));
    assert!(!succeeds(&[], &["--connect"], &datagrams), "by UDP");
    // A socket of the user's own, as that of a bus through which more could be had.
    let directory = tempfile::tempdir().unwrap();
    let bus = directory.path().join("bus");
    let _listener = std::os::unix::net::UnixListener::bind(&bus).unwrap();
    let own = std::env::current_exe().unwrap();
    let line = format!("BUS={} exec {} --exact who_connects --ignored", bus.display(), own.display());
    assert!(succeeds(&[("--read", &own)], &["--connect"], &line));
    assert!(!succeeds(&[("--read", &own)], &[], &line), "to a socket of the user's");
}

#[test]
#[ignore = "no test: what is run confined"]
fn who_connects() {
    std::os::unix::net::UnixStream::connect(std::env::var_os("BUS").unwrap()).unwrap();
}

#[test]
fn what_files_are_stays_as_it_is() {
    const TEST: &str = "what_files_are_stays_as_it_is";
    if !confines(TEST) {
        return;
    }
    let [file, other] = ["file", "other"].map(|_| tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), "word\n").unwrap();
    let before = facts(file.path());
    for change in [
        "chmod 0666",
        "chown 0",
        "touch -d 2001-01-01",
        "truncate -s 0",
        "perl -e 'truncate($ARGV[0], 0) or exit 1'",
    ] {
        let line = |path: &Path| format!("{change} {}", path.display());
        let possible = Command::new("/bin/sh").args(["-c", &line(other.path())]).status().unwrap().success();
        if !possible {
            banger_testkit::not_run(TEST, &format!("{change}: nobody here can"));
        }
        assert!(!succeeds(&[], &[], &line(file.path())), "{change}");
    }
    assert_eq!(facts(file.path()), before);
}

/// Mode, owner, length and time of change.
fn facts(path: &Path) -> (u32, u32, u64, i64) {
    let it = std::fs::metadata(path).unwrap();
    (it.mode(), it.uid(), it.len(), it.mtime())
}

#[test]
fn what_is_no_request_runs_nothing() {
    for arguments in [&[][..], &["--"], &["--read"], &["/bin/true"], &["--anything", "--", "/bin/true"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_banger-confine")).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
    }
}
