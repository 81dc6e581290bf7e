//! The test host: a throw-away VM in which KVM works, whatever machine is beneath.
//!
//! It is a VM of banger's own under QEMU's emulation, whose processor has AMD's SVM: real Firecracker and QEMU run
//! guests in it by real KVM, ten times slower than the machine beneath does anything. Its disk is made of Debian's
//! packages by the image code, once for a state of the sources, with the seed in it; each test host begins with a copy.

mod disk;
mod suite;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use banger_types::location::variable;

use crate::environment::{ENGINE, Environment, Outcome, outcome, programs};
use crate::not_run::not_run;
use crate::seed;
use crate::{FULL, is_full_run};

pub use disk::Snapshot;
pub use suite::Tests;

/// The image's name in the host's environment.
const IMAGE_NAME: &str = "testhost";
/// The VM's name.
const NAME: &str = "host";
/// Where everything of the tests is in it.
const PLACE: &str = "/srv/banger";

/// Run at every boot, as root: there is no udev in it.
const BOOT: &str = "set -e
    modprobe kvm_amd
    modprobe tun
    chgrp kvm /dev/kvm
    chmod 660 /dev/kvm
    chmod 666 /dev/net/tun
    setsid sh -c 'while sleep 5; do echo the test host is alive > /dev/console; done' > /dev/null 2>&1 < /dev/null &";

/// How long a single program may run in a host: beyond that it hangs.
const LIMIT: Duration = Duration::from_mins(10);
/// Virtual processors of a host: several make the emulator's hangs more likely, and no test quicker.
pub(crate) const PROCESSORS: u32 = 1;

/// Who does something in a test host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Root.
    Root,
    /// A user who may become root without a password.
    Sudoer,
    /// A user who may not, and who may use KVM.
    Plain,
}

impl User {
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sudoer => "dev",
            Self::Plain => "plain",
        }
    }
}

/// A test host that runs. It goes with this; when that happens in a panic, its console is shown.
#[derive(Debug)]
pub struct TestHost {
    environment: Environment,
    boot_time: Duration,
}

impl TestHost {
    /// Boots a host with banger's programs and this machine's Firecracker in it, for `test`. Returns nothing when there is
    /// no Firecracker, and says so; or when this is a host already.
    pub fn with_firecracker(test: &str) -> Option<Self> {
        Self::with_firecracker_and_processors(test, PROCESSORS)
    }

    /// The same, with so many virtual processors.
    pub fn with_firecracker_and_processors(test: &str, processors: u32) -> Option<Self> {
        if is_hosted() {
            return None;
        }
        let Some(firecracker) = firecracker() else {
            not_run(test, "there is no firecracker on PATH, nor in BANGER_FIRECRACKER");
            return None;
        };
        let host = Self::start(processors);
        host.install(&firecracker);
        Some(host)
    }

    /// Boots a host. The first one of a state of the sources is made before, which takes minutes.
    pub fn start(processors: u32) -> Self {
        let prepared = disk::prepared();
        let environment = emulated(Environment::empty());
        seed::link_tree(&prepared.join("images"), &environment.data().join("images"), hard_link);
        seed::link_tree(&prepared.join("kernels"), &environment.data().join("kernels"), hard_link);
        std::fs::copy(prepared.join("banger.db"), environment.data().join("banger.db"))
            .expect("copy the database");
        create(&environment, processors, &["--no-start"]);
        let mut host = Self { environment, boot_time: Duration::ZERO };
        host.take_disk(&prepared);
        let begin = Instant::now();
        host.boot();
        host.boot_time = begin.elapsed();
        host
    }

    /// Returns how long the host took until it could be used.
    pub const fn boot_time(&self) -> Duration {
        self.boot_time
    }

    fn boot(&self) {
        self.environment.succeed(&["vm", "start", NAME]);
        self.succeed(User::Root, &["sh", "-c", BOOT]);
    }

    /// Puts banger's programs, as they are now, and the Firecracker at this path into the host.
    pub fn install(&self, firecracker: &Path) {
        let names = [
            "banger",
            "bangerd",
            "banger-monitor",
            "banger-confine",
            "banger-filter",
            "banger-helper",
            "banger-tap",
            "banger-guest",
            "banger-test-probe",
        ];
        for name in names {
            self.copy_in(&programs().join(name), &format!("{PLACE}/programs/{name}"));
        }
        self.copy_in(firecracker, &format!("{PLACE}/programs/firecracker"));
    }

