//! `banger-guest service`: the image's entrypoint and command, kept running from boot to shutdown.
//!
//! A process of its own, whoever starts it: our init or a unit of systemd's. systemd could restart the program itself, but not
//! with a pause that grows (`RestartSteps=` is younger than the systemd of many images), and what it has to say goes to the
//! journal, where `banger vm logs` does not look. So systemd guards only this process.
//!
//! As in a container, what the program has started ends with it: else a worker that is left would hold the port that the
//! next program wants. This process takes in all its orphans (`PR_SET_CHILD_SUBREAPER`), and so finds them.

mod pause;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use banger_types::image::ImageConfig;
use rustix::fs::{Gid, Mode, OFlags};
use rustix::process::{Pid, WaitOptions, wait};

use self::pause::Pause;
use crate::init::signals::{self, Signals};
use crate::process::{self, Directory, Failure, Identity, Program, begin_session, signal};
use crate::user::{self, Environment, Login};
use crate::{boot, log, path};

/// What the image's programs are shown on: the serial line, which the host keeps.
const CONSOLE: &str = "/dev/console";
/// How long what the program has left behind may take to end once it was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the service until a SIGTERM ends it. Succeeds at once when there is nothing to run.
pub fn run() -> ExitCode {
    take_console();
    let config = std::fs::read(path::CONFIG).map_err(boot::ConfigError::from);
    let image = match config.and_then(|bytes| boot::parse_config(&bytes)) {
        Ok(config) => config.image,
        Err(error) => {
            log!("cannot run the service: cannot use {}: {}", path::CONFIG, log::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    if process::image_command(&image).is_empty() {
        log!("there is no service to run: the image names neither entrypoint nor command");
        return ExitCode::SUCCESS;
    }
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    match Signals::open(&[libc::SIGCHLD, libc::SIGTERM]) {
        Ok(signals) => {
            Service { stop_signal: stop_signal(&image), image, signals, stopping: false }.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            log!("cannot run the service: open a signalfd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the console standard output and error, wherever systemd has put them.
fn take_console() {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open(CONSOLE, flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(&console);
        let _ = rustix::stdio::dup2_stderr(&console);
    }
}

/// Returns the signal that asks the image's program to end; SIGTERM unless the image names another.
fn stop_signal(image: &ImageConfig) -> i32 {
    let Some(text) = image.stop_signal.as_deref().filter(|text| !text.is_empty()) else {
        return libc::SIGTERM;
    };
    signal::parse(text).unwrap_or_else(|| {
        log!("the image's stop signal '{text}' is none; the service gets SIGTERM");
        libc::SIGTERM
    })
}

struct Service {
    image: ImageConfig,
    stop_signal: i32,
    signals: Signals,
    /// Somebody wants the end.
    stopping: bool,
}

impl Service {
    /// Starts the program and starts it again, until somebody ends it.
    fn run(&mut self) {
        let mut pause = Pause::default();
        loop {
            let started = Instant::now();
            let how = self.turn();
            if self.stopping {
                return;
            }
            let lived = started.elapsed();
            let pause = pause.after(lived);
            let lived = Duration::from_millis(u64::try_from(lived.as_millis()).unwrap_or(u64::MAX));
            log!("the service {how} after {lived:?}; it is started again in {pause:?}");
            let due = Instant::now() + pause;
            while self.hear(Some(due)).is_some() {
                if self.stopping {
                    return;
                }
            }
        }
    }

    /// Waits for a signal until `until`, and returns it.
    fn hear(&mut self, until: Option<Instant>) -> Option<i32> {
        let signal = self.signals.wait(until);
        self.stopping |= signal == Some(libc::SIGTERM);
        signal
    }

    /// Runs the program once, and returns how it ended.
    fn turn(&mut self) -> String {
        let main = match self.start() {
            Ok(main) => main,
            Err(failure) => {
                let reason = failure.message.trim_end().trim_start_matches("banger-guest: ");
                return format!("could not start ({reason})");
            }
        };
        let status = loop {
            if let Some(status) = reap(main) {
                break status;
            }
            if self.hear(None) == Some(libc::SIGTERM) {
                // To the program alone, as container engines do: what it does with its children is its affair.
                let _ = signals::send(main, self.stop_signal);
                let _ = signals::send(main, libc::SIGCONT);
            }
        };
        self.end_the_rest();
        describe(status)
    }

    fn start(&self) -> Result<Pid, Failure> {
        let login = user::find(Path::new("/etc"), &self.image.user)
            .map_err(|error| Failure::new(&log::chain(&error)))?;
        let environment = Environment::of_session(&self.image.environment, &login);
        let directory = Directory::of_image(&self.image, &login);
        let program = Program::new(process::image_command(&self.image), environment, directory)?;
        let mut command = program.command();
        command.stdin(Stdio::null());
        let identity = Identity::of(&login, &program.directory)?;
        open_console(&login);
        #[expect(
            unsafe_code,
            reason = "changing the user in the right order takes code between fork and exec"
        )]
        // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
        unsafe {
            command.pre_exec(move || {
                begin_session(false)?;
                signals::unblock_all();
                identity.assume()
            });
        }
        let child = command.spawn().map_err(|error| Failure::of_start(&program.path, &error))?;
        Ok(Pid::from_child(&child))
    }

    /// Kills what the program has left behind.
    fn end_the_rest(&mut self) {
        let end = Instant::now() + KILL_PATIENCE;
        // Children of those that are killed become ours: again, until there are none.
        while any_child_left() && Instant::now() < end {
            for child in children() {
                let _ = signals::send(child, libc::SIGKILL);
            }
            self.hear(Some(end));
        }
    }
}

/// Takes in all processes that have ended. Returns the status of `main` if it was among them.
fn reap(main: Pid) -> Option<ExitStatus> {
    let mut end = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == main {
            end = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }
    end
}

/// Takes in all processes that have ended, and returns whether some have not.
fn any_child_left() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Returns the children of this process, which has one thread (proc(5), `/proc/PID/task/TID/children`).
fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// Lets the program's group write to the console: images whose log is a link to `/dev/stdout` open it anew, by name. Not its
/// user: an owner could make it readable, and read what is typed to root's shell there.
fn open_console(login: &Login) {
    let console = rustix::stdio::stdout();
    let _ = rustix::fs::fchown(console, None, Some(Gid::from_raw(login.gid)));
    let _ = rustix::fs::fchmod(console, Mode::from_raw_mode(0o620));
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(number)) => match signal::name(number) {
            Some(name) => format!("was ended by SIG{name}"),
            None => format!("was ended by signal {number}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_status_or_signal() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "ended with status 3");
        assert_eq!(describe(ExitStatus::from_raw(libc::SIGSEGV)), "was ended by SIGSEGV");
        assert_eq!(describe(ExitStatus::from_raw(40)), "was ended by signal 40");
    }

    #[test]
    fn the_stop_signal_is_the_images_or_sigterm() {
        let of = |text: Option<&str>| {
            stop_signal(&ImageConfig { stop_signal: text.map(str::to_owned), ..ImageConfig::default() })
        };
        assert_eq!(of(None), libc::SIGTERM);
        assert_eq!(of(Some("")), libc::SIGTERM);
        assert_eq!(of(Some("SIGQUIT")), libc::SIGQUIT);
        assert_eq!(of(Some("nonsense")), libc::SIGTERM);
    }
}
