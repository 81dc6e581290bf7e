//! What is done for each verb. What is meant to be is written down before it is made, and what was is taken away before it is
//! forgotten: so that whoever is killed in between is followed by one that does the rest.
//! Names are the exception: they go last, so that a file that cannot be changed keeps nothing else, and the next request puts right
//! what was left of them.

use banger_types::VmId;
use banger_types::helper::{DeviceTerms, HelperAnswer, HelperVerb, NetworkTerms, VmNaming};

use crate::allocation;
use crate::caller::Caller;
use crate::error::Refusal;
use crate::state::{State, StateFile, User, Vm};
use crate::tool::IP;
use crate::{device, firewall, hosts, network, pool, sysctl};

/// Does what a caller asks.
pub(crate) fn answer(caller: &Caller, verb: HelperVerb) -> Result<HelperAnswer, Refusal> {
    if verb == HelperVerb::Hello {
        return Ok(HelperAnswer::Hello { version: env!("CARGO_PKG_VERSION").to_owned() });
    }
    let file = StateFile::open(caller.uid)?;
    let state = file.load()?;
    let mut work = Work { caller, file, state };
    match verb {
        HelperVerb::Hello => unreachable!("answered above"),
        HelperVerb::NetworkAdd(terms) => work.add_network(&terms),
        HelperVerb::NetworkRemove => work.remove_network(),
        HelperVerb::DeviceAdd(terms) => work.add_device(&terms),
        HelperVerb::DeviceRemove(vm) => work.remove_device(&vm),
        HelperVerb::NameAdd(naming) => work.add_name(&naming),
        HelperVerb::NameRemove(vm) => work.remove_name(&vm),
    }
}

/// A request that is being done.
struct Work<'a> {
    caller: &'a Caller,
    file: StateFile,
    state: State,
}

