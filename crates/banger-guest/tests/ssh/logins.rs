//! Login sessions, opened by a stand-in for runuser(1).

use std::os::unix::fs::PermissionsExt as _;

use banger_guest::login::Opener;
use banger_types::image::ImageConfig;
use russh::{Pty, Sig};

use crate::harness::{Harness, Outcome, USER, connect_with, read_until, wait_for_file, words};

/// What runuser(1) does, as far as it matters here: it starts the shell that it is told, with a few variables more, and
/// stays until that has ended. Its own standard streams are not the program's.
const OPENS: &str = r#"test "$1 $2 $4 $5" = "-l -s -- tester" || exit 9
echo noise; echo noise >&2
PAM_SAYS=yes USER=pam "$3" "$6" "$7""#;

async fn harness(script: &str) -> (Harness, tempfile::TempDir) {
    let (mut harness, tools) = connected(script).await;
    assert!(harness.log_in(USER, 2).await);
    (harness, tools)
}

async fn connected(script: &str) -> (Harness, tempfile::TempDir) {
    let tools = tempfile::tempdir().unwrap();
    let tool = tools.path().join("runuser");
    std::fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    (connect_with(ImageConfig::default(), Opener::Program(tool)).await, tools)
}

#[tokio::test]
async fn a_session_has_what_pam_sets_and_the_program_is_unchanged() {
    let (harness, _tools) = harness(OPENS).await;
    let outcome = harness.run("echo $PAM_SAYS $USER; pwd -P; echo error >&2; exit 3").await;
    let home = harness.home.path().canonicalize().unwrap();
    assert_eq!(outcome.text(), format!("yes tester\n{}\n", home.display()));
    assert_eq!(outcome.error_text(), "error\n");
    assert_eq!(outcome.status, Some(3));
    // The program leads its own process session and group, as it does without a login.
    let outcome =
        harness.run("read -r _ _ _ _ group session _ < /proc/self/stat; echo $(($$ - session))").await;
    assert_eq!(outcome.text(), "0\n");
}

#[tokio::test]
async fn a_shell_of_a_session_is_a_login_shell() {
    let (harness, _tools) = harness(OPENS).await;
    let channel = harness.session().await;
    channel.request_shell(true).await.unwrap();
    channel.data(&b"echo $0 $PAM_SAYS; exit 4\n"[..]).await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert_eq!((outcome.text().as_str(), outcome.status), ("-sh yes\n", Some(4)));
}

#[tokio::test]
async fn a_long_command_line_and_much_output_pass() {
    let (harness, _tools) = harness(OPENS).await;
    let word = "x".repeat(100_000);
    let outcome = harness.run(&format!(": {word}; head -c 3000000 /dev/zero")).await;
    assert_eq!((outcome.output.len(), outcome.status), (3_000_000, Some(0)));
}

#[tokio::test]
async fn signals_and_ends_by_them_are_the_programs() {
    let (harness, _tools) = harness(OPENS).await;
    let mut channel =
        harness.start("trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done").await;
    read_until(&mut channel, "ready\n").await;
    channel.signal(Sig::TERM).await.unwrap();
    assert_eq!(Outcome::of(channel).await.status, Some(7));
    let killed = harness.run("kill -KILL $$").await;
    assert!(matches!(killed.signal, Some(Sig::KILL)), "{killed:?}");
    assert_eq!(killed.error_text(), "", "nobody comments on it");
}

#[tokio::test]
async fn a_terminal_is_the_programs_own() {
    let (harness, _tools) = harness(OPENS).await;
    let mut channel = harness.session().await;
    channel.request_pty(true, "xterm", 90, 33, 0, 0, &[(Pty::ONLCR, 0), (Pty::ECHO, 0)]).await.unwrap();
    let script = "trap 'stty size' WINCH; test -t 0 && test -t 2 && echo $PAM_SAYS > /dev/tty; echo ready; \
                  while :; do sleep 0.05; done";
    channel.exec(true, script).await.unwrap();
    assert_eq!(read_until(&mut channel, "ready\n").await, "yes\nready\n");
    channel.window_change(132, 50, 0, 0).await.unwrap();
    assert_eq!(read_until(&mut channel, "\n").await, "50 132\n");
    channel.data(&b"\x03"[..]).await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert!(matches!(outcome.signal, Some(Sig::INT)), "{outcome:?}");
}

#[tokio::test]
async fn a_client_that_goes_hangs_up() {
    let (harness, _tools) = harness(OPENS).await;
    let file = harness.home.path().join("hung-up");
    let script = format!(
        "exec 2>/dev/null; trap 'echo > {}; exit' HUP; echo ready; while :; do sleep 0.05; done",
        file.display()
    );
    let mut channel = harness.start(&script).await;
    read_until(&mut channel, "ready").await;
    let Harness { client, home: _home, .. } = harness;
    drop((channel, client));
    wait_for_file(&file).await;
}

#[tokio::test]
async fn what_cannot_be_run_says_so() {
    let (mut harness, _tools) = connected(OPENS).await;
    let passwd = harness.etc.path().join("passwd");
    let entry = std::fs::read_to_string(&passwd).unwrap();
    std::fs::write(&passwd, entry.replace("/bin/sh", "/no/shell")).unwrap();
    assert!(harness.log_in(USER, 2).await);
    let outcome = harness.run("true").await;
    assert_eq!(outcome.status, Some(127));
    assert_eq!(outcome.error_text(), "banger-guest: /no/shell: not found\n");
}

#[tokio::test]
async fn nobody_is_locked_out_when_no_session_can_be_opened() {
    for script in ["exit 1", "kill -KILL $$", "exec 0</dev/null; exec true"] {
        let (harness, _tools) = harness(script).await;
        let outcome = harness.run("echo $USER; exit 5").await;
        assert_eq!((outcome.text().as_str(), outcome.status), ("tester\n", Some(5)), "{script}");
        assert_eq!(outcome.error_text(), "", "{script}");
    }
}

#[tokio::test]
async fn arrays_and_files_need_no_session() {
    let (harness, tools) = harness(&format!("echo > \"$(dirname $0)/asked\"\n{OPENS}")).await;
    let channel = harness.start_array(&words(&[b"/bin/sh", b"-c", b"echo \"<$PAM_SAYS>\""])).await;
    assert_eq!(Outcome::of(channel).await.text(), "<>\n");
    let asked = tools.path().join("asked");
    assert!(!asked.exists());
    assert_eq!(harness.run("echo \"<$PAM_SAYS>\"").await.text(), "<yes>\n");
    assert!(asked.exists());
}
