//! Tests of a test program, run once more in a test host.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::{HOSTED, NAME, PLACE, TestHost, User, variables};
use crate::environment::{exit_code, has_ended_within, outcome_or_killed, pidfd_of};
use crate::not_run::{not_run, run_again};
use crate::{is_full_run, seed};

/// How often a host is asked for a sign of life while tests run in it.
const ANSWER_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take for that. It takes a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// How long tests may run in a host that answers: those of every day take some twenty minutes.
const SUITE_LIMIT: Duration = Duration::from_mins(45);
/// The same for the whole matrix: it has come to the limit of every day on a machine that built programs beside it.
const FULL_SUITE_LIMIT: Duration = Duration::from_mins(90);
/// How many hosts may hang in a row, and one more.
const ATTEMPTS: usize = 3;

/// What a host prints on its console all the time.
const ALIVE: &str = "the test host is alive";
/// How long it may not do so: three times as long as it should take.
const ALIVE_LIMIT: Duration = Duration::from_secs(15);

/// Which tests of a program run in a host.
#[derive(Debug, Clone, Copy)]
pub enum Tests<'a> {
    /// These, by their whole names.
    These(&'a [&'a str]),
    /// All but those whose names have one of these in them.
    AllBut(&'a [&'a str]),
}

impl Tests<'_> {
    fn arguments(self) -> Vec<String> {
        match self {
            Self::These(names) => ["--exact"].iter().chain(names).copied().map(str::to_owned).collect(),
            Self::AllBut(names) => {
                names.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]).collect()
            }
        }
    }
}

/// What is left of a program whose host hung.
struct Hung {
    /// Whether its kernel goes on nevertheless: then it may be banger that hangs, and not the emulator.
    kernel_lives: bool,
}

impl TestHost {
    /// Runs tests of this very test program once more, in the host, where they find Firecracker and KVM. All of them
    /// must pass.
    pub fn pass_own_tests(&self, user: User, tests: Tests<'_>) {
        let arguments = ["--test-threads=2".to_owned()].into_iter().chain(tests.arguments());
        let text = self.run_own_program(user, arguments);
        // A name that fits no test would pass as well.
        assert!(!text.contains("running 0 tests"), "{text}");
        if let Tests::These(names) = tests {
            for name in names {
                assert!(text.contains(&format!("test {name} ... ")), "there is no test {name}:\n{text}");
            }
        }
        // What cannot run in the host either is said where everybody sees it.
        for line in text.lines().filter_map(|line| line.split_once("NOT RUN: ")) {
            let (test, reason) = line.1.split_once(": ").unwrap_or((line.1, "it does not say why"));
            let test = format!("in the test host, as {}: {test}", user.name());
            not_run(&test, reason);
        }
    }

    /// Runs this very program once more, in the host, where it must succeed. Returns what it printed, which stands in
    /// `hosted-PROGRAM-USER.log` in the tests' scratch directory as it comes.
    pub fn run_own_program(&self, user: User, arguments: impl IntoIterator<Item = String>) -> String {
        let own = std::env::current_exe().expect("the program's own path");
        let program = format!("{PLACE}/programs/hosted");
        self.copy_in(&own, &program);
        let mut command = vec!["env".to_owned(), format!("{HOSTED}=1")];
        command.extend(variables());
        command.push(program);
        command.extend(arguments);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        // Whoever ran before may have had other rights.
        let owner = format!("{}:", user.name());
        let (seed, scratch) = (format!("{PLACE}/seed"), format!("{PLACE}/scratch"));
        self.succeed(User::Root, &["chown", "--recursive", &owner, &seed, &scratch]);
        // What was copied in is to survive the host's end.
        self.succeed(User::Root, &["sync"]);
        let log = log_of(&own, user);
        let code = self.run_in_spite_of_the_emulator(user, &command, &log);
        let text = String::from_utf8_lossy(&std::fs::read(&log).expect("read a log")).into_owned();
        assert_eq!(code, 0, "{text}");
        text
    }

