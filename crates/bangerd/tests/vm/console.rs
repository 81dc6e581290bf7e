//! The serial console of a real guest, as a user on a terminal has it.

use banger_testkit::{Terminal, exit_code};

use crate::guest::Guest;

fn attach(guest: &Guest, terminal: &mut Terminal) -> std::process::Child {
    let client = terminal.spawn(guest.environment.banger(&["vm", "console", guest.image.name]));
    terminal.wait_for("Ctrl-] leaves");
    client
}

pub(crate) fn enter_has_a_shell_of_roots(guest: &Guest) {
    let mut terminal = Terminal::new(80, 24);
    let mut client = attach(guest, &mut terminal);
    terminal.type_keys(b"\r");
    terminal.wait_for("# ");
    terminal.type_keys(b"echo \"uid $(id -u) at $HOME, [$0], $(tty), $SHARED\"\r");
    let shown = terminal.wait_for("of the VM\r\n");
    assert!(shown.contains("uid 0 at /root, [-"), "{shown}");
    assert!(shown.contains("/dev/ttyS0"), "{shown}");
    // A job that Ctrl-C interrupts: this is a terminal. It is what says that it has begun, so that it is what is interrupted
    // and not the shell that is about to begin it.
    terminal.type_keys(b"sh -c 'echo be\"\"gun; exec sleep 1000'\r");
    terminal.wait_for("begun\r\n");
    terminal.type_keys(b"\x03");
    terminal.wait_for("# ");
    terminal.type_keys(b"echo interrupted: $?\r");
    terminal.wait_for("interrupted: 130\r\n");
    // Who leaves finds it as it was.
    terminal.type_keys(b"kept=$((6*7))\r\x1d");
    assert_eq!(exit_code(&mut client), 0);
    assert!(terminal.is_cooked());
    let mut client = attach(guest, &mut terminal);
    terminal.type_keys(b"echo kept: $kept\r");
    terminal.wait_for("kept: 42\r\n");
    terminal.type_keys(b"exit\r");
    terminal.wait_for("Enter starts another");
    terminal.type_keys(b"\r");
    terminal.wait_for("# ");
    terminal.type_keys(b"exit\r");
    terminal.wait_for("Enter starts another");
    terminal.type_keys(b"\x1d");
    assert_eq!(exit_code(&mut client), 0);
    // It is what the logs are of.
    let log = guest.environment.succeed(&["vm", "logs", guest.image.name]);
    assert!(log.contains("kept: 42"), "{log}");
}

pub(crate) fn an_image_without_a_shell_says_so(guest: &Guest) {
    let mut terminal = Terminal::new(80, 24);
    let mut client = attach(guest, &mut terminal);
    for _ in 0..2 {
        terminal.type_keys(b"\r");
        terminal.wait_for("banger-guest: /bin/sh: not found");
    }
    terminal.type_keys(b"\x1d");
    assert_eq!(exit_code(&mut client), 0);
}
