//! How long a network takes to be there.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use banger_testkit::programs;
use banger_types::VmId;

use super::{place, user};
use crate::banger::time;
use crate::report::{Comparison, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

/// Sets networks up, by mode and in turns.
pub(super) fn measure(user: &user::Programs, rounds: &Rounds) -> Result<Comparison> {
    let [one, other] = [1, 2].map(VmId::from_random);
    place::warm_up(&one)?;
    let [mut first, mut second, mut last, mut sudo, mut passt, mut tap, mut nothing] =
        [(); 7].map(|()| Samples::times());
    let mut others_end = Samples::times();
    for _ in 0..rounds.set_up {
        sudo.push(place::ask_for_nothing()?);
        first.push(place::give(&one)?);
        second.push(place::give(&other)?);
        others_end.push(place::take_away(&other)?);
        last.push(place::take_away(&one)?);
        nothing.push(time(&mut Command::new("/bin/true"))?.whole);
        passt.push(user.time()?);
        tap.push(check_tap()?);
    }
    let through_sudo = |what: &str, samples| Row::of(what, samples).against("`sudo -n true`", &sudo);
    let as_process = |what: &str, samples| Row::of(what, samples).against("`true`", &nothing);
    Ok(Comparison {
        title: "Network set-up of a VM".to_owned(),
        method: "What is done before its VMM starts, and after it has ended, without the VM. `nat`: one request to the root \
                 helper through sudo, as the daemon asks for a VM of Firecracker's, whose jail's control group is part of it; \
                 the first request after the host's boot, for which the kernel loads its modules, is left out. `user`: passt \
                 and the filter, from their start until a guest that asks for its gateway's hardware address has the answer; \
                 and `banger-tap --check`, which makes a TAP device in namespaces of its own. `none`: nothing."
            .to_owned(),
        rows: vec![
            through_sudo("`nat`: a place, and the user's network with it", first),
            through_sudo("`nat`: a place in a network that is there", second),
            through_sudo("`nat`: such a place is taken away", others_end),
            through_sudo("`nat`: the last place, and the network with it", last),
            as_process("`user`: passt and the filter, until the gateway answers", passt),
            as_process("`user`: a TAP device", tap),
        ],
    })
}

fn check_tap() -> Result<Duration> {
    Ok(time(Command::new(programs().join("banger-tap")).arg("--check"))?.whole)
}
