//! VMs' places in networks of their own addresses, which the root helper gives and takes away.
//!
//! A place is given before a VM's VMM is started and taken away when that has ended. Both are slow and asked for by different
//! threads: so the helper is asked for one at a time, and what is to be taken away is known by a number, which another start of the
//! same VM changes. What cannot be taken away now is taken away with the next, though its VM is gone by then, or by the next daemon.
//!
//! A network has a name server, which is a process of this user's: its end is an event, at which all of the network is put in force again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use banger_core::engine::JailPlan;
use banger_core::helper::{HelperError, RootHelper};
use banger_core::process::ProcessIdentity;
use banger_core::store::VmRecord;
use banger_types::VmId;
use banger_types::error::chain;
use banger_types::helper::{HelperAnswer, HelperReadiness, HelperVerb, VmPlace, VmTerms};
use banger_types::vm::{NetworkMode, VmAddresses};

use super::files::replace_private;
use crate::layout::Layout;

/// How long a network is left as it is after its name server has ended, but for the first time: one that cannot live is not started again
/// and again for nothing.
const RESTORE_PAUSE: Duration = Duration::from_secs(10);

/// The places that VMs have.
pub(crate) struct Places {
    helper: Arc<dyn RootHelper>,
    layout: Layout,
    /// Held while the helper is asked for something.
    turn: Mutex<()>,
    held: Mutex<BTreeMap<VmId, Held>>,
    next: AtomicU64,
    /// Set once the helper could be asked; what it says when it no longer can is heard where it is asked.
    was_ready: AtomicBool,
    jails: OnceLock<bool>,
    /// VMs that are gone, and whose places are not.
    left: Mutex<BTreeSet<VmId>>,
    name_server: Mutex<NameServer>,
}

/// The name server of the network, as far as its end is waited for.
#[derive(Debug, Default)]
struct NameServer {
    watched: Option<ProcessIdentity>,
    /// When the network was put in force again last.
    restored_at: Option<tokio::time::Instant>,
}

/// A place that a VM has, or is about to.
#[derive(Debug, Clone)]
struct Held {
    number: u64,
    addresses: Option<VmAddresses>,
}

impl Places {
    pub(crate) fn new(helper: Arc<dyn RootHelper>, layout: Layout) -> Self {
        let left = read_left(&layout.left_places());
        Self {
            helper,
            layout,
            left: Mutex::new(left),
            name_server: Mutex::default(),
            turn: Mutex::default(),
            held: Mutex::default(),
            next: AtomicU64::default(),
            was_ready: AtomicBool::default(),
            jails: OnceLock::new(),
        }
    }

    /// Returns whether places can be given, now. Blocks for some milliseconds.
    pub(crate) fn readiness(&self) -> HelperReadiness {
        let readiness = self.helper.readiness();
        self.was_ready.store(readiness == HelperReadiness::Ready, Ordering::Relaxed);
        readiness
    }

    /// The same, as it was last found out if they could. Blocks for some milliseconds else.
    pub(super) fn last_readiness(&self) -> HelperReadiness {
        if self.was_ready.load(Ordering::Relaxed) { HelperReadiness::Ready } else { self.readiness() }
    }

    /// Gives a VM its place. Blocks.
    pub(super) fn give(self: &Arc<Self>, terms: VmTerms) -> Result<VmPlace, HelperError> {
        let _turn = lock(&self.turn);
        let vm = terms.vm.clone();
        let number = self.hold(&vm, None);
        let mut left = lock(&self.left).clone();
        left.remove(&vm);
        self.leave(left);
        let answer = self.helper.ask(HelperVerb::VmAdd(terms));
        self.was_ready.store(!matches!(answer, Err(HelperError::NotReady(_))), Ordering::Relaxed);
        match answer? {
            HelperAnswer::Place(place) => {
                let addresses = Some(addresses(&place));
                lock(&self.held).insert(vm, Held { number, addresses });
                self.watch(place.network.name_server);
                Ok(place)
            }
            _ => Err(HelperError::Another),
        }
    }

    /// Returns the jail of a VM's place, if it has one.
    pub(super) fn jail(&self, vm: &VmId, place: &VmPlace) -> Option<JailPlan> {
        let jail = place.jail.as_ref()?;
        Some(JailPlan { runner: self.helper.runner(vm), control_group: jail.control_group.clone() })
    }

    /// Whether VMMs can run in jails here, as far as that was tried: the file system of their files has to take part.
    pub(super) fn jails(&self) -> &OnceLock<bool> {
        &self.jails
    }

    /// Takes note of a VM that was found running, in a place that an earlier daemon had it given.
    pub(super) fn adopt(&self, record: &VmRecord, directory: &Path) {
        if record.spec.network == NetworkMode::Nat {
            self.hold(&record.id, remembered(directory));
        }
    }

