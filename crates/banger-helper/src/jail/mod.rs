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

/// Returns the user that a VM's VMM runs as: the same as before, or one that no other VM has.
pub(crate) fn user_for(state: &State, vm: &VmId) -> Result<u32, Refusal> {
    let vms = || state.users.values().flat_map(|user| &user.vms);
    if let Some(own) = vms().find(|(id, _)| *id == vm).and_then(|(_, vm)| vm.jail) {
        return Ok(own);
    }
    let is_free = |uid: &u32| !vms().any(|(_, vm)| vm.jail == Some(*uid));
    let free = (FIRST_USER..FIRST_USER + USERS).find(is_free);
    free.ok_or_else(|| Refusal::Missing("there is no user left that a VMM could run as".to_owned()))
}

/// Makes what outlives a VMM's runs: its control group. Returns its jail, if it is to have one.
pub(crate) fn ensure(
    caller: u32,
    id: &VmId,
    vm: &Vm,
    terms: Option<JailTerms>,
) -> Result<Option<VmJail>, Refusal> {
    let (Some(uid), Some(terms)) = (vm.jail, terms) else {
        remove(id)?;
        return Ok(None);
    };
    let control_group = group::ensure(caller, id, terms)?;
    Ok(Some(VmJail { uid, control_group }))
}

/// Ends whatever is in a VM's jail, and takes it away, if it is there.
pub(crate) fn remove(id: &VmId) -> Result<(), Refusal> {
    group::remove(id)
}

#[cfg(test)]
mod tests {
    use crate::state::User;

    use super::*;

    #[test]
    fn a_vmm_is_nobody_else_and_stays_who_it_is() {
        let mut state = State::default();
        let id = VmId::from_random;
        assert_eq!(user_for(&state, &id(1)).unwrap(), FIRST_USER);
        let vm = |jail| Vm {
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
            told: [].into(),
            vms,
        };
        state.users.insert(1001, user([(id(1), vm(Some(FIRST_USER)))].into()));
        state.users.insert(1002, user([(id(2), vm(Some(FIRST_USER + 1))), (id(3), vm(None))].into()));
        assert_eq!(user_for(&state, &id(2)).unwrap(), FIRST_USER + 1);
        assert_eq!(user_for(&state, &id(3)).unwrap(), FIRST_USER + 2);
    }
}
