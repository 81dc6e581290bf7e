//! Changes of what is wanted of a VM that exists: done by its task, between two requests.

use std::path::Path;

use banger_core::store::VmRecord;
use banger_core::vm::DenyReason;
use banger_host::MonitorConnection;
use banger_types::address::HostPort;
use banger_types::monitor::Forward;
use banger_types::vm::{VmSetRequest, VmState, check_label};
use banger_types::{ApiError, ErrorKind, Refusal};

use super::directory::Reservation;
use super::limits::{check_disk, check_forwards, check_memory, check_vcpus, check_vcpus_of, refuse};
use super::task::Task;
use super::{forwards, monitors};
use crate::failure::{denied, failed};
use crate::fault::FaultPoint;
use crate::layout::vm_file;

/// A change.
pub(crate) enum Edit {
    /// Other sizes, engine, policy or labels. `configured_vcpus` is what the configuration gives by itself.
    Set {
        /// What changes.
        wanted: Box<VmSetRequest>,
        /// The configuration's number of virtual CPUs.
        configured_vcpus: u32,
    },
    /// Another name, which is reserved.
    Rename(Reservation),
    /// One more forward.
    AddForward(Forward),
    /// One forward less.
    RemoveForward(HostPort),
}

/// What came of it.
pub(crate) enum Edited {
    /// It is done, and shown.
    Done,
    /// The forward, with the port that was taken.
    Forward(Forward),
}

impl Edit {
    /// Returns the verb, for errors.
    const fn verb(&self) -> &'static str {
        match self {
            Self::Set { .. } => "change",
            Self::Rename(_) => "rename",
            Self::AddForward(_) | Self::RemoveForward(_) => "change the forwards of",
        }
    }
}

impl Task {
    /// Does a change, if this is a time for it.
    pub(super) async fn take_edit(
        &mut self,
        edit: Edit,
        generation: Option<u64>,
    ) -> Result<Edited, ApiError> {
        let name = self.record.name.to_string();
        let now = self.record.published.generation;
        if let Some(seen) = generation.filter(|seen| *seen != now) {
            return Err(ApiError::refused(Refusal::Changed, format!("cannot {} '{name}'", edit.verb()))
                .because(format!("it has changed meanwhile: its generation was {seen} and is {now}"))
                .fix(format!("look at it again, as with `banger vm show {name}`")));
        }
        let forwards = matches!(edit, Edit::AddForward(_) | Edit::RemoveForward(_));
        let deleting = self.record.published.state == VmState::Deleting;
        // A start reads what is wanted once; forwards of a VM that has come up by then are the monitor's.
        let busy = self.queue.running().is_some() && !(forwards && self.attached);
        if deleting || busy {
            let reason = if deleting { DenyReason::Deleting } else { DenyReason::Busy };
            return Err(denied(edit.verb(), &name, reason));
        }
        match edit {
            Edit::Set { wanted, configured_vcpus } => {
                let changed = set(&self.record, &wanted, configured_vcpus)?;
                self.check_engine(&changed)?;
                let automatic = changed.spec.automatic_forwards;
                let switched = automatic != self.record.spec.automatic_forwards;
                self.resize(changed).await?;
                if switched && self.attached {
                    let told = forwards::set_automatic(&self.context, &self.record.id, automatic).await;
                    told.map_err(|error| {
                        failed(format!("cannot tell '{name}' whether to forward automatically"), &error)
                            .fix("it is remembered, and is so from the next start on")
                    })?;
                }
                FaultPoint::SetRemembered.reach();
            }
            Edit::Rename(reservation) => {
                let changed = VmRecord { name: reservation.name().clone(), ..self.record.clone() };
                self.replace(changed).await?;
                FaultPoint::RenameRemembered.reach();
                reservation.rename(&name);
            }
            Edit::AddForward(forward) => {
                return self.add_forward(forward).await.map(Edited::Forward);
            }
            Edit::RemoveForward(listen) => self.remove_forward(listen).await?,
        }
        Ok(Edited::Done)
    }

    /// Checks that the engine of a changed record gives what is in it.
    fn check_engine(&self, changed: &VmRecord) -> Result<(), ApiError> {
        let same =
            (changed.spec.engine, changed.spec.vcpus) == (self.record.spec.engine, self.record.spec.vcpus);
        if same {
            return Ok(());
        }
        let what = format!("change '{}'", self.record.name);
        check_vcpus_of(&what, changed.spec.vcpus, self.context.engine(changed).as_ref())
    }

