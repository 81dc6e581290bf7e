//! The VMs of this daemon, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_types::vm::Vm;
use banger_types::{ApiError, ErrorKind, VmName};

use super::task::VmHandle;

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
    name: Option<VmName>,
}

impl VmDirectory {
    fn places(&self) -> MutexGuard<'_, BTreeMap<VmName, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name, before anything else is done for it.
    pub(crate) fn reserve(&self, name: &VmName) -> Result<Reservation, ApiError> {
        let mut places = self.places();
        if places.contains_key(name) {
            return Err(ApiError::new(ErrorKind::Conflict, format!("cannot create '{name}'"))
                .because("the name is taken")
                .fix(format!("choose another name, or `banger vm rm {name}`")));
        }
        places.insert(name.clone(), Place::Reserved);
        Ok(Reservation { directory: self.clone(), name: Some(name.clone()) })
    }

    /// Gives `name` to a VM.
    pub(crate) fn add(&self, name: VmName, handle: VmHandle) {
        self.places().insert(name, Place::Vm(handle));
    }

    pub(super) fn remove(&self, name: &VmName) {
        self.places().remove(name);
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

    /// Returns what is shown of every VM, by name.
    pub(crate) fn list(&self) -> Vec<Vm> {
        let places = self.places();
        places
            .values()
            .filter_map(|place| match place {
                Place::Vm(handle) => Some(handle.snapshot()),
                Place::Reserved => None,
            })
            .collect()
    }
}

impl Reservation {
    /// The name belongs to `handle` from now on.
    pub(super) fn fill(mut self, handle: VmHandle) {
        if let Some(name) = self.name.take() {
            self.directory.add(name, handle);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.directory.remove(name);
        }
    }
}
