//! Closed streams, no terminal, no colour, other locales: plain output and the right exit codes.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use banger_types::operation::OperationKind;
use banger_types::vm::VmState;

use crate::support::{Terminal, World, succeeded, vm};

fn world() -> World {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.vms = vec![vm("web", VmState::Running)];
        shown.operations.push_back(succeeded(OperationKind::VmStart, "web"));
    });
    world
}

/// Returns the command with some of its first three descriptors closed.
fn closing(mut command: Command, descriptors: &'static [i32]) -> Command {
    let close = move || {
        for &descriptor in descriptors {
            #[expect(unsafe_code, reason = "there is no safe way to have a closed standard stream")]
            // SAFETY: between fork and exec nothing uses these descriptors but the program to come.
            unsafe {
                rustix::io::close(descriptor);
            }
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "a child's standard stream can only be closed between fork and exec")]
    // SAFETY: the closure makes system calls alone and touches no memory.
    unsafe {
        command.pre_exec(close);
    }
    command
}

#[test]
fn closed_streams_are_no_panic() {
    for descriptors in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        let world = world();
        let check = |arguments: &[&str], code: i32| {
            let mut command = closing(world.command(arguments), descriptors);
            let ended = world.end(command.spawn().unwrap());
            assert_eq!(ended.code, code, "{arguments:?} without {descriptors:?}: {ended}");
            assert!(!ended.stderr.contains("panicked"), "{ended}");
        };
        check(&["vm", "ls"], 0);
        check(&["vm", "start", "web"], 0);
        check(&["vm", "show", "none"], 3);
        check(&["rm", "web"], 2);
        check(&["exec", "web", "exit", "3"], 3);
        check(&["frobnicate"], 2);
        check(&["--help"], 0);
    }
}

#[test]
fn a_closed_input_is_an_empty_one() {
    let world = world();
    let mut command = closing(world.command(["exec", "web", "echo"]), &[0]);
    let ended = world.end(command.spawn().unwrap());
    assert_eq!((ended.code, ended.text(), ended.stderr.as_str()), (0, "", ""));
}

#[test]
fn every_locale_gets_the_same_plain_text() {
    let world = world();
    let expected = world.run(["vm", "show", "web"]);
    assert!(expected.stdout.is_ascii());
    for (name, value) in
        [("LC_ALL", "C"), ("LC_ALL", "de_DE.ISO-8859-1"), ("LANG", "\u{fc}"), ("NO_COLOR", "1")]
    {
        let ended = world.end(world.command(["vm", "show", "web"]).env(name, value).spawn().unwrap());
        assert_eq!(ended.to_string(), expected.to_string(), "{name}={value}");
    }
}

#[test]
fn a_terminal_gets_ascii_and_without_colour_no_colour() {
    let world = world();
    let mut terminal = Terminal::new(100, 24);
    let mut command = world.command(["vm", "start", "web"]);
    command.env("LC_ALL", "C").env("NO_COLOR", "1");
    let child = terminal.spawn(command);
    let printed = terminal.wait_for("web\r\n");
    assert_eq!(world.end(child).code, 0);
    assert!(printed.is_ascii(), "{printed:?}");
    // Colours are SGR sequences: they end with m.
    let coloured = printed.split('\x1b').skip(1).any(|rest| {
        rest.strip_prefix('[').is_some_and(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        })
    });
    assert!(!coloured, "{printed:?}");
}

#[test]
fn a_terminal_that_cannot_redraw_gets_lines() {
    let world = world();
    let mut terminal = Terminal::new(100, 24);
    // The terminal sets TERM itself, so a shell changes it back.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "TERM=dumb exec \"$0\" \"$@\""]);
    let command = world.command(["vm", "start", "web"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().current_dir(world.path());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    let child = terminal.spawn(shell);
    let printed = terminal.wait_for("web\r\n");
    assert_eq!(world.end(child).code, 0);
    assert!(!printed.contains('\x1b'), "{printed:?}");
    assert!(printed.contains("boot ...\r\n"), "{printed:?}");
}

#[test]
fn an_argument_that_is_not_text_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::without_daemon();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let ended = world.run([std::ffi::OsStr::new("vm"), std::ffi::OsStr::new("show"), odd]);
    assert_eq!(ended.code, 2, "{ended}");
}
