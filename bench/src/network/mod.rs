//! What networks cost: to set them up, to send through them, and in memory.

mod bare;
mod memory;
mod place;
mod processes;
mod set_up;
mod throughput;
mod traffic;
mod user;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use banger_testkit::seed::BUSYBOX;

use crate::banger::Banger;
use crate::report::Comparison;
use crate::rounds::Rounds;

pub(crate) use self::bare::prepare;

/// The argument of a run that is about networks alone, whose results are not kept.
pub(crate) const ALONE: &str = "--network";
/// Tells this program, in a test host and as a user who may become root, where to write what it finds.
pub(crate) const IN_HOST: &str = "--networks-in-host";
/// What is run elsewhere.
pub(crate) const AID: &str = "banger-bench-aid";

/// What every VM here has, the bare one too.
const SIZES: [&str; 6] = ["--image", BUSYBOX, "--vcpus", "1", "--memory", "256M"];
/// The guest's memory among that, MiB: a mapping of this size is the guest's.
const GUEST_MEMORY: u64 = 256;
/// How often something is measured until its VMs live.
const ATTEMPTS: usize = 3;
/// The VM that others are made like.
const MODEL: &str = "model";

/// What is done in the host. `prepared` is where things are that were made elsewhere.
pub(crate) fn run(results: &Path, prepared: &Path, rounds: &Rounds) -> Result<()> {
    crate::step("a host with the root helper");
    place::make_host_ready(&prepared.join(AID))?;
    let banger = Banger::new()?;
    let (model, user_network) = model(&banger, prepared)?;
    let mut text =
        format!("\n# Networks on Firecracker\n\nIn a test host, as above.\n\n- {}\n", banger.firecracker()?);
    let measure = |what: &str, measure: &dyn Fn() -> Result<Comparison>| {
        crate::step(what);
        in_spite_of_the_emulator(&banger, what, measure)
    };
    let aid = prepared.join(AID);
    for part in [
        measure("network set-up", &|| set_up::measure(&user_network, rounds)),
        measure("memory", &|| memory::measure(&banger, &model, rounds)),
        measure("throughput", &|| throughput::on_firecracker(&banger, &aid, &model, rounds)),
    ] {
        write!(text, "\n{part}")?;
    }
    Ok(fs_err::write(results, text)?)
}

/// Measures as often as guests die of the emulator that their host's processor is, and says so if that is each time: what was
/// measured beside it is kept.
fn in_spite_of_the_emulator(banger: &Banger, what: &str, measure: &dyn Fn() -> Result<Comparison>) -> String {
    for attempt in 1..=ATTEMPTS {
        match measure() {
            Ok(comparison) => return comparison.to_string(),
            Err(error) => eprintln!("{what}, attempt {attempt} of {ATTEMPTS}: {error:#}"),
        }
        // What it has left is in nobody's way.
        for vm in banger.run(&["vm", "ls", "-q"]).map(|run| run.output).unwrap_or_default().lines() {
            banger.remove(vm).ok();
        }
    }
    format!("## {what}\n\nNot measured this time: it has failed {ATTEMPTS} times.\n")
}

/// What is done on this machine itself: the figures of the other engine.
pub(crate) fn emulated(rounds: &Rounds) -> Result<Comparison> {
    throughput::on_qemu(rounds)
}

/// Boots a VM once, and keeps what others are made like: a bare machine, and the programs of a user-mode network.
fn model(banger: &Banger, prepared: &Path) -> Result<(bare::Model, user::Programs)> {
    banger.run(&[&["vm", "create", MODEL, "--net", "user"], &SIZES[..]].concat())?;
    let directory = banger.directory(MODEL)?;
    let model = bare::Model::of(&directory, prepared, banger.scratch())?;
    let programs = user::Programs::of(&directory)?;
    banger.remove(MODEL)?;
    Ok((model, programs))
}

/// Returns where this program's aid is, on the machine that it was built on.
pub(crate) fn aid() -> PathBuf {
    banger_testkit::programs().join(AID)
}
