//! Whether and when a VM that has ended is started again without anybody asking. No clock, no effects.

use std::time::Duration;

use banger_types::vm::{RestartPolicy, VmState};
use serde::{Deserialize, Serialize};

/// The first pause before a VM is started again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A VM that has run for this long has done well: what came before is forgotten.
const GOOD_RUN: Duration = Duration::from_mins(1);

/// What is to become of a VM in the end, as its owner wants it. Outlives the daemon and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It is to run: somebody has started it, and nobody has stopped it.
    Running,
    /// It is not.
    #[default]
    Stopped,
}

/// Returns what is wanted of a VM after it has ended in `state`, given what was wanted before.
///
/// A guest that powers itself off has done what it was there for, unless the policy says otherwise; the host's end
/// is not the guest's choice.
pub const fn wanted_after(
    policy: RestartPolicy,
    wanted: Wanted,
    state: VmState,
    host_shutdown: bool,
) -> Wanted {
    match (policy, state) {
        (RestartPolicy::No | RestartPolicy::OnFailure, VmState::Stopped) if !host_shutdown => Wanted::Stopped,
        _ => wanted,
    }
}

/// Returns whether a VM that does not run is to be started when the daemon begins.
pub fn starts_with_the_daemon(policy: RestartPolicy, wanted: Wanted) -> bool {
    wanted == Wanted::Running && policy != RestartPolicy::No
}

/// Counts what a VM's restarts come to, so that one that fails at once does not keep the host busy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// Returns how long to wait before a VM that has ended in `state` is started again; `None` when it is not.
    /// `ran_for` is how long it had run.
    pub fn after_end(
        &mut self,
        policy: RestartPolicy,
        wanted: Wanted,
        state: VmState,
        ran_for: Duration,
    ) -> Option<Duration> {
        let applies = match policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure => state == VmState::Failed,
            RestartPolicy::Always => matches!(state, VmState::Failed | VmState::Stopped),
        };
        if !applies || wanted == Wanted::Stopped {
            return None;
        }
        if ran_for >= GOOD_RUN {
            self.in_a_row = 0;
        }
        // Beyond this the pause is the longest anyway.
        let doublings = self.in_a_row.min(16);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(2);

    #[test]
    fn each_policy_has_its_ends() {
        let ask =
            |policy, state| Restarts::default().after_end(policy, Wanted::Running, state, SHORT).is_some();
        assert!(!ask(RestartPolicy::No, VmState::Failed));
        assert!(ask(RestartPolicy::OnFailure, VmState::Failed));
        assert!(!ask(RestartPolicy::OnFailure, VmState::Stopped));
        assert!(ask(RestartPolicy::Always, VmState::Failed));
        assert!(ask(RestartPolicy::Always, VmState::Stopped));
    }

    #[test]
    fn nothing_restarts_what_a_user_has_stopped() {
        for policy in [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always] {
            for state in [VmState::Stopped, VmState::Failed] {
                assert_eq!(Restarts::default().after_end(policy, Wanted::Stopped, state, SHORT), None);
            }
            assert!(!starts_with_the_daemon(policy, Wanted::Stopped));
        }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_a_good_run_makes_them_short_again() {
        let mut restarts = Restarts::default();
        let mut after =
            |ran_for| restarts.after_end(RestartPolicy::Always, Wanted::Running, VmState::Failed, ran_for);
        let pauses: Vec<u64> = (0..8).map(|_| after(SHORT).unwrap().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(GOOD_RUN), Some(FIRST_PAUSE));
    }

    #[test]
    fn a_guest_that_powers_off_is_done_unless_it_always_runs() {
        let after = |policy, host| wanted_after(policy, Wanted::Running, VmState::Stopped, host);
        assert_eq!(after(RestartPolicy::OnFailure, false), Wanted::Stopped);
        assert_eq!(after(RestartPolicy::Always, false), Wanted::Running);
        assert_eq!(
            after(RestartPolicy::OnFailure, true),
            Wanted::Running,
            "the host's end is not the guest's"
        );
        let failed = wanted_after(RestartPolicy::OnFailure, Wanted::Running, VmState::Failed, false);
        assert_eq!(failed, Wanted::Running);
    }
}