    /// Puts a changed record in the place of the present one, once it is remembered.
    async fn replace(&mut self, mut changed: VmRecord) -> Result<(), ApiError> {
        changed.published.generation += 1;
        let row = changed.clone();
        let what = format!("change '{}'", self.record.name);
        self.context.store(&what, move |store| store.update_vm(&row)).await?;
        self.record = changed;
        self.publish();
        Ok(())
    }

    /// Replaces the record by one with other sizes. The disk is larger before anybody is told so; a daemon that ends in
    /// between is followed by one that takes the disk's word for it ([`disk_size`]).
    async fn resize(&mut self, changed: VmRecord) -> Result<(), ApiError> {
        let directory = self.context.layout.vm(&self.record.id);
        let what = format!("cannot give '{}' its disk", self.record.name);
        let error = |error| failed(what.as_str(), &error);
        if changed.spec.disk == self.record.spec.disk {
            return self.replace(changed).await;
        }
        let (before, after) = (disk_size(&directory).map_err(error)?, changed.spec.disk.bytes());
        if before < after {
            set_disk_size(&directory, after).map_err(error)?;
            FaultPoint::SetGrown.reach();
        }
        let remembered = self.replace(changed).await;
        if remembered.is_err()
            // No guest has seen the larger one.
            && let Err(error) = set_disk_size(&directory, before)
        {
            tracing::warn!(vm = %self.record.name, %error, "its disk is larger than is remembered");
        }
        remembered
    }

    async fn add_forward(&mut self, forward: Forward) -> Result<Forward, ApiError> {
        let name = self.record.name.to_string();
        if forward.listen.port() != 0
            && self.record.spec.forwards.iter().any(|it| it.listen == forward.listen)
        {
            return Err(forward_conflict(&name, format!("it has one on {} already", forward.listen)));
        }
        let mut forwards_then = self.record.spec.forwards.clone();
        forwards_then.push(forward.clone());
        check_forwards(&format!("add a forward to '{name}'"), &forwards_then)?;
        let forward = if self.attached {
            forwards::make_way(&self.context, &self.record.id, forward.listen).await;
            let mut monitor = self.monitor("add a forward to")?;
            let forward = monitor
                .add_forward(forward)
                .await
                .map_err(|error| forward_conflict(&name, error.to_string()))?;
            // The monitor tells of it as well, perhaps after whoever asked has looked.
            self.confirmed.added(forward.clone());
            if let Some(live) = &mut self.live
                && !live.forwards.contains(&forward)
            {
                live.forwards.push(forward.clone());
            }
            forward
        } else {
            forward
        };
        FaultPoint::ForwardMade.reach();
        let mut changed = self.record.clone();
        changed.spec.forwards.push(forward.clone());
        if let Err(error) = self.replace(changed).await {
            if self.attached {
                self.end_forward(forward.listen).await?;
            }
            return Err(error);
        }
        FaultPoint::ForwardRemembered.reach();
        Ok(forward)
    }

    async fn remove_forward(&mut self, listen: HostPort) -> Result<(), ApiError> {
        let mut changed = self.record.clone();
        changed.spec.forwards.retain(|forward| forward.listen != listen);
        // One that was given a free port is in force on another than the one that was asked for.
        let in_force =
            self.live.as_ref().and_then(|live| live.forwards.iter().find(|it| it.listen == listen)).cloned();
        if let Some(in_force) = &in_force
            && changed.spec.forwards.len() == self.record.spec.forwards.len()
            && let Some(index) = changed.spec.forwards.iter().position(|it| {
                let asked_for = HostPort { address: (listen.ip(), 0).into(), ..listen };
                it.listen == asked_for && it.guest_port == in_force.guest_port
            })
        {
            changed.spec.forwards.remove(index);
        }
        if in_force.is_none() && changed.spec.forwards.len() == self.record.spec.forwards.len() {
            let what = format!("'{}' has no forward on {listen}", self.record.name);
            let fix = format!("`banger vm forward ls {}`", self.record.name);
            return Err(ApiError::new(ErrorKind::NotFound, what).fix(fix));
        }
        let before = self.record.spec.clone();
        self.replace(changed).await?;
        FaultPoint::ForwardForgotten.reach();
        if in_force.is_some()
            && let Err(error) = self.end_forward(listen).await
        {
            self.replace(VmRecord { spec: before, ..self.record.clone() }).await?;
            return Err(error);
        }
        FaultPoint::ForwardEnded.reach();
        Ok(())
    }

