//! The root helper in a test host: its installation, and its requests.

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use banger_testkit::programs;
use banger_types::VmId;
use banger_types::helper::{
    HELPER_PREFIX, HELPER_PROTOCOL, HelperAnswer, HelperRequest, HelperVerb, JailTerms, VmTerms,
};
use banger_types::size::Mebibytes;

use super::GUEST_MEMORY;
use crate::banger::time;

/// The TAP device that a bare machine has, the host's address on it with its prefix, and the guest's.
pub(super) const TAP: &str = "bench0";
pub(super) const TAP_ADDRESS: &str = "10.99.0.1";
/// What reads for root what this user may not: a copy of the aid that root owns and everybody runs as root.
pub(super) const AID_AS_ROOT: &str = "/usr/local/bin/banger-bench-aid-as-root";

/// Run as root. Twice, it does no harm: a test host that hangs begins anew, with its files but without its mounts.
///
/// The file system of the test's own data becomes one that takes part in jails, as most hosts' do: the test host's own is an
/// overlay.
const MAKE_READY: &str = "set -e
    helper=$1 place=$2 aid=$3 tests=$4
    install -D -m 755 $helper $place
    install -m 4755 $aid /usr/local/bin/banger-bench-aid-as-root
    echo \"Defaults!$place !use_pty, !pam_session, !pam_setcred\" | install -m 440 /dev/stdin /etc/sudoers.d/banger
    if ! ip link show bench0 > /dev/null 2>&1; then
        ip tuntap add dev bench0 mode tap user $SUDO_UID
        ip address add 10.99.0.1/24 dev bench0
        ip link set bench0 up
    fi
    if ! mountpoint -q $tests; then
        rm -f /srv/bench-disk
        truncate --size 8G /srv/bench-disk
        mkfs.ext4 -q /srv/bench-disk
        mkdir -p /srv/bench-copy
        mount -o loop /srv/bench-disk /srv/bench-copy
        cp --archive --sparse=always $tests/. /srv/bench-copy
        umount /srv/bench-copy
        mount -o loop /srv/bench-disk $tests
    fi";

/// How often a helper's first request may fail: kernel modules are loaded meanwhile, and it gives up on a slow one.
const ATTEMPTS: usize = 10;

/// Makes the host that this runs in one with the helper, a TAP device, and jails.
pub(super) fn make_host_ready(aid: &Path) -> Result<()> {
    let programs = programs();
    let tests = programs.parent().context("the programs' directory has no parent")?;
    let mut ready = Command::new("sudo");
    ready.args(["-n", "sh", "-c", MAKE_READY, "sh"]);
    ready.arg(programs.join("banger-helper")).arg(helper()).arg(aid).arg(tests);
    time(&mut ready)?;
    Ok(())
}

fn helper() -> String {
    format!("{HELPER_PREFIX}{}", env!("CARGO_PKG_VERSION"))
}

/// Asks for a VM's place, in vain if need be, and gives it back.
pub(super) fn warm_up(vm: &VmId) -> Result<()> {
    let mut attempt = 1;
    while let Err(error) = give(vm) {
        if attempt == ATTEMPTS {
            return Err(error.context("not even the last time"));
        }
        attempt += 1;
    }
    take_away(vm).map(drop)
}

/// Gives a VM a place, as the daemon has it done for one of Firecracker's, and returns how long that took.
pub(super) fn give(vm: &VmId) -> Result<Duration> {
    let jail = JailTerms { memory: Mebibytes(2 * GUEST_MEMORY), processors: 2, tasks: 128 };
    let (took, answer) = ask(HelperVerb::VmAdd(VmTerms {
        vm: vm.clone(),
        name: format!("vm-{vm}").parse()?,
        v6: false,
        allow_host: false,
        reaches_others: true,
        jail: Some(jail),
    }))?;
    match answer {
        HelperAnswer::Place(_) => Ok(took),
        other => bail!("no place, but {other:?}"),
    }
}

/// Takes it away.
pub(super) fn take_away(vm: &VmId) -> Result<Duration> {
    match ask(HelperVerb::VmsRemove([vm.clone()].into()))? {
        (took, HelperAnswer::Done) => Ok(took),
        (_, other) => bail!("not done, but {other:?}"),
    }
}

/// Asks the helper through sudo, as the daemon does.
fn ask(verb: HelperVerb) -> Result<(Duration, HelperAnswer)> {
    let mut request = tempfile::tempfile()?;
    request.write_all(&serde_json::to_vec(&HelperRequest { protocol: HELPER_PROTOCOL, verb })?)?;
    request.rewind()?;
    let mut sudo = Command::new("sudo");
    let run = time(sudo.args(["-n", "--", &helper()]).env("LC_ALL", "C").stdin(request))?;
    let answer = serde_json::from_str(&run.output).with_context(|| format!("it said {:?}", run.output))?;
    Ok((run.whole, answer))
}

/// Runs what does nothing through sudo.
pub(super) fn ask_for_nothing() -> Result<Duration> {
    Ok(time(Command::new("sudo").args(["-n", "--", "/bin/true"]))?.whole)
}
