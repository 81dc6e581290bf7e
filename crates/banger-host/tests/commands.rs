//! The host's own programs, run for real.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use banger_core::command::{CommandError, Commands as _, HostCommand};
use banger_core::work::{CancelGuard, Cancelled, Unwatched, Work};
use banger_host::HostCommands;
use banger_types::operation::Unit;

/// Work that is cancelled as soon as the program has said a line on standard error.
#[derive(Default)]
struct CancelledByALine {
    cancelled: AtomicBool,
    notify: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Work for CancelledByALine {
    fn stage(&self, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: Unit) {}
    fn log(&self, _: &str) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(notify) = self.notify.lock().unwrap().take() {
            notify();
        }
    }
    fn check(&self) -> Result<(), Cancelled> {
        if self.cancelled.load(Ordering::SeqCst) { Err(Cancelled) } else { Ok(()) }
    }
    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        *self.notify.lock().unwrap() = Some(notify);
        CancelGuard::new(|| ())
    }
}

#[test]
fn output_comes_back_and_arguments_are_not_a_shells() {
    let command = HostCommand::new("printf").argument("%s|").argument("a b").argument("$HOME;`id`");
    assert_eq!(HostCommands.run(&command, &Unwatched).unwrap(), b"a b|$HOME;`id`|");
}

#[test]
fn a_failure_says_what_ran_and_what_it_said() {
    let command = HostCommand::new("ls").argument("/nonexistent/thing").variable("LC_ALL", "C");
    match HostCommands.run(&command, &Unwatched) {
        Err(CommandError::Failed { command, status, stderr }) => {
            assert_eq!(command, "ls /nonexistent/thing");
            assert_eq!(status, "exit code 2");
            assert!(stderr.contains("No such file or directory"), "{stderr}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let result = HostCommands.run(&HostCommand::new("no-such-program-at-all"), &Unwatched);
    assert!(
        matches!(result, Err(CommandError::NotInstalled { program }) if program == "no-such-program-at-all")
    );
}

#[test]
fn a_cancel_kills_the_program_and_what_it_started() {
    // The inner `sleep` holds standard output open: only its own death lets the call return.
    let script = "sleep 1000 & echo started >&2; wait";
    let command = HostCommand::new("sh").argument("-c").argument(script);
    let result = HostCommands.run(&command, &CancelledByALine::default());
    assert!(matches!(result, Err(CommandError::Cancelled(_))), "{result:?}");
}

#[test]
fn a_cancelled_program_may_tidy_up() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join("left");
    let script =
        format!("trap 'rm {0}; exit 1' TERM; touch {0}; echo ready >&2; sleep 1000 & wait", left.display());
    let command = HostCommand::new("sh").argument("-c").argument(script);
    let result = HostCommands.run(&command, &CancelledByALine::default());
    assert!(matches!(result, Err(CommandError::Cancelled(_))), "{result:?}");
    assert!(!left.exists());
}

/// What runs a command and is killed meanwhile; [`kill_while_it_runs`] starts it.
#[test]
#[ignore = "no test: the process that other tests kill"]
fn runs_a_command_until_it_is_killed() {
    let Ok(script) = std::env::var("BANGER_TEST_SCRIPT") else { return };
    HostCommands.run(&HostCommand::new("sh").argument("-c").argument(script), &Unwatched).unwrap();
}

/// Kills a process that runs a command whose child does `child`, and waits for that child's end.
fn kill_while_it_runs(child: &str) {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    // The command itself does nothing but wait for its child, as programs do that set up a system: a signal
    // to it alone would be of no use.
    let script = format!("sh -c 'exec 9>{}; {child}'; exit 1", pipe.display());
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runs_a_command_until_it_is_killed", "--ignored"])
        .env("BANGER_TEST_SCRIPT", script)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut open = std::io::BufReader::new(std::fs::File::open(&pipe).unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut open, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The pipe hangs up when the last process that has it open for writing has ended.
    let limit = rustix::time::Timespec { tv_sec: 60, tv_nsec: 0 };
    let mut ended = [rustix::event::PollFd::new(open.get_ref(), rustix::event::PollFlags::empty())];
    assert_eq!(rustix::event::poll(&mut ended, Some(&limit)).unwrap(), 1, "the command runs on");
}

#[test]
fn a_killed_daemon_takes_its_commands_along() {
    kill_while_it_runs("echo ready >&9; exec sleep 1000");
}

#[test]
fn a_command_that_does_not_heed_its_daemons_death_is_killed() {
    kill_while_it_runs("trap \"\" TERM; echo ready >&9; exec sleep 1000");
}

#[test]
fn a_command_that_ended_takes_nothing_along() {
    // Programs leave others behind on purpose, such as agents for keys.
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    let script = format!("(read line <{0}; echo still there >{0}) >/dev/null 2>&1 &", pipe.display());
    HostCommands.run(&HostCommand::new("sh").argument("-c").argument(script), &Unwatched).unwrap();
    std::fs::write(&pipe, "go on\n").unwrap();
    assert_eq!(std::fs::read_to_string(&pipe).unwrap(), "still there\n");
}

#[test]
fn a_consumer_that_gives_up_ends_the_program() {
    let command = HostCommand::new("yes");
    let result = HostCommands.stream(&command, &Unwatched, &mut |_| Err("enough".into()));
    match result {
        Err(CommandError::Consumer { source, .. }) => assert_eq!(source.to_string(), "enough"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_failed_first_is_the_cause() {
    // As mmdebstrap: the program that writes is a child, and the command says what became of it.
    let script = "yes 2>/dev/null; echo 'E: the writer failed' >&2; exit 1";
    let command = HostCommand::new("sh").argument("-c").argument(script);
    let full = HostCommands.stream(&command, &Unwatched, &mut |reader| {
        reader.read_exact(&mut [0; 100])?;
        Err("no space left".into())
    });
    match full {
        Err(CommandError::Consumer { source, stderr, .. }) => {
            assert_eq!(
                (source.to_string().as_str(), stderr.as_str()),
                ("no space left", "E: the writer failed")
            );
        }
        other => panic!("{other:?}"),
    }

    let command = HostCommand::new("sh").argument("-c").argument("echo half; echo 'no network' >&2; exit 1");
    let truncated = HostCommands.stream(&command, &Unwatched, &mut |reader| {
        reader.read_exact(&mut [0; 100]).map_err(|_| "it is truncated".into())
    });
    assert!(
        matches!(&truncated, Err(CommandError::Failed { stderr, .. }) if stderr == "no network"),
        "{truncated:?}"
    );
}
