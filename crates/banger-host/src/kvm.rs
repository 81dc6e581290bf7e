//! Whether KVM works: asked of the device first, and then of a kernel that is booted by it.

use std::io;
use std::path::Path;
use std::time::Duration;

use banger_core::kvm::Verdict;
use banger_core::work::{Cancelled, Work};
use banger_types::guest::PROBE_WORDS;
use banger_types::location::variable;
use banger_types::monitor::Program;

use crate::probe::{NoAnswer, Patience, ask};

/// The device.
const DEVICE: &str = "/dev/kvm";
/// On a host that is a guest of an emulator, on a slow machine, one took more than 3 s of the processor's time to its first
/// line, and was still printing after 15 s.
const PATIENCE: Patience = Patience {
    work: Duration::from_secs(6),
    silence: Duration::from_secs(15),
    limit: Duration::from_mins(1),
};

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

/// Boots a guest that does nothing but print [`PROBE_WORDS`], and says whether it came to that. Blocks for 15 s at most
/// while it prints nothing, for a minute if it prints something else, and for no longer than `work` goes on. `vmm`'s
/// standard output is the guest's console; it runs in `directory`, and is gone afterwards.
pub fn probe_kvm(vmm: &Program, directory: &Path, work: &dyn Work) -> Result<Verdict, Cancelled> {
    judge(vmm, directory, PATIENCE, work)
}

fn judge(vmm: &Program, directory: &Path, patience: Patience, work: &dyn Work) -> Result<Verdict, Cancelled> {
    let answer = ask(vmm, directory, patience, work, &|printed| printed.contains(PROBE_WORDS).then_some(()))?;
    Ok(match answer {
        Ok(()) => Verdict::works(),
        Err(NoAnswer { what, mute: true, .. }) => Verdict::unusable(what),
        Err(NoAnswer { what, hangs, .. }) => {
            let verdict = Verdict::unusable(format!("KVM does not work here: a Linux kernel {what}"));
            if hangs { verdict.for_good() } else { verdict }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use banger_core::work::Unwatched;

    use super::*;

    fn probe(script: &str) -> Verdict {
        probe_with(PATIENCE, script)
    }

    fn probe_with(patience: Patience, script: &str) -> Verdict {
        let vmm = Program {
            name: "fake".to_owned(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            descriptors: Vec::new(),
        };
        judge(&vmm, Path::new("/"), patience, &Unwatched).unwrap()
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
        let patience =
            Patience { silence: Duration::from_secs(2), limit: Duration::from_secs(4), ..PATIENCE };
        let begin = Instant::now();
        let verdict = probe_with(patience, "while sleep 0.2; do echo more; done");
        assert!(begin.elapsed() >= patience.limit, "it was given up early");
        assert_eq!(verdict.reason, "KVM does not work here: a Linux kernel hangs after 'more'");
        assert!(!verdict.lasts, "the host may be busy");
    }

    #[test]
    fn a_guest_that_says_nothing_more_is_given_up() {
        let patience = Patience { silence: Duration::from_secs(1), ..PATIENCE };
        let begin = Instant::now();
        let verdict = probe_with(patience, "echo more; exec sleep 1000");
        assert!(begin.elapsed() < patience.limit, "it was waited for as if it made progress");
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
