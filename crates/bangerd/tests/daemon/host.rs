//! A host that is not as it should be: other users' files, and a configuration with mistakes.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use banger_testkit::{Environment, Outcome, not_run};

use crate::support::{SMALL, named, refuse};

/// A user who is nobody here.
const STRANGER: u32 = 12345;

/// Returns whether the test may act as other users; says so when it may not.
fn may_be_others(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        not_run(test, "only root can act as another user");
    }
    root
}

/// Runs `banger` as a stranger.
fn as_stranger(environment: &Environment, arguments: &[&str]) -> Outcome {
    let mut command = environment.banger(arguments);
    command.uid(STRANGER).gid(STRANGER);
    environment.outcome(&mut command)
}

#[test]
fn a_configuration_with_a_mistake_is_shown_with_its_line_and_starts_nothing() {
    let environment = Environment::with_fake_vmm();
    let directory = environment.data().join(".config/banger");
    std::fs::create_dir_all(&directory).unwrap();
    let mut said = String::new();
    for mistake in [
        "[vm]\nvcpus = \"two\"\n",
        "[vm]\nmemory = 512\n",
        "[vm]\nmemory = \"much\"\n",
        "[vm]\nboot_timeout = \"5 minutes\"\n",
        "[vm]\nboot_timeout = []\n",
        "# comment\n[vm]\nmemroy = \"1G\"\n",
        "[vmm]\n",
        "[vm\n",
    ] {
        std::fs::write(directory.join("config.toml"), mistake).unwrap();
        writeln!(said, "{}", refuse(&environment, 2, &["daemon", "start"])).unwrap();
        assert_eq!(environment.run(&["daemon", "status"]).code, 5, "it runs: {mistake}");
    }
    insta::assert_snapshot!(said, @r#"
    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 2: vm.vcpus: invalid type: string "two", expected u32
      try: It takes a whole number, as 4. Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 2: vm.memory: this is not a size; write one in quotes, as in "512M" or "2G"
      try: It takes a size in quotes, as "512M" or "2G". Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 2: vm.memory: 'much' is not a size; write a number with M, G or T, as in 512M or 2G
      try: It takes a size in quotes, as "512M" or "2G". Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 2: vm.boot_timeout: '5 minutes' is not a time from 1s to 24h; write a whole number with s, m or h, as in 90s or 5m
      try: It takes a time in quotes, as "90s", "5m" or "1h". Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 2: vm.boot_timeout: this is not a time; write a whole number of seconds, or one with its unit in quotes, as in "5m"
      try: It takes a time in quotes, as "90s", "5m" or "1h". Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 3: there is no setting 'vm.memroy'
      try: Did you mean 'memory'? [vm] has boot_timeout, disk, forwards, image, kernel, memory, network, vcpus. Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 1: there is no table 'vmm'
      try: Did you mean 'vm'? There are catalog, debian, image, operations, registry, vm, web. Correct [DATA]/.config/banger/config.toml, or remove it

    error: cannot use the configuration file
      because: [DATA]/.config/banger/config.toml, line 1: unclosed table, expected `]`
      try: Correct [DATA]/.config/banger/config.toml, or remove it
    "#);
    // Whatever starts the daemon says it.
    let said = refuse(&environment, 2, &["vm", "ls"]);
    assert!(said.contains("config.toml"), "{said}");
    std::fs::write(directory.join("config.toml"), "[vm]\nvcpus = 1\n").unwrap();
    environment.succeed(&["vm", "ls"]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_said_so() {
    let environment = Environment::with_fake_vmm();
    let file = environment.data().join(".config/banger/config.toml");
    std::fs::create_dir_all(&file).unwrap();
    insta::assert_snapshot!(refuse(&environment, 2, &["daemon", "start"]), @"
    error: cannot use the configuration file
      because: failed to read from file `[DATA]/.config/banger/config.toml`: Is a directory (os error 21)
      try: make it a file of yours that you can read, or remove it
    ");
}

#[test]
fn a_data_directory_that_is_not_ones_own_is_refused_with_advice() {
    if !may_be_others("a_data_directory_that_is_not_ones_own_is_refused_with_advice") {
        return;
    }
    let environment = Environment::with_fake_vmm();
    let data = environment.data().to_owned();
    let lead = |mode| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    let run = |name: &str, value: &Path| {
        let mut command = environment.banger(&["vm", "ls"]);
        command.uid(STRANGER).gid(STRANGER).env(name, value);
        let outcome = environment.outcome(&mut command);
        assert_eq!((outcome.code, outcome.text().as_str()), (6, ""), "{}", outcome.stderr);
        named(&environment, &outcome.stderr)
    };
    // Root's, which everybody may look into.
    lead(0o755);
    let before = std::fs::read_dir(&data).unwrap().count();
    insta::assert_snapshot!(run("BANGER_DATA_DIR", &data), @"
    error: cannot use the data directory [DATA]
      because: failed to open file `[DATA]/start.lock`: Permission denied (os error 13)
      try: set HOME or BANGER_DATA_DIR to a directory that is yours to write to
    ");
    // One that cannot be made.
    insta::assert_snapshot!(run("BANGER_DATA_DIR", &data.join("new/data")), @"
    error: cannot use the data directory [DATA]/new/data
      because: Permission denied (os error 13)
      try: set HOME or BANGER_DATA_DIR to a directory that is yours to write to
    ");
    // A file is in its place.
    insta::assert_snapshot!(run("BANGER_DATA_DIR", &data.join("banger.db")), @"
    error: cannot use the data directory [DATA]/banger.db
      because: File exists (os error 17)
      try: set HOME or BANGER_DATA_DIR to a directory that is yours to write to
    ");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), before, "nothing is left there");
    lead(0o700);
}

#[test]
fn a_database_that_only_somebody_else_may_write_is_refused_with_advice() {
    if !may_be_others("a_database_that_only_somebody_else_may_write_is_refused_with_advice") {
        return;
    }
    // As after a `sudo banger` that kept the user's HOME.
    let environment = Environment::with_fake_vmm();
    let data = environment.data();
    for directory in [data, data.parent().unwrap()] {
        chown(directory, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    for directory in ["images", "kernels"] {
        chown(data.join(directory), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    std::fs::set_permissions(data.join("banger.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = as_stranger(&environment, &["vm", "ls"]);
    assert_eq!(outcome.code, 6, "{}", outcome.stderr);
    insta::assert_snapshot!(named(&environment, &outcome.stderr), @"
    error: cannot open the database
      because: the database [DATA]/banger.db may not be written by this user
      try: give it back to yourself, as with: sudo chown $USER '[DATA]/banger.db'*
    ");
    std::fs::remove_file(data.join("start.lock")).unwrap();
    std::fs::remove_file(data.join("lock")).unwrap();
}

#[test]
fn a_socket_of_another_user_is_spoken_to_by_nobody() {
    if !may_be_others("a_socket_of_another_user_is_spoken_to_by_nobody") {
        return;
    }
    let environment = Environment::with_fake_vmm();
    environment.succeed(&["daemon", "start"]);
    let run = environment.data().join("run");
    let socket = run.join("bangerd.sock");
    let give = |path: &Path, user| chown(path, Some(user), None).unwrap();
    give(&socket, STRANGER);
    // The same from whoever asks first and from whoever starts a daemon.
    let said = refuse(&environment, 6, &["vm", "ls"]);
    assert_eq!(said, refuse(&environment, 6, &["daemon", "start"]));
    assert_eq!(said, refuse(&environment, 6, &["daemon", "stop"]));
    insta::assert_snapshot!(said, @"
    error: bangerd's socket is somebody else's
      because: [DATA]/run/bangerd.sock belongs to user 12345, not to user 0
      try: see that HOME, XDG_RUNTIME_DIR and BANGER_SOCKET are your own
    ");
    give(&socket, 0);
    environment.succeed(&["daemon", "stop"]);

    // The daemon's side: it takes nothing of another's away, and makes nothing where others can.
    std::fs::write(&socket, "").unwrap();
    insta::assert_snapshot!(refuse(&environment, 6, &["daemon", "start"]), @"
    error: cannot listen for clients
      because: [DATA]/run/bangerd.sock is there and is no socket
      try: move '[DATA]/run/bangerd.sock' away
    ");
    std::fs::remove_file(&socket).unwrap();
    give(&run, STRANGER);
    insta::assert_snapshot!(refuse(&environment, 6, &["daemon", "start"]), @"
    error: cannot listen for clients
      because: [DATA]/run belongs to user 12345, not to user 0
      try: see that XDG_RUNTIME_DIR, BANGER_SOCKET and HOME are your own
    ");
    give(&run, 0);
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777)).unwrap();
    insta::assert_snapshot!(refuse(&environment, 6, &["daemon", "start"]), @"
    error: cannot listen for clients
      because: others than its owner may write to [DATA]/run
      try: chmod go-w '[DATA]/run'
    ");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700)).unwrap();
    environment.succeed(&["daemon", "start"]);
}

#[test]
fn a_daemon_of_another_user_behind_ones_own_socket_is_spoken_to_by_nobody() {
    if !may_be_others("a_daemon_of_another_user_behind_ones_own_socket_is_spoken_to_by_nobody") {
        return;
    }
    // The file can be made to belong to anybody by whoever may write to its directory; the listener cannot.
    let environment = Environment::with_fake_vmm();
    let run = environment.data().join("run");
    std::fs::create_dir(&run).unwrap();
    let socket = run.join("bangerd.sock");
    let mut listener = environment.command("/usr/bin/python3");
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_UNIX)\n\
                  s.bind('bangerd.sock')\n\
                  s.listen()\n\
                  print('listens', flush=True)\n\
                  sys.stdin.read()\n";
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(environment.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut listener = listener
        .args(["-c", script])
        .current_dir(&run)
        .uid(STRANGER)
        .gid(STRANGER)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(listener.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "listens\n");
    chown(&socket, Some(0), Some(0)).unwrap();
    let said = refuse(&environment, 6, &["vm", "ls"]);
    assert!(said.contains("belongs to user 12345, not to user 0"), "{said}");
    drop(listener.stdin.take());
    assert!(listener.wait().unwrap().success());
    std::fs::remove_file(&socket).unwrap();
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn no_data_directory_is_too_deep() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let environment = Environment::within(&deep).faking_vmms();
    let create = [&["vm", "create", "deep"], &SMALL[..]].concat();
    let outcome = environment.outcome(environment.banger(&create).env_remove("XDG_RUNTIME_DIR"));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    environment.succeed(&["vm", "rm", "-f", "deep"]);
}
