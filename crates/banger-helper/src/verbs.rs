//! What is done for each verb. What is meant to be is written down before it is made, and what was is taken away before it is
//! forgotten: so that whoever is killed in between is followed by one that does the rest.
//! Names are the exception: they go last, so that a file that cannot be changed keeps nothing else, and the next request puts right
//! what was left of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use banger_names::NAME_PORT;
use banger_types::VmId;
use banger_types::helper::{HelperAnswer, HelperVerb, VmPlace, VmTerms};

use crate::allocation;
use crate::caller::Caller;
use crate::error::Refusal;
use crate::foreign::{self, Firewalls};
use crate::state::{State, StateFile, User, Vm};
use crate::tool::IP;
use crate::{connections, device, firewall, hosts, jail, names, network, pool, sysctl};

/// Does what a caller asks.
pub(crate) fn answer(caller: &Caller, verb: HelperVerb) -> Result<HelperAnswer, Refusal> {
    if verb == HelperVerb::Hello {
        return Ok(HelperAnswer::Hello { version: env!("CARGO_PKG_VERSION").to_owned() });
    }
    crate::caller::leave_control_group();
    let file = StateFile::open(caller.uid)?;
    let state = file.load()?;
    // What is in the way of that is in nobody's way else: the next request tries again.
    let warnings = foreign::lasting::take_back(&state).err().map(|error| {
        let why = banger_types::error::chain(&error);
        format!("another firewall still has what it was told before the host was restarted: {why}")
    });
    let mut work = Work { caller, file, state, warnings: warnings.into_iter().collect() };
    match verb {
        HelperVerb::Hello => unreachable!("answered above"),
        HelperVerb::VmAdd(terms) => work.add(&terms),
        HelperVerb::VmsRemove(vms) => work.remove(&vms),
        HelperVerb::NetworkRestore => work.restore(),
    }
}

/// A request that is being done.
struct Work<'a> {
    caller: &'a Caller,
    file: StateFile,
    state: State,
    /// What the user is to know, so far.
    warnings: Vec<String>,
}

