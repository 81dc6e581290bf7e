//! Whole processes of the command line, with nothing and with many VMs to tell of.

use anyhow::Result;
use banger_testkit::seed::PROBE;

use crate::banger::Banger;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

/// Measures `banger --help`, and `banger vm ls` with many VMs.
pub(crate) fn measure(rounds: &Rounds) -> Result<Comparison> {
    // A banger of its own: nothing else has to do with so many.
    let banger = Banger::new()?;
    let (mut help, mut version) = (Samples::times(), Samples::times());
    for _ in 0..rounds.exec {
        help.push(banger.run(&["--help"])?.whole);
        version.push(crate::banger::time(&mut banger.command("/bin/true"))?.whole);
    }
    for number in 0..rounds.many {
        banger.run(&["vm", "create", &format!("vm-{number}"), "--image", PROBE, "--no-start"])?;
    }
    let (mut table, mut names, mut json) = (Samples::times(), Samples::times(), Samples::times());
    for _ in 0..rounds.exec {
        table.push(banger.run(&["vm", "ls"])?.whole);
        names.push(banger.run(&["vm", "ls", "-q"])?.whole);
        json.push(banger.run(&["vm", "ls", "--json"])?.whole);
    }
    banger.forget_everything()?;
    let many = rounds.many;
    Ok(Comparison {
        title: "The command line as a process".to_owned(),
        method: format!(
            "From its start to its end, daemon running. {many} VMs were made by `vm create --no-start`; \
             each has its directory, its disk and its row."
        ),
        rows: vec![
            Row::of("`banger --help`", help).against("`/bin/true`", &version).mark(Mark::AtMost(5.0)),
            Row::of(format!("`banger vm ls`, {many} VMs"), table).mark(Mark::AtMost(20.0)),
            Row::of(format!("`banger vm ls -q`, {many} VMs"), names),
            Row::of(format!("`banger vm ls --json`, {many} VMs"), json),
        ],
    })
}
