//! Whether KVM works: asked of the device first, and then of a kernel that is booted by it.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use banger_core::command::HostCommand;
use banger_core::kvm::Verdict;
use banger_core::work::{Cancelled, Work};
use banger_types::error::chain;
use banger_types::guest::PROBE_WORDS;
use banger_types::location::variable;
use banger_types::monitor::Program;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::commands::{pass_on, spawn};
use crate::process::Stat;

/// The device.
const DEVICE: &str = "/dev/kvm";
/// A guest that prints nothing while its VMM uses this much of a processor hangs.
const SILENCE: Duration = Duration::from_secs(3);
/// However slow the host is, a guest that has not printed its word by then is of no use.
const LIMIT: Duration = Duration::from_secs(15);
/// How often the VMM's use of the processor is looked at while it prints nothing.
const LOOK: Duration = Duration::from_millis(100);
/// Most of what a guest has printed that is kept, bytes: its last ones.
const KEPT: usize = 8 << 10;

/// Returns why the device cannot be used, or nothing if it can be opened.
pub fn kvm_device() -> Option<Verdict> {
    if std::env::var_os(variable::NO_KVM).is_some_and(|value| !value.is_empty()) {
        return Some(Verdict::unusable(format!("it is switched off by {}", variable::NO_KVM)));
    }
    let error = fs_err::OpenOptions::new().read(true).write(true).open(DEVICE).err()?;
    Some(match error.kind() {
        io::ErrorKind::NotFound => Verdict::unusable(format!("{DEVICE} is not there")).fix(
            "load its module: `sudo modprobe kvm_amd` or `sudo modprobe kvm_intel`; if that fails, switch \
             virtualisation on in the firmware, or nested virtualisation in the host that this machine is a guest of",
        ),
        io::ErrorKind::PermissionDenied => Verdict::unusable(format!("you may not open {DEVICE}"))
            .fix("`sudo usermod -aG kvm $USER`, log in anew, then `banger daemon restart`"),
        _ => Verdict::unusable(format!("{DEVICE} cannot be opened: {error}")),
    })
}

/// Boots a guest that does nothing but print [`PROBE_WORDS`], and says whether it came to that. Blocks for at most
/// 15 s, and for no longer than `work` goes on. `vmm`'s standard output is the guest's console; it runs in `directory`,
/// and is gone afterwards.
pub fn probe_kvm(vmm: &Program, directory: &Path, work: &dyn Work) -> Result<Verdict, Cancelled> {
    let command = HostCommand::new(vmm.path.to_string_lossy()).arguments(&vmm.arguments).directory(directory);
    let (mut child, _guard) = match spawn(&command) {
        Ok(spawned) => spawned,
        Err(error) => {
            let why = chain(&error);
            return Ok(Verdict::unusable(format!("{} cannot be started: {why}", vmm.name)));
        }
    };
    let stderr = child.stderr.take();
    let (finding, said) = std::thread::scope(|scope| {
        // Read all the while: one that has much to say must not wait for a reader.
        let reader = stderr.map(|stderr| scope.spawn(|| pass_on(stderr, work)));
        let finding = watch(&mut child, work);
        // With everything that it has started, which may hold its standard error.
        kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
        (finding, reader.and_then(|reader| reader.join().ok()).unwrap_or_default())
    });
    child.wait().ok();
    Ok(match finding {
        Ok(Finding::Cancelled) => return Err(Cancelled),
        Ok(Finding::Printed) => Verdict::works(),
        Ok(Finding::Hung { word, busy }) => {
            let verdict = Verdict::unusable(format!("KVM does not work here: a Linux kernel {word}"));
            if busy { verdict } else { verdict.for_good() }
        }
        Ok(Finding::Ended) => {
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            let last = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
            Verdict::unusable(format!("{} ends before its guest prints anything{last}", vmm.name))
        }
        Err(error) => Verdict::unusable(format!("{} cannot be watched: {error}", vmm.name)),
    })
}

enum Finding {
    Printed,
    /// After this, as a clause. `busy`: it made progress, and time was up.
    Hung {
        word: String,
        busy: bool,
    },
    Ended,
    Cancelled,
}

fn watch(child: &mut Child, work: &dyn Work) -> io::Result<Finding> {
    let id = child.id();
    let mut stdout = child.stdout.take().ok_or_else(|| io::Error::other("it has no standard output"))?;
    let begin = Instant::now();
    let (mut printed, mut buffer) = (Vec::new(), [0; 4096]);
    let mut used_before = Duration::ZERO;
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
                return Ok(Finding::Ended);
            }
            printed.extend_from_slice(&buffer[..length]);
            printed.drain(..printed.len().saturating_sub(KEPT));
            used_before = used;
            if String::from_utf8_lossy(&printed).contains(PROBE_WORDS) {
                return Ok(Finding::Printed);
            }
        }
        let silent = used.saturating_sub(used_before);
        if silent >= SILENCE || begin.elapsed() >= LIMIT {
            return Ok(Finding::Hung { word: silence(&printed), busy: silent < SILENCE });
        }
    }
}

/// What is to be said of a guest that does not come to its word.
fn silence(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.map_or_else(
        || "hangs before it prints anything".to_owned(),
        |line| {
            let line: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
            format!("hangs after '{}'", line.trim())
        },
    )
}

#[cfg(test)]
mod tests {
    use banger_core::work::Unwatched;

    use super::*;

    fn probe(script: &str) -> Verdict {
        let vmm = Program {
            name: "fake".to_owned(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            descriptors: Vec::new(),
        };
        probe_kvm(&vmm, Path::new("/"), &Unwatched).unwrap()
    }

    #[test]
    fn a_guest_that_prints_its_word_works() {
        assert_eq!(probe(&format!("echo booting; echo '{PROBE_WORDS}'; exec sleep 1000")), Verdict::works());
    }

    #[test]
    fn a_guest_that_spins_without_a_word_hangs() {
        let verdict = probe("echo; echo '[ 0.0] Linux version 6'; while :; do :; done");
        assert!(!verdict.usable);
        assert_eq!(
            verdict.reason,
            "KVM does not work here: a Linux kernel hangs after '[ 0.0] Linux version 6'"
        );
        assert!(verdict.lasts);
        assert!(probe("while :; do :; done").reason.ends_with("hangs before it prints anything"));
    }

    #[test]
    fn a_guest_that_makes_progress_for_ever_is_given_up() {
        let begin = Instant::now();
        let verdict = probe("while sleep 0.2; do echo more; done");
        assert!(begin.elapsed() >= LIMIT, "it was given up early");
        assert_eq!(verdict.reason, "KVM does not work here: a Linux kernel hangs after 'more'");
        assert!(!verdict.lasts, "the host may be busy");
    }

    #[test]
    fn what_a_vmm_has_started_and_said_does_not_keep_anybody() {
        // A script that does not become its VMM, which says more than a pipe holds.
        let script = format!("head -c 200000 /dev/zero >&2; echo '{PROBE_WORDS}'; sleep 1000; true");
        assert_eq!(probe(&script), Verdict::works());
    }

    #[test]
    fn a_vmm_that_ends_is_quoted() {
        let verdict = probe("echo 'failed to open it' >&2; exit 1");
        assert_eq!(verdict.reason, "fake ends before its guest prints anything: failed to open it");
        assert!(!verdict.lasts, "it may have been a moment without memory");
    }
}