impl Work<'_> {
    fn add(&mut self, terms: &VmTerms) -> Result<HelperAnswer, Refusal> {
        let (uid, label) = (self.caller.uid, &self.caller.label);
        let jail_terms = terms.jail.filter(|_| jail::is_possible());
        let name = hosts::name_for(&self.state, uid, label, &terms.vm, terms.name.as_str());
        let mut user = match self.state.users.get(&uid) {
            Some(user) => user.clone(),
            None => self.new_network(terms)?,
        };
        let (address, device) = match user.vms.get(&terms.vm) {
            Some(vm) => (vm.address, vm.device),
            None => (free_address(&user)?, self.state.free_device()),
        };
        let vm = Vm {
            device,
            address,
            allow_host: terms.allow_host,
            reaches_others: terms.reaches_others,
            name: name.clone(),
            jail: jail_terms.map(|_| jail::user_for(&self.state, uid, &terms.vm)).transpose()?,
        };
        user.vms.insert(terms.vm.clone(), vm.clone());
        let user = self.put_in_force(user, &[&vm])?;
        let jail = jail::ensure(uid, &terms.vm, &vm, jail_terms)?;
        if terms.jail.is_some() && jail.is_none() {
            self.warnings.push(jail::IMPOSSIBLE.to_owned());
        }
        hosts::apply(&self.state)?;
        let (network, device) = (network::describe(uid, &user), device::describe(&user, &vm));
        let warnings = std::mem::take(&mut self.warnings);
        Ok(HelperAnswer::Place(VmPlace { network, device, name, jail, warnings }))
    }

    /// Puts the caller's network in force again, with all of its devices.
    fn restore(&mut self) -> Result<HelperAnswer, Refusal> {
        let uid = self.caller.uid;
        let Some(user) = self.state.users.get(&uid).cloned() else { return Ok(HelperAnswer::Done) };
        let vms: Vec<Vm> = user.vms.values().cloned().collect();
        let user = self.put_in_force(user, &vms.iter().collect::<Vec<_>>())?;
        hosts::apply(&self.state)?;
        let warnings = std::mem::take(&mut self.warnings);
        Ok(HelperAnswer::Network { network: network::describe(uid, &user), warnings })
    }

    /// Puts a network of the caller's in force as it is meant to be, with the devices of these of its VMs. Returns it as it is then.
    fn put_in_force(&mut self, mut user: User, vms: &[&Vm]) -> Result<User, Refusal> {
        let uid = self.caller.uid;
        let firewalls = Firewalls::look()?;
        user.told.extend(firewalls.found());
        self.state.users.insert(uid, user.clone());
        // What the settings were is written down before they are changed.
        let State { settings, bridges, .. } = &mut self.state;
        let changes = sysctl::to_forward(settings, bridges, user.v6.is_some())?;
        self.file.save(&self.state)?;
        // The rules first: nothing passes that they do not know of.
        firewall::apply(uid, &user)?;
        firewall::apply_host(&self.state)?;
        changes.make()?;
        network::ensure(uid, &user)?;
        vms.iter().try_for_each(|vm| device::ensure(uid, vm))?;
        let port = user.names_port;
        self.ensure_names(&mut user)?;
        if user.names_port != port {
            firewall::apply(uid, &user)?;
        }
        self.warnings.extend(firewalls.admit(uid, &user)?);
        Ok(user)
    }

    /// Makes sure that a network has its name server. Without one it is a network all the same, and that is said.
    fn ensure_names(&mut self, user: &mut User) -> Result<(), Refusal> {
        let uid = self.caller.uid;
        // It outlives this request, and must not keep others out.
        match self.file.without_heirs(|| names::ensure(uid, user))? {
            Ok(None) => {}
            Ok(Some(waiting)) => {
                self.state.users.insert(uid, user.clone());
                self.file.save(&self.state)?;
                waiting.begin();
            }
            Err(error) => {
                let gateway = allocation::gateway(user.block);
                let why = banger_types::error::chain(&error);
                self.warnings
                    .push(format!("VMs find no names, for nobody can listen for them on {gateway}: {why}"));
            }
        }
        Ok(())
    }

    fn new_network(&self, terms: &VmTerms) -> Result<User, Refusal> {
        let pool = pool::read()?;
        let mut taken = allocation::routed(&IP.run(&["-4", "route", "show", "table", "all"], "")?);
        taken.extend(self.state.users.values().map(|user| user.block));
        let block = allocation::network(pool, &taken).ok_or_else(|| {
            let why = format!("there is no network left in {pool} that no route of this host leads to");
            Refusal::Missing(format!("{why}; root may name another block in {}", pool::FILE))
        })?;
        let v6 = if terms.v6 && sysctl::has_v6() { Some(drawn_prefix()?) } else { None };
        let (label, names_port) = (self.caller.label.clone(), NAME_PORT);
        Ok(User { label, block, v6, names: None, names_port, told: [].into(), vms: [].into() })
    }

    /// Takes the places of these VMs of the caller's away, as far as there are some.
    fn remove(&mut self, vms: &BTreeSet<VmId>) -> Result<HelperAnswer, Refusal> {
        let uid = self.caller.uid;
        let mut without = self.state.clone();
        if let Some(user) = without.users.get_mut(&uid) {
            let mut addresses = BTreeSet::new();
            for (id, vm) in user.vms.iter().filter(|(id, _)| vms.contains(id)) {
                jail::remove(uid, id)?;
                device::remove(vm)?;
                addresses.insert(IpAddr::from(vm.address));
                addresses.extend(device::address_v6(user, vm).map(IpAddr::from));
            }
            connections::forget(&addresses);
            user.vms.retain(|vm, _| !vms.contains(vm));
            if user.vms.is_empty() {
                names::end(user)?;
                network::remove(uid)?;
                firewall::remove(uid)?;
                foreign::dismiss(uid, user)?;
                without.users.remove(&uid);
            } else {
                firewall::apply(uid, user)?;
            }
        }
        if without.users.is_empty() {
            sysctl::restore(&mut without.settings, &mut without.bridges)?;
            firewall::remove_host()?;
        }
        self.state = without;
        if self.state == State::default() {
            self.file.remove()?;
        } else {
            self.file.save(&self.state)?;
        }
        // Last: a file of names that cannot be changed keeps nothing else.
        hosts::apply(&self.state)?;
        Ok(HelperAnswer::Done)
    }
}

/// Returns an address that none of a user's VMs has.
fn free_address(user: &User) -> Result<std::net::Ipv4Addr, Refusal> {
    let taken = |address| user.vms.values().any(|vm| vm.address == address);
    let full = || Refusal::Missing(format!("all addresses of {} are taken", user.block));
    allocation::address(user.block, taken).ok_or_else(full)
}

/// Draws a prefix for a local network (RFC 4193 section 3.2): 40 random bits, and the first of its subnets.
fn drawn_prefix() -> Result<std::net::Ipv6Addr, Refusal> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes[1..6], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Refusal::file("cannot read", "/dev/urandom")(error.into()))?;
    bytes[0] = 0xfd;
    Ok(bytes.into())
}
