//! One start of the VM's programs, and the next one when the guest reboots.

use std::io;
use std::path::Path;
use std::time::Instant;

use banger_types::guest::ShutdownAction;
use banger_types::monitor::{EndReason, MonitorPhase, file};

use super::console::Farewell;
use super::{Monitor, now_ns};
use crate::guest::last_word::Listener;
use crate::host::launch::{LaunchError, launch};
use crate::host::log::BootLog;
use crate::host::vmm::Question;

/// What is known of the guest and its VMM since the programs were started.
#[derive(Debug, Default)]
pub(crate) struct Boot {
    pub(crate) listener: Listener,
    pub(crate) farewell: Option<Farewell>,
    /// The VMM is asked whether the guest stands still.
    pub(crate) question: Option<Question>,
    /// A client has asked the guest to power off.
    pub(crate) poweroff_asked: bool,
    /// Somebody asked for the VMM's death.
    pub(crate) killed: bool,
    /// The VMM was killed because the host could not wait any longer.
    pub(crate) killed_for_host: bool,
    /// How a helper ended before the VMM.
    pub(crate) helper_failure: Option<String>,
}

impl Boot {
    /// Returns when there is something to do for it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.farewell.as_ref().and_then(Farewell::deadline)
    }
}

/// Why a guest that reboots cannot be started again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("'{0}' does not end")]
    Alive(String),
    #[error("cannot set up its logs")]
    Logs(#[source] io::Error),
    #[error(transparent)]
    Programs(#[from] LaunchError),
    #[error("cannot watch its programs")]
    Loop(#[source] io::Error),
}

impl Monitor {
    /// Whether a VM that ended like this is to be started again by its monitor: its guest wants to, and nobody else
    /// wants something else.
    pub(crate) fn reboots(&self, reason: &EndReason) -> bool {
        let overruled = self.boot.killed || self.boot.poweroff_asked || self.host_shutdown;
        reason.announced == Some(ShutdownAction::Reboot) && !overruled
    }

    /// Starts the programs again. Clients, watchers and listeners stay; whatever belonged to the guest is gone.
    pub(crate) fn boot_again(&mut self) -> Result<(), BootError> {
        if let Some(alive) = self.programs.iter().find(|program| !program.has_ended()) {
            return Err(BootError::Alive(alive.name.clone()));
        }
        self.words.say("the guest reboots: its programs are started again");
        self.disconnected();
        self.channel.detach();
        let console = self.serial.renew().map_err(BootError::Logs)?;
        let errors = self.engine.renew().map_err(BootError::Logs)?;
        self.boot_log = BootLog::begin(Path::new(file::BOOT_LOG)).map_err(BootError::Logs)?;
        let started_at_ns = now_ns();
        let launched = launch(&self.spec, console, errors)?;
        self.programs = launched.programs;
        self.keyboard = launched.keyboard;
        self.boot = Boot::default();
        self.watch_programs(launched.channel).map_err(BootError::Loop)?;
        let vmm_pid = self.programs.vmm.id();
        self.board.update(|status| {
            status.vmm_pid = vmm_pid;
            status.started_at_ns = started_at_ns;
            status.phase = MonitorPhase::Booting;
            status.guest = None;
        });
        self.publish_now();
        Ok(())
    }
}
