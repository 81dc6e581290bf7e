//! Login sessions in Debian: PAM's and logind's, or none and no harm.

use std::fmt::Write as _;

use banger_testkit::{Terminal, exit_code, wait_until};

use crate::guest::{DEBIAN, Guest};

fn line(guest: &Guest, user: &str, line: &str) -> String {
    guest.environment.succeed(&["ssh", "-u", user, DEBIAN.name, line])
}

/// A command line has a session of its own, which is gone when it has ended.
fn a_command_line_is_a_session(guest: &Guest) {
    let shown =
        line(guest, "dev", "echo $XDG_RUNTIME_DIR; loginctl show-session $XDG_SESSION_ID -p Name -p Active");
    assert_eq!(shown, "/run/user/1000\nName=dev\nActive=yes\n");
    assert_eq!(line(guest, "dev", "stat -c %U:%a $XDG_RUNTIME_DIR"), "dev:700\n");
    let scope = line(guest, "dev", "cat /proc/self/cgroup");
    assert!(scope.starts_with("0::/user.slice/user-1000.slice/session-"), "{scope}");
    assert_eq!(line(guest, "root", "echo $XDG_RUNTIME_DIR $HOME"), "/run/user/0 /root\n");
    // The user's own systemd and its bus answer.
    assert_eq!(line(guest, "dev", "systemctl --user is-active dbus.socket"), "active\n");
    assert_eq!(line(guest, "dev", "busctl --user list >/dev/null && echo yes"), "yes\n");
    let sessions = || guest.exec(&["-u", "root"], &["loginctl", "list-sessions", "--no-legend"]).text();
    // They are closed.
    wait_until(sessions, str::is_empty);
}

/// `limits.conf(5)` is PAM's, and only a session has it.
fn limits_are_pams(guest: &Guest) {
    let set = "echo 'dev - nofile 4321' > /etc/security/limits.d/test.conf";
    assert_eq!(guest.exec(&["-u", "root"], &["sh", "-c", set]).code, 0);
    assert_eq!(line(guest, "dev", "ulimit -n"), "4321\n");
    assert_eq!(guest.exec(&[], &["sh", "-c", "ulimit -n"]).text(), "1024\n", "exec is direct");
    assert_eq!(guest.exec(&["-u", "root"], &["rm", "/etc/security/limits.d/test.conf"]).code, 0);
}

/// A shell on a terminal is listed with it, and has job control.
fn a_shell_is_listed(guest: &Guest) {
    let mut terminal = Terminal::new(100, 30);
    let mut client = terminal.spawn(guest.environment.banger(&["ssh", DEBIAN.name]));
    let shown = "$(loginctl --no-pager show-session $XDG_SESSION_ID -p Type -p TTY --value)";
    terminal.type_keys(format!("echo {shown}, $(tty), don\"\"e\r").as_bytes());
    let printed = terminal.wait_for(", done\r\n");
    let line = printed.lines().last().unwrap();
    let terminals: Vec<_> = line.split("pts/").skip(1).map(|rest| &rest[..1]).collect();
    assert!(line.contains("tty") && terminals.len() == 2 && terminals[0] == terminals[1], "{line:?}");
    terminal.type_keys(b"sleep 500\r");
    // The shell has told the terminal of the job before it runs, so that the key is the job's.
    wait_until(|| guest.exec(&[], &["pgrep", "-x", "sleep"]).text(), |found| !found.is_empty());
    terminal.type_keys(b"\x1a");
    terminal.wait_for("Stopped");
    terminal.type_keys(b"kill %1; wait; exit 7\r");
    assert_eq!(exit_code(&mut client), 7);
    assert!(terminal.is_cooked());
}

/// A user without an entry, or in another group, is nobody to PAM.
fn strangers_need_no_pam(guest: &Guest) {
    assert_eq!(line(guest, "4711", "id -u; echo \"<$XDG_RUNTIME_DIR>\""), "4711\n<>\n");
    assert_eq!(line(guest, "dev:adm", "id -gn; echo \"<$XDG_RUNTIME_DIR>\""), "adm\n<>\n");
}

/// The image's PAM refuses every session: whoever has the key comes in all the same.
fn nobody_is_locked_out(guest: &Guest) {
    let root =
        |script: &str| assert_eq!(guest.exec(&["-u", "root"], &["sh", "-c", script]).code, 0, "{script}");
    root("cp /etc/pam.d/runuser-l /root/ && echo 'session requisite pam_deny.so' > /etc/pam.d/runuser-l");
    let outcome = guest.environment.run(&["ssh", DEBIAN.name, "echo in; exit 3"]);
    assert_eq!((outcome.code, outcome.text().as_str(), outcome.stderr.as_str()), (3, "in\n", ""));
    let log = guest.exec(&["-u", "root"], &["journalctl", "-b", "-o", "cat", "--no-pager"]).text();
    assert!(log.contains("no login session for dev: /usr/sbin/runuser opened none"), "{log}");
    root("cp /root/runuser-l /etc/pam.d/");
    // An image without the tool says nothing at all.
    root("mv /usr/sbin/runuser /root/");
    assert_eq!(line(guest, "dev", "echo \"<$XDG_RUNTIME_DIR>\""), "<>\n");
    root("mv /root/runuser /usr/sbin/");
    assert_eq!(line(guest, "dev", "echo $XDG_RUNTIME_DIR"), "/run/user/1000\n");
}

/// Twenty at once.
fn sessions_do_not_disturb_each_other(guest: &Guest) {
    let clients: Vec<_> = (0..20)
        .map(|number| {
            let mut client = guest.environment.banger(&[
                "ssh",
                DEBIAN.name,
                &format!("echo $XDG_RUNTIME_DIR {number}; exit {number}"),
            ]);
            client.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let (mut seen, mut expected) = (String::new(), String::new());
    for (number, client) in clients.into_iter().enumerate() {
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(i32::try_from(number).unwrap()));
        seen.push_str(&String::from_utf8(output.stdout).unwrap());
        writeln!(expected, "/run/user/1000 {number}").unwrap();
    }
    assert_eq!(seen, expected);
}

#[test]
fn sessions_in_debian_are_logins() {
    // Right after the guest can be spoken to, systemd is still starting: the first session waits for logind.
    let (mut guest, first) = Guest::run(&DEBIAN, &["true"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    guest.step("a command line is a session", a_command_line_is_a_session);
    guest.step("limits are PAM's", limits_are_pams);
    guest.step("a shell is listed", a_shell_is_listed);
    guest.step("strangers need no PAM", strangers_need_no_pam);
    guest.step("nobody is locked out", nobody_is_locked_out);
    guest.step("twenty sessions at once", sessions_do_not_disturb_each_other);
    guest.finish();
}
