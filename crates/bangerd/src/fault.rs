//! Places at which a test lets the daemon die as by `kill -9`, to see that the next one repairs what is left.
//!
//! `BANGER_FAULT_POINT=NAME` names one; `bangerd --fault-points` lists them. `BANGER_FAULT_POINT=phase:NAME` is the beginning of a
//! phase of any operation, by its name. Builds for release have none.

/// What the daemon has just done when it gets there, by the operation that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultPoint {
    /// A cancel: it is remembered, and the work has not heard of it.
    CancelRemembered,
    /// `vm create`: the steps are in the journal, the row is there.
    CreateReserved,
    /// `vm create`: the directory is made under its temporary name.
    CreateStaged,
    /// `vm create`: the directory has its name.
    CreatePublished,
    /// `vm create`: the VM is complete, the journal settled.
    CreateSettled,
    /// A start: the VM has a place in a network, and nobody remembers it.
    StartPlaced,
    /// A start: everything that the monitor reads is written.
    StartPrepared,
    /// A start: the VM is shown as starting, and no monitor is launched.
    StartAnnounced,
    /// A start: the monitor is launched, and nobody watches it.
    StartLaunched,
    /// A start: the forwards are made.
    StartForwarded,
    /// A start: the guest boots.
    StartAttached,
    /// A stop: the guest is asked.
    StopAsked,
    /// A stop: the VM is shown as stopping.
    StopAnnounced,
    /// A kill: the VM is shown as stopping, and the VMM runs.
    KillAnnounced,
    /// A pause: the virtual CPUs stand still, and the VM is shown as running.
    PauseDone,
    /// A resume: they go on, and the VM is shown as paused.
    ResumeDone,
    /// A deletion: it is remembered.
    DeleteAnnounced,
    /// A deletion: the files are gone.
    DeleteFilesGone,
    /// A deletion: the row is gone.
    DeleteForgotten,
    /// A change: the disk is larger, and its old size is remembered.
    SetGrown,
    /// A change: it is remembered.
    SetRemembered,
    /// A rename: it is remembered.
    RenameRemembered,
    /// A new forward: it is in force if the VM runs, and nobody remembers it.
    ForwardMade,
    /// A new forward: it is remembered.
    ForwardRemembered,
    /// A forward that goes: it is forgotten, and in force.
    ForwardForgotten,
    /// A forward that goes: it is gone.
    ForwardEnded,
    /// An image's or kernel's pull: the step is in the journal.
    PullJournaled,
    /// An image's pull from a registry: a layer has come, and nothing is made of it.
    LayerCame,
    /// The pull of an image or kernel: its directory has its name.
    PullPublished,
    /// The pull of an image or kernel: it is remembered, the journal settled.
    PullSettled,
    /// A kernel of the user's own is made anew: its bundle is, and the row is of the files before.
    KernelExchanged,
    /// A registration: everything was looked at, and a kernel's directory has its name.
    RegisterChecked,
    /// A registration: it is remembered, the journal settled.
    RegisterSettled,
    /// A deletion of an image or a kernel: it is forgotten, and its files are there.
    ArtifactForgotten,
    /// A prune: one of the things is gone.
    PruneTook,
}

#[cfg(debug_assertions)]
pub(crate) use active::reach_phase;

#[cfg(debug_assertions)]
mod active {
    use std::sync::OnceLock;

    use banger_types::location::variable;

    use super::FaultPoint;

    impl FaultPoint {
        /// All points.
        pub(crate) const ALL: [Self; 35] = [
            Self::CancelRemembered,
            Self::CreateReserved,
            Self::CreateStaged,
            Self::CreatePublished,
            Self::CreateSettled,
            Self::StartPlaced,
            Self::StartPrepared,
            Self::StartAnnounced,
            Self::StartLaunched,
            Self::StartForwarded,
            Self::StartAttached,
            Self::StopAsked,
            Self::StopAnnounced,
            Self::KillAnnounced,
            Self::PauseDone,
            Self::ResumeDone,
            Self::DeleteAnnounced,
            Self::DeleteFilesGone,
            Self::DeleteForgotten,
            Self::SetGrown,
            Self::SetRemembered,
            Self::RenameRemembered,
            Self::ForwardMade,
            Self::ForwardRemembered,
            Self::ForwardForgotten,
            Self::ForwardEnded,
            Self::PullJournaled,
            Self::LayerCame,
            Self::PullPublished,
            Self::PullSettled,
            Self::KernelExchanged,
            Self::RegisterChecked,
            Self::RegisterSettled,
            Self::ArtifactForgotten,
            Self::PruneTook,
        ];

        /// Ends the process, at once and without any tidying, if this point was chosen.
        pub(crate) fn reach(self) {
            reach(&format!("{self:?}"));
        }
    }

    /// Does so where an operation comes to a phase, if that was chosen as `phase:NAME`.
    pub(crate) fn reach_phase(name: &str) {
        reach(&format!("phase:{name}"));
    }

    fn reach(point: &str) {
        static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var(variable::FAULT_POINT).ok());
        if chosen.as_deref() == Some(point) {
            tracing::warn!(point, "ending at a fault point");
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
            // The signal is on its way; nothing more is done before it arrives.
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
impl FaultPoint {
    /// No point in a build for users.
    pub(crate) const ALL: [Self; 0] = [];

    /// Does nothing.
    #[expect(clippy::unused_self, reason = "the other build looks at it")]
    pub(crate) const fn reach(self) {}
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn reach_phase(_: &str) {}
