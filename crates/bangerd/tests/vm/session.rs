//! Steps of [`crate::images`]: what `banger exec` and `banger ssh` do.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use banger_testkit::{Terminal, exit_code, wait_until};
use rustix::process::Signal;

use crate::guest::{Guest, random, signal, start};

pub(crate) fn arguments_arrive_unchanged(guest: &Guest) {
    let arguments: Vec<OsString> = [
        b"plain".as_slice(),
        b"two words",
        b"",
        b" ",
        b"-leading",
        b"--help",
        b"--",
        b"'single' \"double\" `back` \\slash",
        b"$HOME ${PATH} $(id) ; exit 1 | cat & * ? [a] ~ !",
        b"line one\nline two\r\n\ttab\n",
        b"\xff\xfe not UTF-8 \x80",
        b"\x01\x1b[2J\x7f",
        "Grüße 🦀".as_bytes(),
    ]
    .map(|bytes| OsString::from_vec(bytes.to_vec()))
    .into();
    let mut expected = String::new();
    for argument in &arguments {
        argument.as_bytes().iter().for_each(|byte| write!(expected, "{byte:02x}").unwrap());
        expected.push('\n');
    }
    let mut words: Vec<OsString> = vec![guest.image.probe.into(), "arguments".into()];
    words.extend(arguments);
    let outcome = guest.environment.outcome(&mut guest.client(&[], &words));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.text(), expected);

    // The same without the separator, which is not needed: all after the name is the command.
    let mut command = guest.environment.banger(&["exec", guest.image.name]);
    let outcome = guest.environment.outcome(command.args(&words));
    assert_eq!(outcome.text(), expected);

    // Many, and long ones: more than a packet takes, and more than a terminal's line.
    let long = "x".repeat(100_000);
    let outcome = guest.probe(&[], &["arguments", &long, &long]);
    assert_eq!(outcome.text(), format!("{0}\n{0}\n", "78".repeat(100_000)));
}

pub(crate) fn exit_codes_are_the_programs(guest: &Guest) {
    for code in [0, 3, 125, 255] {
        let outcome = guest.probe(&[], &["exit", &code.to_string()]);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        assert_eq!(outcome.stderr, "");
    }
    let killed = guest.probe(&[], &["kill-self"]);
    assert_eq!(killed.code, 137, "{}", killed.stderr);
    // And with a terminal.
    let mut terminal = Terminal::new(80, 24);
    let mut client = terminal.spawn(guest.client(&["-t"], &[guest.image.probe, "speak"]));
    terminal.wait_for("on standard error");
    assert_eq!(exit_code(&mut client), 0);
    let mut client = terminal.spawn(guest.client(&["-it"], &[guest.image.probe, "exit", "3"]));
    assert_eq!(exit_code(&mut client), 3);
    assert!(terminal.is_cooked());
}

pub(crate) fn output_and_errors_are_apart(guest: &Guest) {
    let spoken = guest.probe(&[], &["speak"]);
    assert_eq!(spoken.text(), "on standard output\n");
    assert_eq!(spoken.stderr, "on standard error\n");
}

pub(crate) fn ten_mebibytes_go_in_and_come_back(guest: &Guest) {
    let bytes = random(10 << 20);
    let outcome =
        guest.environment.run_with_input(&["exec", guest.image.name, "--", guest.image.probe, "cat"], &bytes);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stdout.len(), bytes.len());
    assert!(outcome.stdout == bytes, "the bytes came back changed");
    // A program that does not read leaves nobody waiting.
    let deaf = ["exec", guest.image.name, "--", guest.image.probe, "exit", "6"];
    assert_eq!(guest.environment.run_with_input(&deaf, &bytes).code, 6);
}

pub(crate) fn users_are_the_images(guest: &Guest) {
    assert_eq!(guest.answer(&[], &["who"]).trim_end(), guest.image.default_ids);
    assert_eq!(guest.answer(&["-u", "0"], &["who"]), "0:0\n");
    assert_eq!(guest.answer(&["-u", "root"], &["who"]), "0:0\n");
    // A number is a user everywhere. Its group comes from /etc/passwd, if there is one.
    let group = if guest.image.user.is_some() { 1000 } else { 0 };
    assert_eq!(guest.answer(&["-u", "1000"], &["who"]), format!("1000:{group}\n"));
    assert_eq!(guest.answer(&["-u", "4711"], &["who"]), "4711:0\n");
    if let Some(user) = guest.image.user {
        assert_eq!(guest.answer(&["-u", user], &["who"]), "1000:1000\n");
        assert_eq!(guest.answer(&["-u", user], &["variable", "HOME"]), format!("/home/{user}\n"));
        assert_eq!(guest.answer(&["-u", user], &["variable", "USER"]), format!("{user}\n"));
    }
    let stranger = guest.probe(&["-u", "stranger"], &["who"]);
    assert_eq!(stranger.code, 125);
    assert_eq!(stranger.text(), "");
    assert!(
        stranger.stderr.starts_with("error: ")
            && stranger.stderr.contains("does not let the user 'stranger' in"),
        "{}",
        stranger.stderr
    );
}