    /// Copies a file into the host, a program without its symbols, for everybody to read and to run.
    pub fn copy_in(&self, program: &Path, path: &str) {
        let stripped = tempfile::NamedTempFile::new_in(seed::scratch()).expect("make a file");
        let strip =
            Command::new("strip").arg("-o").arg(stripped.path()).arg(program).stderr(Stdio::null()).status();
        let source = if strip.is_ok_and(|status| status.success()) { stripped.path() } else { program };
        let script = "cat > \"$1\" && chmod 755 \"$1\"";
        let mut copy = self.command(User::Root, &["sh", "-c", script, "sh", path]);
        copy.stdin(File::open(source).expect("open a program"));
        let copied = self.environment.outcome(&mut copy);
        assert_eq!(copied.code, 0, "{}", copied.stderr);
    }

    /// Returns what is in a file of the host.
    pub fn read(&self, path: &str) -> Vec<u8> {
        let read = self.run(User::Root, &["cat", path]);
        assert_eq!(read.code, 0, "{}", read.stderr);
        read.stdout
    }

    /// Runs a program in the host to its end.
    pub fn run(&self, user: User, command: &[&str]) -> Outcome {
        outcome(&mut self.command(user, command), &[], LIMIT)
    }

    /// Runs a program that must succeed, and returns what it printed.
    pub fn succeed(&self, user: User, command: &[&str]) -> String {
        let outcome = self.run(user, command);
        assert_eq!(outcome.code, 0, "{command:?}: {}\n{}", outcome.text(), outcome.stderr);
        outcome.text()
    }

    /// Runs `banger` in the host, with a data directory of this name, which has the seed's images.
    pub fn banger(&self, user: User, data: &str, arguments: &[&str]) -> Outcome {
        let data = format!("{PLACE}/scratch/{data}");
        let plant = format!("test -e {data} || cp --archive --link {PLACE}/seed {data}");
        let planted = self.run(user, &["sh", "-c", &plant]);
        assert_eq!(planted.code, 0, "{}", planted.stderr);
        let (program, data) =
            (format!("{PLACE}/programs/banger"), format!("{}={data}", variable::DATA_DIRECTORY));
        let variables = variables();
        let command =
            ["env", &data].into_iter().chain(variables.iter().map(String::as_str)).chain([&*program]);
        self.run(user, &command.chain(arguments.iter().copied()).collect::<Vec<_>>())
    }

    fn command(&self, user: User, command: &[&str]) -> Command {
        let session = ["exec", "--user", user.name(), NAME, "--"];
        self.environment.banger(&[&session[..], command].concat())
    }
}

/// The processor with SVM is QEMU's own: on whatever machine, and whether that has KVM or not.
fn emulated(environment: Environment) -> Environment {
    environment.with_variable(variable::NO_KVM, "1")
}

fn hard_link(file: &Path, name: &Path) -> std::io::Result<()> {
    std::fs::hard_link(file, name)
}

fn create(environment: &Environment, processors: u32, more: &[&str]) {
    let processors = processors.to_string();
    let sizes = ["--vcpus", &processors, "--memory", "4G", "--disk", "20G", "--engine", "qemu"];
    environment.succeed(&[&["vm", "create", NAME, "--image", IMAGE_NAME], &sizes[..], more].concat());
}

/// Returns the environment with which programs of the tests run in the host.
fn variables() -> Vec<String> {
    let always = [
        format!("{}={PLACE}/programs", variable::PROGRAM_DIRECTORY),
        format!("{}={PLACE}/programs/firecracker", variable::FIRECRACKER),
        format!("{}={PLACE}/seed", seed::VARIABLE),
        format!("{}={PLACE}/scratch", seed::SCRATCH_VARIABLE),
        format!("{ENGINE}=firecracker"),
    ];
    let full = is_full_run().then(|| format!("{FULL}=1"));
    always.into_iter().chain(full).collect()
}

/// Marks the programs that run in a host.
const HOSTED: &str = "BANGER_TEST_HOSTED";

/// Whether this program runs in a test host.
fn is_hosted() -> bool {
    std::env::var_os(HOSTED).is_some()
}

/// Returns the Firecracker of this machine, if there is one: what `BANGER_FIRECRACKER` names, or what is on `PATH`.
fn firecracker() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable::FIRECRACKER) {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("firecracker")).find(|file| file.is_file())
}
