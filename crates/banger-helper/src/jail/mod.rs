//! VMMs in jails: a user of its own for each, a root directory with nothing in it but what the VMM needs, and a control group whose
//! limits are the host's protection and whose end is the caller's to bring about.
//!
//! It is not Firecracker's own jailer that does this, for that has to be root's program, and users install their engine for themselves:
//! whatever program they bring is run as nobody they are.

mod files;
mod group;
mod run;

use banger_types::VmId;
use banger_types::helper::{JailTerms, VmJail};

use crate::error::Refusal;
use crate::state::{State, Vm};

pub(crate) use run::run;

/// The first number of the users that VMMs run as: of those that no distribution and no other program hands out (systemd's
/// `UIDS-GIDS`, "unused").
const FIRST_USER: u32 = 1_880_000_000;
/// How many there are.
const USERS: u32 = 1 << 16;

/// Returns the user that the VMM of a caller's VM runs as: the same as before, or one that no other VM has.
pub(crate) fn user_for(state: &State, caller: u32, vm: &VmId) -> Result<u32, Refusal> {
    let own = state.users.get(&caller).and_then(|user| user.vms.get(vm));
    if let Some(own) = own.and_then(|vm| vm.jail) {
        return Ok(own);
    }
    let vms = || state.users.values().flat_map(|user| user.vms.values());
    let is_free = |uid: &u32| !vms().any(|vm| vm.jail == Some(*uid));
    let free = (FIRST_USER..FIRST_USER + USERS).find(is_free);
    free.ok_or_else(|| Refusal::Missing("there is no user left that a VMM could run as".to_owned()))
}

/// What is said where there are no jails.
pub(crate) const IMPOSSIBLE: &str =
    "the host has no control groups of the second version, so the VMM runs as you and in no jail";

/// Whether this host can have jails.
pub(crate) fn is_possible() -> bool {
    group::root().is_some()
}

/// Makes what outlives a VMM's runs: its control group. Returns its jail, if it is to have one.
pub(crate) fn ensure(
    caller: u32,
    id: &VmId,
    vm: &Vm,
    terms: Option<JailTerms>,
) -> Result<Option<VmJail>, Refusal> {
    let (Some(uid), Some(terms)) = (vm.jail, terms) else {
        remove(caller, id)?;
        return Ok(None);
    };
    let control_group = group::ensure(caller, id, terms)?;
    Ok(Some(VmJail { uid, control_group }))
}

/// Ends whatever is in a VM's jail, and takes it away, if it is there.
pub(crate) fn remove(caller: u32, id: &VmId) -> Result<(), Refusal> {
    group::remove(caller, id)
}

#[cfg(test)]
mod tests {
    use crate::state::User;

    use super::*;

    #[test]
    fn a_vmm_is_nobody_else_and_stays_who_it_is() {
        let mut state = State::default();
        let id = VmId::from_random;
        assert_eq!(user_for(&state, 1001, &id(1)).unwrap(), FIRST_USER);
        let vm = |jail| Vm {
            device: 1,
            address: std::net::Ipv4Addr::new(10, 0, 0, 2),
            allow_host: false,
            reaches_others: true,
            name: String::new(),
            jail,
        };
        let user = |vms| User {
            label: String::new(),
            block: "10.0.0.0/24".parse().unwrap(),
            v6: None,
            names: None,
            names_port: banger_names::NAME_PORT,
            told: [].into(),
            vms,
        };
        state.users.insert(1001, user([(id(1), vm(Some(FIRST_USER)))].into()));
        state.users.insert(1002, user([(id(2), vm(Some(FIRST_USER + 1))), (id(3), vm(None))].into()));
        assert_eq!(user_for(&state, 1002, &id(2)).unwrap(), FIRST_USER + 1);
        assert_eq!(user_for(&state, 1002, &id(3)).unwrap(), FIRST_USER + 2);
        assert_eq!(user_for(&state, 1002, &id(1)).unwrap(), FIRST_USER + 2, "another's of the same id");
    }
}
