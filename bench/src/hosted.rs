//! The same on real Firecracker with real KVM, in a test host.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use banger_testkit::{TestHost, User};

use crate::banger::Banger;
use crate::rounds::{QUICK, Rounds};
use crate::{boot, exec, memory};

/// Asks for these comparisons alone, to try them out; nothing is kept.
pub(crate) const ALONE: &str = "--hosted";
/// Two, as this machine may have: what runs beside the VMM is not to wait for it.
const PROCESSORS: u32 = 2;
/// Tells this program, in the host, where to write what it finds.
pub(crate) const ARGUMENT: &str = "--in-host";
/// Where it does.
const RESULTS: &str = "/tmp/results.md";
/// Where it finds what takes a compiler.
const PREPARED: &str = "/tmp/prepared";

/// Runs this program in a test host, and returns what it found there; nothing where there is no Firecracker.
pub(crate) fn compare() -> Result<Option<String>> {
    let Some(host) =
        TestHost::with_firecracker_and_processors("the comparisons with Firecracker", PROCESSORS)
    else {
        return Ok(None);
    };
    let scratch = tempfile::tempdir()?;
    host.succeed(User::Plain, &["mkdir", PREPARED]);
    for file in boot::make_inits(scratch.path())? {
        let name = file.file_name().context("a file's name")?.to_string_lossy();
        host.copy_in(&file, &format!("{PREPARED}/{name}"));
    }
    let quick = std::env::var_os(QUICK).map(|_| QUICK.to_owned());
    let arguments = [ARGUMENT.to_owned(), RESULTS.to_owned()].into_iter().chain(quick);
    host.run_own_program(User::Plain, arguments);
    let mut text = String::from_utf8(host.read(RESULTS))?;
    let (seconds, virtual_processors) = (host.boot_time().as_secs_f64(), PROCESSORS);
    write!(
        text,
        "\n## The test host itself\n\nFrom the start of a VM with {virtual_processors} virtual processors, whose disk is a copy, until KVM and TUN can \
         be used in it: {seconds:.1} s (mark: ≤ 15 s).\n"
    )?;
    Ok(Some(text))
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