    /// Runs a program to its end, and returns its exit code. QEMU's emulated SVM makes a host hang now and then, whatever
    /// runs in it: such a host is ended, and the program run from the beginning in the next one.
    fn run_in_spite_of_the_emulator(&self, user: User, command: &[&str], log: &Path) -> i32 {
        for attempt in 1..=ATTEMPTS {
            match self.run_while_it_answers(user, command, log) {
                Ok(code) => return code,
                Err(hung) if attempt < ATTEMPTS => {
                    let whose = if hung.kernel_lives {
                        "and its kernel did not: look for a fault of banger's"
                    } else {
                        "with its kernel"
                    };
                    let program = log.file_stem().unwrap_or_default().to_string_lossy();
                    run_again(&program, &format!("the test host hung, {whose}"));
                    self.environment.succeed(&["vm", "kill", NAME]);
                    self.boot();
                }
                Err(_) => {}
            }
        }
        panic!("the test host hung {ATTEMPTS} times; {} has what was printed last", log.display());
    }

    /// Does something in the host; from the beginning, in one like this, when the emulator makes the host hang.
    pub fn act_in_spite_of_the_emulator(&self, what: &str, act: impl Fn(&Self) + Sync) {
        let clean = self.snapshot();
        for _ in 1..ATTEMPTS {
            if self.acts_while_it_answers(&act) {
                return;
            }
            run_again(what, "the test host hung, with its kernel");
            self.boot_from(&clean);
        }
        act(self);
    }

    /// Returns whether it came to its end; otherwise the host hung with its kernel, and has been killed.
    fn acts_while_it_answers(&self, act: &(impl Fn(&Self) + Sync)) -> bool {
        std::thread::scope(|scope| {
            let (running, ended) = std::sync::mpsc::channel::<()>();
            let acting = scope.spawn(move || {
                // Dropped at the end, be it in a panic.
                let _running = running;
                act(self);
            });
            while ended.recv_timeout(ANSWER_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if !self.answers() && !self.kernel_lives() {
                    // Whoever waits for an answer is told so.
                    self.environment.succeed(&["vm", "kill", NAME]);
                    acting.join().ok();
                    return false;
                }
            }
            acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            true
        })
    }

    fn answers(&self) -> bool {
        let asked = outcome_or_killed(&mut self.command(User::Root, &["true"]), ANSWER_LIMIT);
        asked.is_some_and(|answer| answer.code == 0)
    }

    /// Whether the host still prints on its console that it is alive.
    pub fn kernel_lives(&self) -> bool {
        let follow = ["vm", "logs", "--follow", "--lines", "0", NAME];
        let mut logs = self.environment.banger(&follow);
        let mut child = logs.stdout(Stdio::piped()).spawn().expect("run banger");
        let console = child.stdout.take().expect("a pipe");
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(console).lines().map_while(Result::ok);
            if lines.any(|line| line.contains(ALIVE)) {
                sender.send(()).ok();
            }
        });
        let lives = receiver.recv_timeout(ALIVE_LIMIT).is_ok();
        end(&mut child);
        reader.join().expect("read a console");
        lives
    }

    fn run_while_it_answers(&self, user: User, command: &[&str], log: &Path) -> Result<i32, Hung> {
        let output = File::create(log).expect("make a log");
        let mut running = self.command(user, command);
        running.stdout(output.try_clone().expect("a second descriptor")).stderr(output);
        let mut child = running.spawn().expect("run banger");
        let limit = if is_full_run() { FULL_SUITE_LIMIT } else { SUITE_LIMIT };
        let until = Instant::now() + limit;
        while !has_ended_within(&pidfd_of(&child), ANSWER_INTERVAL) {
            if !self.answers() {
                let kernel_lives = self.kernel_lives();
                end(&mut child);
                return Err(Hung { kernel_lives });
            }
            if Instant::now() > until {
                end(&mut child);
                panic!("tests in the test host took more than {limit:?}; see {}", log.display());
            }
        }
        Ok(exit_code(&mut child))
    }
}

/// Ends a client by force: it hands other signals on to a guest that does not take them.
fn end(child: &mut Child) {
    child.kill().expect("end banger");
    child.wait().expect("wait for banger");
}

/// Returns the file that gets what the tests of a program print.
fn log_of(program: &Path, user: User) -> PathBuf {
    let name = program.file_name().expect("a program's name").to_string_lossy();
    // Cargo puts a hash behind a test program's.
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.rsplit_once('-').filter(|(_, hash)| is_hash(hash)).map_or(&*name, |(name, _)| name);
    seed::scratch().join(format!("hosted-{name}-{}.log", user.name()))
}
