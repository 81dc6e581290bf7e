//! A command in a VM that runs.

use anyhow::Result;
use banger_testkit::seed::BUSYBOX;

use crate::banger::Banger;
use crate::report::{Comparison, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

const VM: &str = "exec";

/// Measures the round trip of `banger exec`.
pub(crate) fn measure(banger: &Banger, rounds: &Rounds) -> Result<Comparison> {
    banger.run(&["vm", "create", VM, "--image", BUSYBOX])?;
    let (mut exec, mut list) = (Samples::times(), Samples::times());
    // The first session makes the guest read its programs from the drive.
    banger.run(&["exec", VM, "--", "/bin/true"])?;
    for _ in 0..rounds.exec {
        exec.push(banger.run(&["exec", VM, "--", "/bin/true"])?.whole);
        list.push(banger.run(&["vm", "ls"])?.whole);
    }
    banger.remove(VM)?;
    Ok(Comparison {
        title: "A command in a running VM".to_owned(),
        method: "`banger exec VM -- /bin/true` as a whole process: asks the daemon, connects through the monitor, an \
                 SSH handshake with an emulated processor, the command, the end. Beside it `banger vm ls`, which is \
                 the client and the daemon without any guest."
            .to_owned(),
        rows: vec![Row::of("`banger exec`", exec), Row::of("`banger vm ls`", list)],
    })
}