    fn hold(&self, vm: &VmId, addresses: Option<VmAddresses>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.held).insert(vm.clone(), Held { number, addresses });
        number
    }

    /// Returns the addresses that a VM has.
    pub(super) fn addresses(&self, vm: &VmId) -> Option<VmAddresses> {
        lock(&self.held).get(vm).and_then(|held| held.addresses.clone())
    }

    /// Takes a VM's place away, unless it is given another meanwhile. That is done by and by.
    pub(super) fn take_away(self: &Arc<Self>, vm: &VmId) {
        let Some(number) = lock(&self.held).get(vm).map(|held| held.number) else { return };
        let (places, vm) = (Arc::clone(self), vm.clone());
        tokio::task::spawn_blocking(move || places.take_away_now(&vm, Some(number)));
    }

    /// Takes the place away that a VM has or may have, if it has this number still, if one is named. Blocks.
    pub(super) fn take_away_now(&self, vm: &VmId, number: Option<u64>) {
        let _turn = lock(&self.turn);
        let held = lock(&self.held).get(vm).map(|held| held.number);
        let is_meant = match number {
            Some(_) => held == number,
            None => held.is_some() || self.note(vm).exists(),
        };
        if is_meant {
            self.remove(&[vm.clone()].into());
        }
    }

    /// Puts the network in force again, if a VM has a place in it. Blocks.
    pub(crate) fn restore(self: &Arc<Self>) {
        let _turn = lock(&self.turn);
        if lock(&self.held).is_empty() {
            return;
        }
        lock(&self.name_server).restored_at = Some(tokio::time::Instant::now());
        match self.helper.ask(HelperVerb::NetworkRestore) {
            Ok(HelperAnswer::Network { network, warnings }) => {
                for warning in warnings {
                    tracing::warn!(warning, "the network of VMs");
                }
                self.watch(network.name_server);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "the network of VMs is not put in force again");
            }
        }
    }

    /// Waits for the end of the network's name server, if that is not waited for already. Called in the runtime.
    fn watch(self: &Arc<Self>, server: Option<u32>) {
        let Some(identity) = server.and_then(banger_host::identity_of) else { return };
        if lock(&self.name_server).watched.replace(identity) == Some(identity) {
            return;
        }
        let places = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Err(error) = ended(identity).await {
                tracing::warn!(%error, "nobody is told when the network's name server ends");
                return;
            }
            let Some(places) = places.upgrade() else { return };
            let restored_at = lock(&places.name_server).restored_at;
            if let Some(restored_at) = restored_at {
                tokio::time::sleep_until(restored_at + RESTORE_PAUSE).await;
            }
            tokio::task::spawn_blocking(move || places.restore());
        });
    }

    /// Takes the places away that VMs which do not run, or are gone, were left with. Blocks.
    pub(crate) fn sweep(&self, at_rest: impl IntoIterator<Item = VmId>) {
        let _turn = lock(&self.turn);
        let is_left = |vm: &VmId| !lock(&self.held).contains_key(vm) && self.note(vm).exists();
        let left: BTreeSet<VmId> = at_rest.into_iter().filter(is_left).collect();
        if !left.is_empty() || !lock(&self.left).is_empty() {
            self.remove(&left);
        }
    }

    /// Returns the file that is there for as long as a VM may have a place: before it is asked for, and until it is taken away for sure.
    pub(super) fn note(&self, vm: &VmId) -> PathBuf {
        self.layout.vm(vm).join(PLACE)
    }

    /// Takes these places away, and those that could not be taken away before.
    fn remove(&self, vms: &BTreeSet<VmId>) {
        let vms: BTreeSet<VmId> = vms.union(&lock(&self.left)).cloned().collect();
        match self.helper.ask(HelperVerb::VmsRemove(vms.clone())) {
            Ok(_) => {
                self.leave([].into());
                lock(&self.held).retain(|vm, _| !vms.contains(vm));
                for note in vms.iter().map(|vm| self.note(vm)) {
                    // Without it there is nothing left to be done; one that stays is found at the next start.
                    let _ = fs_err::remove_file(note);
                }
            }
            // They stay what they are, and so does the note of them, though a VM may go with its own.
            Err(error) => {
                tracing::warn!(?vms, error = chain(&error), "their places in the network stay");
                self.leave(vms);
            }
        }
    }

    /// Notes whose places are to be taken away beside others.
    fn leave(&self, vms: BTreeSet<VmId>) {
        let mut left = lock(&self.left);
        if *left == vms {
            return;
        }
        let path = self.layout.left_places();
        let written = if vms.is_empty() {
            fs_err::remove_file(path)
        } else {
            serde_json::to_vec(&vms).map_err(Into::into).and_then(|text| replace_private(&path, &text))
        };
        if let Err(error) = written {
            tracing::warn!(?vms, %error, "only this daemon knows of the places that they left");
        }
        *left = vms;
    }
}

/// Waits until a process has ended.
async fn ended(process: ProcessIdentity) -> std::io::Result<()> {
    match banger_host::ProcessWatch::new(process)? {
        Some(watch) => watch.ended().await,
        None => Ok(()),
    }
}

fn read_left(path: &Path) -> BTreeSet<VmId> {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return BTreeSet::new(),
        Err(error) => {
            tracing::warn!(%error, "places that VMs have left are not known");
            return BTreeSet::new();
        }
    };
    // What a power cut has left of it says nothing, and what it spoke of did not outlive that.
    serde_json::from_slice(&text).unwrap_or_default()
}

fn addresses(place: &VmPlace) -> VmAddresses {
    VmAddresses { name: place.name.clone(), v4: place.device.address, v6: place.device.address_v6 }
}

/// The file of a VM's directory in which its place is remembered, as JSON, for a daemon that comes after this one.
const PLACE: &str = "place.json";

fn remembered(directory: &Path) -> Option<VmAddresses> {
    let text = fs_err::read(directory.join(PLACE)).ok()?;
    Some(addresses(&serde_json::from_slice(&text).ok()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
