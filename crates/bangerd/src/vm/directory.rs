//! The VMs of this daemon, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_types::vm::Vm;
use banger_types::{ApiError, Refusal, VmId, VmName};

use super::handle::VmHandle;

enum Place {
    /// Taken by a create that has not come to the point where the VM exists.
    Reserved,
    /// A VM.
    Vm(VmHandle),
}

/// Names to VMs. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct VmDirectory(Arc<Mutex<BTreeMap<VmName, Place>>>);

/// A name that is taken until this is dropped or turned into a VM.
pub(crate) struct Reservation {
    directory: VmDirectory,
    name: VmName,
    /// It is a VM's: dropping this changes nothing any more.
    filled: bool,
}

impl VmDirectory {
    fn places(&self) -> MutexGuard<'_, BTreeMap<VmName, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name, before anything else is done for it.
    pub(crate) fn reserve(&self, name: &VmName) -> Result<Reservation, ApiError> {
        let mut places = self.places();
        if places.contains_key(name) {
            return Err(ApiError::refused(Refusal::NameTaken, format!("cannot call a VM '{name}'"))
                .because("the name is taken")
                .fix(format!("choose another name, or `banger vm rm {name}`")));
        }
        places.insert(name.clone(), Place::Reserved);
        Ok(Reservation { directory: self.clone(), name: name.clone(), filled: false })
    }

    /// Gives `name` to a VM.
    pub(crate) fn add(&self, name: VmName, handle: VmHandle) {
        self.places().insert(name, Place::Vm(handle));
    }

    /// Takes the VM of this id away, if the name is still its own.
    pub(super) fn remove(&self, name: &VmName, id: &VmId) {
        let mut places = self.places();
        if matches!(places.get(name), Some(Place::Vm(handle)) if handle.id() == id) {
            places.remove(name);
        }
    }

    /// Returns the VM of this name or id.
    pub(crate) fn find(&self, name: &str) -> Result<VmHandle, ApiError> {
        let places = self.places();
        places
            .iter()
            .filter_map(|(key, place)| match place {
                Place::Vm(handle) => Some((key, handle)),
                Place::Reserved => None,
            })
            .find(|(key, handle)| key.as_str() == name || handle.id().as_str() == name)
            .map(|(_, handle)| handle.clone())
            .ok_or_else(|| ApiError::not_found("VM", name))
    }

    /// Returns all VMs, by name.
    pub(crate) fn handles(&self) -> Vec<VmHandle> {
        let places = self.places();
        places
            .values()
            .filter_map(|place| match place {
                Place::Vm(handle) => Some(handle.clone()),
                Place::Reserved => None,
            })
            .collect()
    }

    /// Returns what is shown of every VM, by name.
    pub(crate) fn list(&self) -> Vec<Vm> {
        self.handles().iter().map(VmHandle::snapshot).collect()
    }
}

impl Reservation {
    /// Returns the name.
    pub(super) fn name(&self) -> &VmName {
        &self.name
    }

    /// The VM that is called `before` is called by this name from now on.
    pub(super) fn rename(mut self, before: &str) {
        let mut places = self.directory.places();
        let key = places.keys().find(|key| key.as_str() == before).cloned();
        if let Some(place) = key.and_then(|key| places.remove(&key)) {
            places.insert(self.name.clone(), place);
            self.filled = true;
        }
    }

    /// The name belongs to `handle` from now on.
    pub(super) fn fill(mut self, handle: VmHandle) {
        self.directory.add(self.name.clone(), handle);
        self.filled = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.filled {
            self.directory.places().remove(&self.name);
        }
    }
}
