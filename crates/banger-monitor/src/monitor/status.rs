//! The published state, and its file.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use banger_types::monitor::{MonitorPhase, MonitorStatus, file};
use fs_err::File;

/// The file is not replaced more often than this. A guest chooses when its phase changes, and each
/// replacement costs the host's disk a sync.
const SPACING: Duration = Duration::from_millis(50);

/// The state, and what of it is on disk.
#[derive(Debug)]
pub(crate) struct Board {
    status: MonitorStatus,
    written_phase: Option<MonitorPhase>,
    written_at: Option<Instant>,
    generation: u64,
}

impl Board {
    /// Returns a board that is not on disk yet.
    pub(crate) fn new(status: MonitorStatus) -> Self {
        Self { status, written_phase: None, written_at: None, generation: 0 }
    }

    /// Returns the state.
    pub(crate) fn status(&self) -> &MonitorStatus {
        &self.status
    }

    /// Changes the state.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut MonitorStatus)) {
        let before = self.status.clone();
        change(&mut self.status);
        if before != self.status {
            self.generation += 1;
        }
    }

    /// Returns a number that is another one after each change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns when the file has to be replaced, if it has to.
    pub(crate) fn write_due(&self) -> Option<Instant> {
        (self.written_phase.as_ref() != Some(&self.status.phase))
            .then(|| self.written_at.map_or_else(Instant::now, |at| at + SPACING))
    }

    /// Replaces the file, whether it is due or not.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        // An attempt that fails is not repeated before the next change.
        self.written_phase = Some(self.status.phase.clone());
        self.written_at = Some(Instant::now());
        let temporary = format!("{}.new", file::STATUS);
        let mut new = File::create(&temporary)?;
        new.write_all(&serde_json::to_vec(&self.status)?)?;
        new.sync_all()?;
        fs_err::rename(temporary, file::STATUS)
    }
}
