//! Guests that are booted to answer one question, and are gone afterwards.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use banger_core::command::HostCommand;
use banger_core::work::{Cancelled, Work};
use banger_types::error::chain;
use banger_types::guest::{INSPECTION_PREFIX, Inspection, TRIMMED_PREFIX};
use banger_types::monitor::Program;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::commands::{pass_on, spawn};
use crate::process::Stat;

/// How often the VMM's use of the processor is looked at while it prints nothing.
const LOOK: Duration = Duration::from_millis(100);
/// Most of what a guest has printed that is kept, bytes: its last ones.
const KEPT: usize = 16 << 10;
/// An emulated guest is silent while it unpacks its initramfs, and its host may be busy.
const INSPECTION: Patience =
    Patience { work: Duration::from_mins(1), silence: Duration::from_mins(3), limit: Duration::from_mins(3) };

/// A guest is silent while it trims, and a large disk on a slow host's takes its time.
const TRIMMING: Patience = Patience {
    work: Duration::from_mins(15),
    silence: Duration::from_hours(1),
    limit: Duration::from_hours(1),
};

/// How long a guest is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// One that prints nothing while its VMM uses this much of a processor hangs.
    pub(crate) work: Duration,
    /// One that prints nothing for so long is given up, however busy the host is.
    pub(crate) silence: Duration,
    /// One that has not answered by then is given up, whatever it prints.
    pub(crate) limit: Duration,
}

/// How a guest has ended that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    /// What it did instead, as a clause without a subject: "hangs after '…'".
    pub(crate) what: String,
    /// Whether it hangs; otherwise it was busy, or has ended.
    pub(crate) hangs: bool,
    /// Whether its VMM ended before it printed anything.
    pub(crate) mute: bool,
}

/// Boots a guest that looks at its first drive (`banger_types::guest::INSPECT_PARAMETER`), and returns what it says, or
/// what it did instead, as a clause without a subject. Blocks for at most 3 minutes, and for no longer than `work` goes on.
/// `vmm` runs in `directory`, and is gone afterwards.
pub fn inspect(
    vmm: &Program,
    directory: &Path,
    work: &dyn Work,
) -> Result<Result<Inspection, String>, Cancelled> {
    let answer = ask(vmm, directory, INSPECTION, work, &inspection)?;
    Ok(answer.map_err(|no| if no.mute { format!("does not run: {}", no.what) } else { no.what }))
}

/// Boots a guest that gives the unused blocks of its first drive back (`banger_types::guest::TRIM_PARAMETER`). Returns how many
/// bytes they had, or what went wrong, as a clause without a subject. `vmm` runs in `directory`, and is gone afterwards.
pub fn trim(vmm: &Program, directory: &Path, work: &dyn Work) -> Result<Result<u64, String>, Cancelled> {
    let answer = ask(vmm, directory, TRIMMING, work, &trimmed)?;
    Ok(match answer {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(why)) => Err(format!("says: {why}")),
        Err(no) if no.mute => Err(format!("does not run: {}", no.what)),
        Err(no) => Err(no.what),
    })
}

fn trimmed(printed: &str) -> Option<Result<u64, String>> {
    whole_lines(printed).find_map(|line| serde_json::from_str(line.split_once(TRIMMED_PREFIX)?.1.trim()).ok())
}

/// Returns the lines that do not grow any more.
fn whole_lines(printed: &str) -> impl Iterator<Item = &str> {
    printed.split_inclusive('\n').filter(|line| line.ends_with('\n'))
}

fn inspection(printed: &str) -> Option<Inspection> {
    whole_lines(printed)
        .find_map(|line| serde_json::from_str(line.split_once(INSPECTION_PREFIX)?.1.trim()).ok())
}