pub(crate) fn a_program_starts_where_it_is_told(guest: &Guest) {
    assert_eq!(guest.answer(&[], &["where"]).trim_end(), guest.image.home);
    assert_eq!(guest.answer(&["-w", "/proc/sys"], &["where"]), "/proc/sys\n");
    let nowhere = guest.probe(&["-w", "/no/such/place"], &["where"]);
    assert_eq!(nowhere.code, 126, "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("/no/such/place"), "{}", nowhere.stderr);
}

pub(crate) fn variables_are_set(guest: &Guest) {
    let value = "a b=\"c\"\n$HOME";
    assert_eq!(
        guest.answer(&["-e", &format!("GIVEN={value}")], &["variable", "GIVEN"]),
        format!("{value}\n")
    );
    let mut taken = guest.client(&["-e", "TAKEN"], &[guest.image.probe, "variable", "TAKEN"]);
    taken.env("TAKEN", OsString::from_vec(b"from \xff here".to_vec()));
    assert_eq!(guest.environment.outcome(&mut taken).stdout, b"from \xff here\n");
    assert_eq!(guest.answer(&[], &["variable", "SHARED"]), "of the VM\n");
    assert_eq!(guest.answer(&["-e", "SHARED=mine"], &["variable", "SHARED"]), "mine\n");
    assert_eq!(guest.answer(&[], &["variable", "HOME"]).trim_end(), guest.image.home);
    // Nothing of the host's own gets in, nor of the guest's first process.
    assert_eq!(guest.answer(&[], &["variable", "BANGER_DATA_DIR"]), "\n");
    assert!(guest.answer(&[], &["variable", "PATH"]).contains("/bin"));
}

pub(crate) fn what_cannot_be_run_says_so(guest: &Guest) {
    for (program, code) in [("no-such-program", 127), ("/no/such/program", 127), ("/proc/version", 126)] {
        let outcome = guest.exec(&[], &[program]);
        assert_eq!(outcome.code, code, "{program}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(program), "{program}: {}", outcome.stderr);
    }
}

pub(crate) fn signals_reach_the_program(guest: &Guest) {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let (mut client, _output) = start(&mut guest.client(&[], &[guest.image.probe, "wait"]), "waiting");
        signal(&client, sent);
        assert_eq!(exit_code(&mut client), code, "{sent:?}");
    }
}

pub(crate) fn control_c_reaches_the_program(guest: &Guest) {
    let mut terminal = Terminal::new(80, 24);
    let mut client = terminal.spawn(guest.client(&["-it"], &[guest.image.probe, "wait"]));
    terminal.wait_for("waiting\r\n");
    assert!(!terminal.is_cooked());
    terminal.type_keys(b"\x03");
    assert_eq!(exit_code(&mut client), 130);
    assert!(terminal.is_cooked());
}

/// A client that is killed has no chance to say so: the guest finds out, and the program gets a hangup.
pub(crate) fn a_lost_client_is_a_hangup(guest: &Guest) {
    // A program that nothing else ends, and that is seen by the port which it holds.
    let port = "127.0.0.1:7999";
    let (mut client, _output) = start(&mut guest.client(&[], &[guest.image.probe, "wait", port]), "waiting");
    let serve = || guest.probe(&[], &["serve", port]);
    let refused = serve();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    signal(&client, Signal::KILL);
    assert_eq!(exit_code(&mut client), 137);
    // The program of a killed client ends.
    wait_until(|| serve().code.to_string(), |code| code == "0");
}

pub(crate) fn an_interrupt_can_be_caught(guest: &Guest) {
    let script = "trap 'echo caught; exit 9' INT; echo waiting; while :; do sleep 1; done";
    let (mut client, mut output) = start(&mut guest.client(&[], &["sh", "-c", script]), "waiting");
    signal(&client, Signal::INT);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    assert_eq!(rest, "caught\n");
    assert_eq!(exit_code(&mut client), 9);
    // On a terminal it is a key.
    let mut terminal = Terminal::new(80, 24);
    let mut client = terminal.spawn(guest.client(&["-it"], &["sh", "-c", script]));
    terminal.wait_for("waiting\r\n");
    terminal.type_keys(b"\x03");
    terminal.wait_for("caught\r\n");
    assert_eq!(exit_code(&mut client), 9);
}

pub(crate) fn a_command_line_is_the_shells(guest: &Guest) {
    let line = "echo \"$HOME\" 'two  spaces'; echo error >&2; exit 3";
    let outcome = guest.environment.run(&["ssh", guest.image.name, line]);
    assert_eq!(outcome.code, 3);
    assert_eq!(outcome.text(), format!("{} two  spaces\n", guest.image.home));
    assert_eq!(outcome.stderr, "error\n");
    let killed = guest.environment.run(&["ssh", "-u", "root", guest.image.name, "kill", "-9", "$$"]);
    assert_eq!(killed.code, 137, "{}", killed.stderr);
}

pub(crate) fn a_login_shell_follows_the_window(guest: &Guest) {
    let mut terminal = Terminal::new(100, 30);
    let mut client = terminal.spawn(guest.environment.banger(&["ssh", guest.image.name]));
    terminal.type_keys(b"echo \"[$0]\" \"$HOME\"\r");
    let greeting = format!("[{}] {}\r\n", guest.image.login_shell.unwrap(), guest.image.home);
    terminal.wait_for(&greeting);
    try_the_window(&mut terminal);
    terminal.type_keys(b"exit 7\r");
    assert_eq!(exit_code(&mut client), 7);
    assert!(terminal.is_cooked());
}

/// Changes the window's size from 100×30, under a shell that waits for commands.
pub(crate) fn try_the_window(terminal: &mut Terminal) {
    terminal.type_keys(b"stty size\r");
    terminal.wait_for("30 100\r\n");
    for (columns, rows) in [(120, 40), (51, 17)] {
        // While a command runs: a shell that is about to ask for the next one may undo the change. GNU Readline reads the
        // size and sets what it has read, to be stopped if it is in the background (rltty.c, set_winsize), and a size that
        // comes between the two is lost.
        let wait = format!(
            "echo wai\"\"ting; until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done; echo si\"\"zed\r"
        );
        terminal.type_keys(wait.as_bytes());
        terminal.wait_for("waiting\r\n");
        terminal.resize(columns, rows);
        terminal.wait_for("sized\r\n");
    }
}

/// Every step that needs an agent runs beneath one of its own, with one key in it.
pub(crate) fn with_agent(guest: &Guest, command_line: &str) -> banger_testkit::Outcome {
    let key = guest.environment.data().join("agent-key");
    if !key.exists() {
        let mut keygen = guest.environment.command("ssh-keygen");
        let made = guest.environment.outcome(
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "the key of the agent", "-f"]).arg(&key),
        );
        assert_eq!(made.code, 0, "{}", made.stderr);
    }
    let script = format!("ssh-add -q \"$KEY\" && {command_line}");
    let mut agent = guest.environment.command("ssh-agent");
    guest.environment.outcome(agent.args(["sh", "-c", &script]).env("KEY", key))
}