    /// Ends a forward that is in force.
    async fn end_forward(&mut self, listen: HostPort) -> Result<(), ApiError> {
        let mut monitor = self.monitor("remove a forward of")?;
        monitor
            .remove_forward(listen)
            .await
            .map_err(|error| failed(format!("cannot remove a forward of '{}'", self.record.name), &error))?;
        self.confirmed.removed(listen);
        if let Some(live) = &mut self.live {
            live.forwards.retain(|forward| forward.listen != listen);
        }
        self.publish();
        Ok(())
    }

    fn monitor(&self, verb: &str) -> Result<MonitorConnection, ApiError> {
        monitors::open(&self.context, &self.record.id)
            .map_err(|error| failed(format!("cannot {verb} '{}'", self.record.name), &error))
    }
}

/// Returns the record with what a request sets, or why it may not be set.
fn set(record: &VmRecord, wanted: &VmSetRequest, configured_vcpus: u32) -> Result<VmRecord, ApiError> {
    let what = format!("change '{}'", record.name);
    let resized = wanted.vcpus.is_some() || wanted.memory.is_some() || wanted.disk.is_some();
    let rebuilt = resized || wanted.engine.is_some() || wanted.network.is_some();
    let state = record.published.state;
    if rebuilt && !matches!(state, VmState::Stopped | VmState::Failed) {
        return Err(denied("change", record.name.as_str(), DenyReason::InUse(state)).fix(format!(
            "its sizes, its network and its engine change while it is stopped: `banger vm stop {}`",
            record.name
        )));
    }
    let mut changed = record.clone();
    if let Some(vcpus) = wanted.vcpus {
        check_vcpus(&what, vcpus, configured_vcpus)?;
        changed.spec.vcpus = vcpus;
    }
    if let Some(memory) = wanted.memory {
        check_memory(&what, memory)?;
        changed.spec.memory = memory;
    }
    if let Some(disk) = wanted.disk {
        check_disk(&what, disk)?;
        if disk < record.spec.disk {
            let why = format!("its disk has {} and can only grow, not shrink to {disk}", record.spec.disk);
            let fix = "create another VM with a smaller disk, and copy what is needed with `banger vm cp`";
            return Err(refuse(&what, why).fix(fix));
        }
        changed.spec.disk = disk;
    }
    if let Some(engine) = wanted.engine {
        changed.spec.engine = engine;
    }
    if let Some(automatic_forwards) = wanted.automatic_forwards {
        changed.spec.automatic_forwards = automatic_forwards;
    }
    if let Some(network) = wanted.network {
        changed.spec.network = network;
    }
    if let Some(no_peers) = wanted.no_peers {
        changed.spec.no_peers = no_peers;
    }
    if let Some(allow_host) = wanted.allow_host {
        changed.spec.allow_host = allow_host;
    }
    if let Some(restart) = wanted.restart {
        changed.spec.restart = restart;
    }
    for (name, value) in &wanted.labels {
        check_label(name, value.as_deref().unwrap_or_default())
            .map_err(|error| refuse(&what, error.to_string()))?;
        match value {
            Some(value) => drop(changed.spec.labels.insert(name.clone(), value.clone())),
            None => drop(changed.spec.labels.remove(name)),
        }
    }
    Ok(changed)
}

/// Returns the size of a VM's private disk, bytes.
pub(crate) fn disk_size(directory: &Path) -> std::io::Result<u64> {
    Ok(fs_err::metadata(directory.join(vm_file::DISK))?.len())
}

/// Gives a private disk another size, bytes. The guest lets its file system follow at its next boot; only a size that no guest
/// has seen may be taken back.
fn set_disk_size(directory: &Path, size: u64) -> std::io::Result<()> {
    let disk = fs_err::OpenOptions::new().write(true).open(directory.join(vm_file::DISK))?;
    disk.set_len(size)?;
    disk.sync_all()
}

/// Returns the error of a forward that is there already, or is not.
fn forward_conflict(name: &str, why: String) -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("cannot change the forwards of '{name}'")).because(why)
}
