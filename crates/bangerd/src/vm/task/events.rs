//! What jobs, monitors and VMMs tell a VM's task.

use banger_core::engine::VmmStatus;
use banger_core::vm::{ForwardChanges, Observation};
use banger_host::{StatusStream, read_last_status};
use banger_types::guest::ShutdownAction;
use banger_types::monitor::{MonitorPhase, MonitorStatus};
use banger_types::vm::VmState;
use tokio::sync::oneshot;

use super::Task;
use crate::vm::{forwards, monitors, watches};

/// What jobs and readers tell the task.
pub(in crate::vm) enum Event {
    /// Something was seen; answered when it is remembered.
    Observed(Observation, oneshot::Sender<()>),
    /// A monitor was found or launched.
    Attached(StatusStream),
    /// A monitor said something. The number tells which attachment it came through.
    Status(u64, MonitorStatus),
    /// A monitor's connection ended.
    Detached(u64),
    /// The VMM said what isolates its guest, and whether that runs.
    Inspected(u64, VmmStatus),
    /// Nobody listens to the VMM of this process id any more.
    Unheard(u32),
    /// The VMM said that the host has no room for what its guest has written.
    OutOfSpace(u64),
    /// The process whose end is the VM's has ended.
    OwnerEnded,
    /// A monitor that was mute has gone, or never was there.
    NeverAnswered,
}

impl Task {
    pub(super) async fn take_event(&mut self, event: Event) {
        match event {
            Event::Observed(observation, remembered) => {
                self.observe(&observation).await;
                remembered.send(()).ok();
            }
            Event::Attached(stream) => self.attach(stream),
            Event::Status(attachment, status) if attachment == self.attachment => {
                self.take_status(status).await;
            }
            Event::Detached(attachment) if attachment == self.attachment => self.detached().await,
            Event::Inspected(attachment, status) if attachment == self.attachment => {
                self.take_inspection(status).await;
            }
            Event::OutOfSpace(attachment) if attachment == self.attachment => {
                self.observe(&Observation::OutOfSpace).await;
            }
            Event::Unheard(pid) if self.heard == Some(pid) => self.heard = None,
            // Through a connection that is not the present one.
            Event::Status(..)
            | Event::Detached(_)
            | Event::Inspected(..)
            | Event::OutOfSpace(_)
            | Event::Unheard(_) => {}
            Event::OwnerEnded => self.remove_self("its owner has ended").await,
            Event::NeverAnswered => {
                let directory = self.context.layout.vm(&self.record.id);
                self.observe(&monitors::last_word(&directory)).await;
            }
        }
    }

    async fn take_status(&mut self, mut status: MonitorStatus) {
        self.confirmed.complete(&mut status.forwards);
        let phase = status.phase.clone();
        let ended = matches!(phase, MonitorPhase::Ended(_));
        self.attached = !ended;
        // Not sooner: a VMM that was only just started has no socket to be asked on.
        if phase == MonitorPhase::Ready && self.heard != Some(status.vmm_pid) {
            self.heard = Some(status.vmm_pid);
            watches::vmm(&self.context, &self.record, self.attachment, status.vmm_pid, &self.events);
        }
        // A guest that reboots by force says nothing before it, and its monitor may have had no time to.
        if self.live.as_ref().is_some_and(|live| live.vmm_pid != status.vmm_pid) {
            let reboot = MonitorPhase::Stopping(ShutdownAction::Reboot);
            self.observe(&Observation::Monitor(reboot)).await;
        }
        if !ended {
            if std::mem::take(&mut self.adopting) {
                let changes = ForwardChanges::between(&self.record.spec.forwards, &status.forwards);
                let automatic = self.record.spec.automatic_forwards;
                forwards::adopt(&self.context, &self.record.id, changes, automatic);
            }
            self.live = Some(status);
        }
        self.observe(&Observation::Monitor(phase)).await;
    }

    async fn take_inspection(&mut self, status: VmmStatus) {
        self.inspected = self.live.as_ref().map(|live| (live.vmm_pid, status));
        self.publish();
        // A daemon before this one may have ended between a pause and its note of it. Whoever pauses now notes it
        // by itself.
        let quiet = self.running.is_none();
        match (status.running, self.record.published.state) {
            (false, _) if status.out_of_space => self.observe(&Observation::OutOfSpace).await,
            (false, VmState::Running) if quiet => self.observe(&Observation::Paused).await,
            (true, VmState::Paused) if quiet => self.observe(&Observation::Resumed).await,
            _ => {}
        }
    }

    /// The monitor's connection ended: with its last word, or without.
    async fn detached(&mut self) {
        if std::mem::take(&mut self.attached) {
            let directory = self.context.layout.vm(&self.record.id);
            let observation = match read_last_status(&directory).map(|status| status.phase) {
                Some(phase @ MonitorPhase::Ended(_)) => Observation::Monitor(phase),
                _ => Observation::MonitorLost,
            };
            self.observe(&observation).await;
        }
        self.live = None;
        self.publish();
    }
}