impl Work<'_> {
    fn add_network(&mut self, terms: &NetworkTerms) -> Result<HelperAnswer, Refusal> {
        let uid = self.caller.uid;
        if !self.state.users.contains_key(&uid) {
            let user = self.new_network(terms)?;
            self.state.users.insert(uid, user);
            self.file.save(&self.state)?;
        }
        let user = self.user()?.clone();
        let changes = sysctl::to_forward(&mut self.state.settings, user.v6.is_some())?;
        // What they were is written down before they are changed.
        self.file.save(&self.state)?;
        changes.make()?;
        // Names of an earlier boot of the host lead nowhere, or to somebody else.
        hosts::apply(&self.state)?;
        firewall::apply(uid, &user)?;
        network::ensure(uid, &user)?;
        Ok(HelperAnswer::Network(network::describe(uid, &user)))
    }

    fn new_network(&self, terms: &NetworkTerms) -> Result<User, Refusal> {
        let pool = pool::read()?;
        let mut taken = allocation::routed(&IP.run(&["-4", "route", "show", "table", "all"], "")?);
        taken.extend(self.state.users.values().map(|user| user.block));
        let block = allocation::network(pool, &taken).ok_or_else(|| {
            let why = format!("there is no network left in {pool} that no route of this host leads to");
            Refusal::Missing(format!("{why}; root may name another block in {}", pool::FILE))
        })?;
        let v6 = if terms.v6 && sysctl::has_v6() { Some(drawn_prefix()?) } else { None };
        Ok(User { label: self.caller.label.clone(), block, v6, vms: [].into() })
    }

    fn remove_network(&mut self) -> Result<HelperAnswer, Refusal> {
        let uid = self.caller.uid;
        let Some(user) = self.state.users.get(&uid) else { return Ok(HelperAnswer::Done) };
        for vm in user.vms.keys() {
            device::remove(vm)?;
        }
        network::remove(uid)?;
        firewall::remove(uid)?;
        let mut without = self.state.clone();
        without.users.remove(&uid);
        if without.users.is_empty() {
            sysctl::restore(&mut without.settings)?;
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

    fn add_device(&mut self, terms: &DeviceTerms) -> Result<HelperAnswer, Refusal> {
        self.must_not_be_anothers(&terms.vm)?;
        let uid = self.caller.uid;
        let user = self.user()?;
        let address = match user.vms.get(&terms.vm) {
            Some(vm) => vm.address,
            None => {
                allocation::address(user.block, |address| user.vms.values().any(|vm| vm.address == address))
                    .ok_or_else(|| Refusal::Missing(format!("all addresses of {} are taken", user.block)))?
            }
        };
        let name = user.vms.get(&terms.vm).and_then(|vm| vm.name.clone());
        let vm = Vm { address, allow_host: terms.allow_host, reaches_others: terms.reaches_others, name };
        if let Some(user) = self.state.users.get_mut(&uid) {
            user.vms.insert(terms.vm.clone(), vm.clone());
        }
        self.file.save(&self.state)?;
        let user = self.user()?;
        // The rules first: nothing passes that they do not know of.
        firewall::apply(uid, user)?;
        device::ensure(uid, &terms.vm)?;
        Ok(HelperAnswer::Device(device::describe(user, &terms.vm, &vm)))
    }

    fn remove_device(&mut self, vm: &VmId) -> Result<HelperAnswer, Refusal> {
        self.must_not_be_anothers(vm)?;
        let uid = self.caller.uid;
        let mut without = self.state.clone();
        let Some(user) = without.users.get_mut(&uid) else { return Ok(HelperAnswer::Done) };
        if user.vms.remove(vm).is_none() {
            return Ok(HelperAnswer::Done);
        }
        device::remove(vm)?;
        firewall::apply(uid, user)?;
        self.state = without;
        self.file.save(&self.state)?;
        hosts::apply(&self.state)?;
        Ok(HelperAnswer::Done)
    }

    fn add_name(&mut self, naming: &VmNaming) -> Result<HelperAnswer, Refusal> {
        self.must_not_be_anothers(&naming.vm)?;
        let name = hosts::name_for(&self.state, self.caller.uid, &self.caller.label, naming.name.as_str());
        self.rename(&naming.vm, Some(name.clone()))?;
        Ok(HelperAnswer::Name(name))
    }

    fn remove_name(&mut self, vm: &VmId) -> Result<HelperAnswer, Refusal> {
        self.must_not_be_anothers(vm)?;
        if self.state.users.get(&self.caller.uid).is_some_and(|user| user.vms.contains_key(vm)) {
            self.rename(vm, None)?;
        }
        Ok(HelperAnswer::Done)
    }

    fn rename(&mut self, vm: &VmId, name: Option<String>) -> Result<(), Refusal> {
        let uid = self.caller.uid;
        let found = self.state.users.get_mut(&uid).and_then(|user| user.vms.get_mut(vm));
        let found = found.ok_or_else(|| Refusal::Missing(format!("VM {vm} has no device")))?;
        found.name = name;
        self.file.save(&self.state)?;
        hosts::apply(&self.state)
    }

    fn user(&self) -> Result<&User, Refusal> {
        let missing = || Refusal::Missing(format!("user {} has no network", self.caller.uid));
        self.state.users.get(&self.caller.uid).ok_or_else(missing)
    }

    fn must_not_be_anothers(&self, vm: &VmId) -> Result<(), Refusal> {
        match self.state.owner_of(vm) {
            Some(owner) if owner != self.caller.uid => {
                Err(Refusal::NotPermitted(format!("VM {vm} is another user's")))
            }
            _ => Ok(()),
        }
    }
}

/// Draws a prefix for a local network (RFC 4193 section 3.2): 40 random bits, and the first of its subnets.
fn drawn_prefix() -> Result<std::net::Ipv6Addr, Refusal> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes[1..6], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Refusal::file("cannot read", "/dev/urandom")(error.into()))?;
    bytes[0] = 0xfd;
    Ok(bytes.into())
}
