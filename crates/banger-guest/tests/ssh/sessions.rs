//! Logins, shells, terminals and signals.

use russh::{ChannelMsg, Pty, Sig};

use crate::harness::{Harness, Outcome, USER, connect, read_until, wait_for_file};

#[tokio::test]
async fn only_the_key_and_only_users_of_the_image_log_in() {
    let mut harness = connect(banger_types::image::ImageConfig::default()).await;
    assert!(!harness.log_in(USER, 3).await, "a foreign key");
    assert!(!harness.log_in("nobody-here", 2).await, "a foreign user");
    assert!(harness.log_in(USER, 2).await);
}

#[tokio::test]
async fn a_shell_is_a_login_shell_at_home() {
    let harness = Harness::new().await;
    std::fs::write(harness.home.path().join(".profile"), "FROM_PROFILE=yes\n").unwrap();
    let channel = harness.session().await;
    channel.request_shell(true).await.unwrap();
    channel.data(&b"echo $0 $FROM_PROFILE $USER; pwd -P; exit 4\n"[..]).await.unwrap();
    let outcome = Outcome::of(channel).await;
    let home = harness.home.path().canonicalize().unwrap();
    assert_eq!(outcome.text(), format!("-sh yes tester\n{}\n", home.display()));
    assert_eq!(outcome.status, Some(4));
}

#[tokio::test]
async fn the_client_sets_variables_but_not_the_linkers() {
    let harness = Harness::new().await;
    let mut channel = harness.session().await;
    channel.set_env(true, "LC_TEST", "a b").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Success)));
    channel.set_env(true, "LD_PRELOAD", "/evil.so").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
    channel.exec(true, "echo \"$LC_TEST|$LD_PRELOAD\"").await.unwrap();
    assert_eq!(Outcome::of(channel).await.text(), "a b|\n");
}

#[tokio::test]
async fn one_channel_has_one_program() {
    let harness = Harness::new().await;
    let mut channel = harness.start("cat").await;
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Success)));
    channel.exec(true, "true").await.unwrap();
    assert!(matches!(channel.wait().await, Some(ChannelMsg::Failure)));
}

#[tokio::test]
async fn a_terminal_has_the_clients_size_and_follows_it() {
    let harness = Harness::new().await;
    let mut channel = harness.session().await;
    let modes = [(Pty::ECHO, 0)];
    channel.request_pty(true, "xterm-test", 90, 33, 0, 0, &modes).await.unwrap();
    let script = "trap 'stty size; exit 0' WINCH; echo $TERM; stty size; test -t 0 && test -t 2 && tty; \
                  echo $SSH_TTY; echo ready; while :; do sleep 0.05; done";
    channel.exec(true, script).await.unwrap();
    let text = read_until(&mut channel, "ready").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["xterm-test", "33 90"], "{text}");
    assert!(lines[2].starts_with("/dev/pts/") && lines[2] == lines[3], "{text}");
    channel.window_change(132, 50, 0, 0).await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert_eq!(outcome.text().trim(), "50 132");
    assert_eq!(outcome.status, Some(0));
}

#[tokio::test]
async fn a_key_interrupts_what_runs_in_the_terminal() {
    let harness = Harness::new().await;
    let mut channel = harness.session().await;
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    channel.exec(true, "echo ready; exec sleep 300").await.unwrap();
    read_until(&mut channel, "ready").await;
    channel.data(&b"\x03"[..]).await.unwrap();
    let outcome = Outcome::of(channel).await;
    assert!(matches!(outcome.signal, Some(Sig::INT)), "{outcome:?}");
}

#[tokio::test]
async fn a_terminals_last_words_are_heard() {
    let harness = Harness::new().await;
    for _ in 0..10 {
        let channel = harness.session().await;
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[(Pty::ONLCR, 0)]).await.unwrap();
        channel.exec(true, "seq 1 5000").await.unwrap();
        let text = Outcome::of(channel).await.text();
        assert!(text.ends_with("4999\n5000\n"), "{:?}", text.get(text.len().saturating_sub(20)..));
    }
}

#[tokio::test]
async fn a_signal_reaches_all_that_the_session_started() {
    let harness = Harness::new().await;
    let mut channel = harness.start("trap 'exit 7' TERM; sleep 300 & echo $!; wait").await;
    let text = read_until(&mut channel, "\n").await;
    // Not before it is `sleep`: until then it is the shell, which catches the signal.
    let name = format!("/proc/{}/comm", text.trim());
    while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    channel.signal(Sig::TERM).await.unwrap();
    assert_eq!(Outcome::of(channel).await.status, Some(7));
    let child = rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    let gone = async {
        while rustix::process::test_kill_process(child).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, gone).await.expect("the shell's child was signalled, too");
}

/// Returns a script that makes a file when it is hung up. Without standard error: the shell would say that `sleep` was hung
/// up, too, and die of the closed pipe before it comes to its trap.
fn tell_of_hang_up(file: &std::path::Path) -> String {
    let file = file.display();
    format!("exec 2>/dev/null; trap 'echo > {file}; exit' HUP; echo ready; while :; do sleep 0.05; done")
}

#[tokio::test]
async fn a_client_that_goes_hangs_up() {
    let harness = Harness::new().await;
    let file = harness.home.path().join("hung-up");
    let script = tell_of_hang_up(&file);
    let mut channel = harness.start(&script).await;
    read_until(&mut channel, "ready").await;
    let Harness { client, home: _home, .. } = harness;
    drop((channel, client));
    wait_for_file(&file).await;
}

#[tokio::test]
async fn a_closed_channel_hangs_up_and_leaves_the_others() {
    let harness = Harness::new().await;
    let file = harness.home.path().join("hung-up");
    let script = tell_of_hang_up(&file);
    let mut channel = harness.start(&script).await;
    read_until(&mut channel, "ready").await;
    channel.close().await.unwrap();
    wait_for_file(&file).await;
    assert_eq!(harness.run("echo alive").await.text(), "alive\n");
}
