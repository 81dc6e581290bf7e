//! The same on real Firecracker with real KVM, in a test host.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use banger_testkit::{TestHost, User};

use crate::banger::Banger;
use crate::rounds::{QUICK, Rounds};
use crate::{boot, exec, memory, network};

/// Asks for these comparisons alone, to try them out; nothing is kept.
pub(crate) const ALONE: &str = "--hosted";
/// Two, as this machine may have: what runs beside the VMM is not to wait for it.
const PROCESSORS: u32 = 2;
/// Tells this program, in the host, where to write what it finds.
pub(crate) const ARGUMENT: &str = "--in-host";
/// Where it does.
const RESULTS: &str = "/tmp/results.md";
/// The same of what it finds of networks, as another user.
const NETWORK_RESULTS: &str = "/tmp/network-results.md";
/// Where it finds what takes a compiler, or programs that the host has not.
pub(crate) const PREPARED: &str = "/var/tmp/prepared";

/// Runs this program in a test host, and returns what it found there; nothing where there is no Firecracker.
pub(crate) fn compare() -> Result<Option<String>> {
    let Some(host) = start("the comparisons with Firecracker")? else { return Ok(None) };
    let mut text = run_in(&host, User::Plain, ARGUMENT, RESULTS)?;
    // A host that hangs here does not cost what was measured before.
    let networks = catch_unwind(AssertUnwindSafe(|| networks_in(&host)));
    text += &networks.unwrap_or_else(|_| Ok(NETWORKS_NOT_MEASURED.to_owned()))?;
    let (seconds, virtual_processors) = (host.boot_time().as_secs_f64(), PROCESSORS);
    write!(
        text,
        "\n## The test host itself\n\nFrom the start of a VM with {virtual_processors} virtual processors, whose disk is a copy, until KVM and TUN can \
         be used in it: {seconds:.1} s (mark: ≤ 15 s).\n"
    )?;
    Ok(Some(text))
}

const NETWORKS_NOT_MEASURED: &str =
    "\n# Networks on Firecracker\n\nNot measured this time: the test host did not come to its end.\n";

/// The same for networks alone.
pub(crate) fn compare_networks() -> Result<Option<String>> {
    let Some(host) = start("the comparisons of networks")? else { return Ok(None) };
    networks_in(&host).map(Some)
}

fn networks_in(host: &TestHost) -> Result<String> {
    run_in(host, User::Sudoer, network::IN_HOST, NETWORK_RESULTS)
}

/// Starts a host with what this program finds there.
fn start(what: &str) -> Result<Option<TestHost>> {
    let Some(host) = TestHost::with_firecracker_and_processors(what, PROCESSORS) else { return Ok(None) };
    let scratch = tempfile::tempdir()?;
    host.succeed(User::Plain, &["mkdir", PREPARED]);
    let files: Vec<PathBuf> =
        boot::make_inits(scratch.path())?.into_iter().chain(network::prepare(scratch.path())?).collect();
    for file in files {
        let name = file.file_name().context("a file's name")?.to_string_lossy();
        host.copy_in(&file, &format!("{PREPARED}/{name}"));
    }
    Ok(Some(host))
}

/// Runs this program in the host, with this argument, and returns what it has written there.
fn run_in(host: &TestHost, user: User, argument: &str, results: &str) -> Result<String> {
    let quick = std::env::var_os(QUICK).map(|_| QUICK.to_owned());
    let arguments = [argument, results].map(str::to_owned).into_iter().chain(quick);
    host.run_own_program(user, arguments);
    Ok(String::from_utf8(host.read(results))?)
}

/// What is done in the host.
pub(crate) fn run(results: &Path, rounds: &Rounds) -> Result<()> {
    let banger = Banger::new()?;
    for file in fs_err::read_dir(PREPARED)? {
        let file = file?;
        fs_err::copy(file.path(), banger.scratch().join(file.file_name()))?;
    }
    let mut comparisons = boot::compare(&banger, rounds, boot::FIRECRACKER)?;
    comparisons.push(exec::measure(&banger, rounds, None)?);
    comparisons.push(memory::measure(&banger, rounds)?);
    let mut text = format!(
        "\n# On Firecracker\n\nIn a test host, a VM of QEMU's emulation in which KVM works: everything is some ten times \
         slower than on a real machine, and what the host's processor does weighs more than there.\n\n- {}\n- processor \
         cores: {}\n",
        banger.firecracker()?,
        std::thread::available_parallelism()?
    );
    for comparison in comparisons {
        write!(text, "\n{comparison}")?;
    }
    Ok(fs_err::write(results, text)?)
}