/// What shows the forwarded agent to a shell of the guest.
pub(crate) fn look_at_the_agent(guest: &Guest) -> &'static str {
    if guest.image.name == crate::guest::DEBIAN.name {
        "ssh-add -l"
    } else {
        "test -S $SSH_AUTH_SOCK && stat -c %u:%a $SSH_AUTH_SOCK"
    }
}

/// Checks what [`look_at_the_agent`] saw.
pub(crate) fn check_the_agent(guest: &Guest, outcome: &banger_testkit::Outcome) {
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    if guest.image.name == crate::guest::DEBIAN.name {
        assert!(outcome.text().contains("the key of the agent (ED25519)"), "{}", outcome.text());
    } else {
        assert_eq!(outcome.text(), "0:600\n");
    }
}

pub(crate) fn the_agent_is_forwarded(guest: &Guest) {
    let name = guest.image.name;
    let look = look_at_the_agent(guest);
    check_the_agent(guest, &with_agent(guest, &format!("banger ssh -A {name} '{look}'")));
    let unasked = with_agent(guest, &format!("banger ssh {name} 'echo \"<$SSH_AUTH_SOCK>\"'"));
    assert_eq!(unasked.text(), "<>\n", "{}", unasked.stderr);
}

pub(crate) fn there_is_no_shell(guest: &Guest) {
    for arguments in [["ssh", guest.image.name, "true"].as_slice(), &["ssh", guest.image.name]] {
        let outcome = guest.environment.run(arguments);
        assert_eq!(outcome.code, 127, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("/bin/sh: not found"), "{}", outcome.stderr);
    }
}