/// Boots a guest until `answer` finds one in what it has printed. `vmm`'s standard output is the guest's console.
pub(crate) fn ask<T>(
    vmm: &Program,
    directory: &Path,
    patience: Patience,
    work: &dyn Work,
    answer: &dyn Fn(&str) -> Option<T>,
) -> Result<Result<T, NoAnswer>, Cancelled> {
    let command = HostCommand::new(vmm.path.to_string_lossy()).arguments(&vmm.arguments).directory(directory);
    let mute = |what| Ok(Err(NoAnswer { what, hangs: false, mute: true }));
    let (mut child, _guard) = match spawn(&command) {
        Ok(spawned) => spawned,
        Err(error) => return mute(format!("{} cannot be started: {}", vmm.name, chain(&error))),
    };
    let stderr = child.stderr.take();
    let (finding, said) = std::thread::scope(|scope| {
        // Read all the while: one that has much to say must not wait for a reader.
        let reader = stderr.map(|stderr| scope.spawn(|| pass_on(stderr, work)));
        let finding = watch(&mut child, patience, work, answer);
        // With everything that it has started, which may hold its standard error.
        kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
        (finding, reader.and_then(|reader| reader.join().ok()).unwrap_or_default())
    });
    child.wait().ok();
    match finding {
        Ok(Finding::Cancelled) => Err(Cancelled),
        Ok(Finding::Answered(answer)) => Ok(Ok(answer)),
        Ok(Finding::Hung { what, busy }) => Ok(Err(NoAnswer { what, hangs: !busy, mute: false })),
        Ok(Finding::Ended(printed)) if last_line(&printed).is_some() => {
            let what = format!("ends{}", after(&printed));
            Ok(Err(NoAnswer { what, hangs: false, mute: false }))
        }
        Ok(Finding::Ended(_)) => {
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            let last = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
            mute(format!("{} ends before its guest prints anything{last}", vmm.name))
        }
        Err(error) => mute(format!("{} cannot be watched: {error}", vmm.name)),
    }
}

enum Finding<T> {
    Answered(T),
    /// `busy`: it made progress, and time was up.
    Hung {
        what: String,
        busy: bool,
    },
    /// With what was printed last.
    Ended(Vec<u8>),
    Cancelled,
}

fn watch<T>(
    child: &mut Child,
    patience: Patience,
    work: &dyn Work,
    answer: &dyn Fn(&str) -> Option<T>,
) -> io::Result<Finding<T>> {
    let id = child.id();
    let mut stdout = child.stdout.take().ok_or_else(|| io::Error::other("it has no standard output"))?;
    let begin = Instant::now();
    let (mut printed, mut buffer) = (Vec::new(), [0; 4096]);
    let (mut used_before, mut printed_at) = (Duration::ZERO, begin);
    loop {
        let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
        let readable = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&look))? > 0;
        if work.check().is_err() {
            return Ok(Finding::Cancelled);
        }
        let used = Stat::of(format!("/proc/{id}"))?.processor_time();
        if readable {
            let length = stdout.read(&mut buffer)?;
            if length == 0 {
                return Ok(Finding::Ended(printed));
            }
            printed.extend_from_slice(&buffer[..length]);
            printed.drain(..printed.len().saturating_sub(KEPT));
            (used_before, printed_at) = (used, Instant::now());
            if let Some(answer) = answer(&String::from_utf8_lossy(&printed)) {
                return Ok(Finding::Answered(answer));
            }
        }
        let worked = used.saturating_sub(used_before);
        let is_late = printed_at.elapsed() >= patience.silence || begin.elapsed() >= patience.limit;
        if worked >= patience.work || is_late {
            let what = format!("hangs{}", after(&printed));
            return Ok(Finding::Hung { what, busy: worked < patience.work });
        }
    }
}

/// Says after what something happened to a guest.
fn after(printed: &[u8]) -> String {
    last_line(printed)
        .map_or_else(|| " before it prints anything".to_owned(), |line| format!(" after '{line}'"))
}

fn last_line(printed: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(printed);
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    let line: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use banger_core::work::Unwatched;
    use banger_types::guest::KernelFeature;

    use super::*;

    fn vmm(script: &str) -> Result<Inspection, String> {
        let vmm = Program {
            name: "fake".to_owned(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            descriptors: Vec::new(),
        };
        inspect(&vmm, Path::new("/"), &Unwatched).unwrap()
    }

    #[test]
    fn what_a_guest_found_is_read_from_its_console() {
        let line = r#"{"kernel_release":"6.1","features":["overlay"],"root":{"Err":"nothing"}}"#;
        let script =
            format!("echo '[ 0.1] booting'; printf 'x: {INSPECTION_PREFIX}%s\\r\\n' '{line}'; sleep 1000");
        let found = vmm(&script).unwrap();
        assert_eq!(found.features, [KernelFeature::Overlay]);
        assert_eq!(found.root, Err("nothing".to_owned()));
    }

    #[test]
    fn a_guest_that_does_not_answer_is_quoted() {
        assert_eq!(vmm("echo 'Kernel panic'"), Err("ends after 'Kernel panic'".to_owned()));
        assert_eq!(
            vmm("echo 'no such drive' >&2; exit 1"),
            Err("does not run: fake ends before its guest prints anything: no such drive".to_owned())
        );
        let cut = format!("printf 'x: {INSPECTION_PREFIX}%s' '{{\"kernel_release\":\"6'");
        assert!(vmm(&cut).unwrap_err().starts_with("ends after 'x: inspection: "));
    }
}
