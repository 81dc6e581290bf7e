//! What is known of KVM on this host, and which engine follows from it.

use banger_types::vm::{Accelerator, EngineKind};
use serde::{Deserialize, Serialize};

/// Whether a VMM can run guests by KVM here.
///
/// A device that opens proves nothing, nor does a guest made by hand: a software KVM, made for kernels of its own, runs
/// those, and no other kernel ever prints a line in it. So the verdict is that of a real kernel under the very VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// It can.
    pub usable: bool,
    /// What was found, as a clause: "a kernel boots", "/dev/kvm is not there".
    pub reason: String,
    /// What can be done about it.
    pub fix: Option<String>,
    /// Whether it holds until the host is started anew. Anything that may pass (no memory, a busy host, a program that does not
    /// start) is found out anew each time.
    pub lasts: bool,
}

impl Verdict {
    /// It can.
    pub fn works() -> Self {
        Self { usable: true, reason: "a Linux kernel boots by it".to_owned(), fix: None, lasts: true }
    }

    /// It cannot, because of this.
    pub fn unusable(reason: impl Into<String>) -> Self {
        Self { usable: false, reason: reason.into(), fix: None, lasts: false }
    }

    /// It cannot, and that will not change.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self { lasts: true, ..self }
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Why an engine is of no use for a VM, as a clause, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Why.
    pub reason: String,
    /// What can be done about it.
    pub fix: Option<String>,
}

impl From<Verdict> for Obstacle {
    fn from(verdict: Verdict) -> Self {
        Self { reason: verdict.reason, fix: verdict.fix }
    }
}

/// Returns all ways to run a VM, the best first: each engine with KVM, then those that emulate. `engines` are in order of
/// preference, each with whether it emulates.
pub fn ways(engines: &[(EngineKind, bool)]) -> Vec<(EngineKind, Accelerator)> {
    let hardware = engines.iter().map(|(engine, _)| (*engine, Accelerator::Kvm));
    let emulation = engines.iter().filter(|(_, emulates)| *emulates);
    hardware.chain(emulation.map(|(engine, _)| (*engine, Accelerator::Tcg))).collect()
}

/// What runs a VM, by what, and why not by something better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The engine.
    pub engine: EngineKind,
    /// What isolates the guest.
    pub accelerator: Accelerator,
    /// What stands in the way of each better one, which all take KVM, best first.
    pub instead_of: Vec<(EngineKind, Obstacle)>,
}

impl Choice {
    /// Returns the choice as a clause for people: "qemu, by emulation (firecracker with KVM: …; qemu with KVM: …)".
    pub fn describe(&self) -> String {
        let by = match self.accelerator {
            Accelerator::Kvm => "by hardware (KVM)",
            Accelerator::Tcg => "by emulation",
        };
        let obstacles = self.instead_of.iter();
        let obstacles: Vec<String> =
            obstacles.map(|(engine, obstacle)| format!("{engine} with KVM: {}", obstacle.reason)).collect();
        let obstacles =
            if obstacles.is_empty() { String::new() } else { format!(" ({})", obstacles.join("; ")) };
        format!("{}, {by}{obstacles}", self.engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_comes_first_whatever_runs_it() {
        let engines = [(EngineKind::Firecracker, false), (EngineKind::Qemu, true)];
        assert_eq!(
            ways(&engines),
            [
                (EngineKind::Firecracker, Accelerator::Kvm),
                (EngineKind::Qemu, Accelerator::Kvm),
                (EngineKind::Qemu, Accelerator::Tcg)
            ]
        );
    }

    #[test]
    fn a_choice_says_what_is_in_the_way_of_better_ones() {
        let best =
            Choice { engine: EngineKind::Firecracker, accelerator: Accelerator::Kvm, instead_of: Vec::new() };
        assert_eq!(best.describe(), "firecracker, by hardware (KVM)");
        let obstacle = |reason: &str| Obstacle { reason: reason.to_owned(), fix: None };
        let last = Choice {
            engine: EngineKind::Qemu,
            accelerator: Accelerator::Tcg,
            instead_of: vec![
                (EngineKind::Firecracker, obstacle("it is not installed")),
                (EngineKind::Qemu, obstacle("/dev/kvm is not there")),
            ],
        };
        assert_eq!(
            last.describe(),
            "qemu, by emulation (firecracker with KVM: it is not installed; qemu with KVM: /dev/kvm is not there)"
        );
    }
}
