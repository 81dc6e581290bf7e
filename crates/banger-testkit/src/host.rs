//! The test host: a throw-away VM in which KVM works, whatever machine is beneath.
//!
//! It is a VM of banger's own under QEMU's emulation, whose processor has AMD's SVM: real Firecracker and QEMU run
//! guests in it by real KVM, ten times slower than the machine beneath does anything. Its disk is made of Debian's
//! packages by the image code, once for a state of the sources, with the seed in it; each test host begins with a copy.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::environment::{
    Environment, Outcome, exit_code, has_ended_within, outcome, outcome_or_killed, pidfd_of, programs,
};
use crate::not_run::not_run;
use crate::seed;

/// What a host has beside what every Debian image has.
const IMAGE: &str = "debian:bookworm+e2fsprogs+iproute2+nftables+passt+qemu-system-x86+strace+util-linux";
/// The image's name in the host's environment.
const IMAGE_NAME: &str = "testhost";
/// The VM's name.
const NAME: &str = "host";
/// Where everything of the tests is in it.
const PLACE: &str = "/srv/banger";

/// Run once, as root, when its disk is made: a user who is nobody special, and a place for the seed.
const SETUP: &str = "set -e
    groupadd --force --system kvm
    useradd --create-home --shell /bin/bash --uid 1001 --groups kvm plain
    usermod --append --groups kvm dev
    mkdir -p /srv/banger/seed /srv/banger/programs /srv/banger/scratch
    chown plain: /srv/banger/seed /srv/banger/scratch";
/// Run at every boot, as root: there is no udev in it.
const BOOT: &str = "set -e
    modprobe kvm_amd
    modprobe tun
    chgrp kvm /dev/kvm
    chmod 660 /dev/kvm
    chmod 666 /dev/net/tun";

/// How long a single program may run in a host: beyond that it hangs.
const LIMIT: Duration = Duration::from_mins(10);
/// How often a host is asked for a sign of life while tests run in it.
const ANSWER_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take for that. It takes a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// How many hosts may hang in a row, and one more.
const ATTEMPTS: usize = 3;

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
}

impl TestHost {
    /// Boots a host with banger's programs and this machine's Firecracker in it, for `test`. Returns nothing when there is
    /// no Firecracker, and says so; or when this is a host already.
    pub fn with_firecracker(test: &str) -> Option<Self> {
        if is_hosted() {
            return None;
        }
        let Some(firecracker) = firecracker() else {
            not_run(test, "there is no firecracker on PATH, nor in BANGER_FIRECRACKER");
            return None;
        };
        let host = Self::start();
        host.install(&firecracker);
        Some(host)
    }

    /// Boots a host. The first one of a state of the sources is made before, which takes minutes.
    pub fn start() -> Self {
        let prepared = prepared();
        let environment = emulated(Environment::empty());
        seed::link_tree(&prepared.join("images"), &environment.data().join("images"), hard_link);
        seed::link_tree(&prepared.join("kernels"), &environment.data().join("kernels"), hard_link);
        std::fs::copy(prepared.join("banger.db"), environment.data().join("banger.db"))
            .expect("copy the database");
        create(&environment, &["--no-start"]);
        copy_sparse(&prepared.join("disk.ext4"), &disk(&environment));
        let host = Self { environment };
        host.boot();
        host
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
            "banger-filter",
            "banger-tap",
            "banger-guest",
            "banger-test-probe",
        ];
        for name in names {
            self.copy_in(&programs().join(name), &format!("{PLACE}/programs/{name}"));
        }
        self.copy_in(firecracker, &format!("{PLACE}/programs/firecracker"));
    }

    /// Copies a program into the host, without its symbols, for everybody to run.
    pub fn copy_in(&self, program: &Path, path: &str) {
        let stripped = tempfile::NamedTempFile::new_in(seed::scratch()).expect("make a file");
        let strip = Command::new("strip").arg("-o").arg(stripped.path()).arg(program).status();
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
        let (program, data) = (format!("{PLACE}/programs/banger"), format!("BANGER_DATA_DIR={data}"));
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
    environment.with_variable("BANGER_NO_KVM", "1")
}

fn hard_link(file: &Path, name: &Path) -> std::io::Result<()> {
    std::fs::hard_link(file, name)
}

fn create(environment: &Environment, more: &[&str]) {
    // One processor: several make the emulator's hangs more likely, and no test quicker.
    let sizes = ["--vcpus", "1", "--memory", "4G", "--disk", "20G", "--engine", "qemu"];
    environment.succeed(&[&["vm", "create", NAME, "--image", IMAGE_NAME], &sizes[..], more].concat());
}

fn disk(environment: &Environment) -> PathBuf {
    let directory = environment.vm(NAME)["directory"].as_str().expect("a VM's directory").to_owned();
    Path::new(&directory).join("disk.ext4")
}

fn copy_sparse(from: &Path, to: &Path) {
    let copy = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(copy.expect("run cp").success(), "cannot copy {}", from.display());
}

/// Returns the environment with which programs of the tests run in the host.
fn variables() -> Vec<String> {
    vec![
        format!("BANGER_PROGRAM_DIR={PLACE}/programs"),
        format!("BANGER_FIRECRACKER={PLACE}/programs/firecracker"),
        format!("{}={PLACE}/seed", seed::VARIABLE),
        format!("{}={PLACE}/scratch", seed::SCRATCH_VARIABLE),
    ]
}

/// Returns the directory with the image and the disk that hosts begin with; makes it when it is not there.
fn prepared() -> PathBuf {
    let seed = seed::directory();
    let mut hasher = DefaultHasher::new();
    for part in [IMAGE, SETUP, &seed.file_name().expect("a seed's name").to_string_lossy()] {
        hasher.write(part.as_bytes());
    }
    let place = seed::scratch().join(format!("host-{:016x}", hasher.finish()));
    let lock = File::create(seed::scratch().join("host.lock")).expect("make a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("take a lock");
    if !place.join("disk.ext4").exists() {
        make(&place, seed);
    }
    place
}

fn make(place: &Path, seed: &Path) {
    if place.exists() {
        std::fs::remove_dir_all(place).expect("take half a host away");
    }
    std::fs::create_dir_all(place).expect("make a host's directory");
    seed::plant(place);
    let environment = emulated(Environment::at(place.to_owned()));
    environment.succeed(&["image", "pull", IMAGE, "--name", IMAGE_NAME]);
    create(&environment, &[]);
    let host = TestHost { environment };
    host.succeed(User::Root, &["sh", "-c", SETUP]);
    host.take_seed(seed);
    host.environment.succeed(&["vm", "stop", NAME]);
    // Its name says that it is complete.
    let partial = place.join("partial.ext4");
    copy_sparse(&disk(&host.environment), &partial);
    std::fs::rename(partial, place.join("disk.ext4")).expect("name the disk");
}

/// Which tests of a program run in a host.
#[derive(Debug, Clone, Copy)]
pub enum Tests<'a> {
    /// These, by their whole names.
    These(&'a [&'a str]),
    /// All but those whose names have one of these in them.
    AllBut(&'a [&'a str]),
}

/// Marks the programs that run in a host.
const HOSTED: &str = "BANGER_TEST_HOSTED";

/// Whether this program runs in a test host.
fn is_hosted() -> bool {
    std::env::var_os(HOSTED).is_some()
}

/// Returns the Firecracker of this machine, if there is one: what `BANGER_FIRECRACKER` names, or what is on `PATH`.
fn firecracker() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BANGER_FIRECRACKER") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(PROGRAM)).find(|file| file.is_file())
}

/// Firecracker's program.
const PROGRAM: &str = "firecracker";

impl TestHost {
    /// Runs tests of this very test program once more, in the host, where they find Firecracker and KVM. All of them
    /// must pass.
    pub fn pass_own_tests(&self, user: User, tests: Tests<'_>) {
        let program = format!("{PLACE}/programs/tests");
        self.copy_in(&std::env::current_exe().expect("the test's own path"), &program);
        let mut command = vec!["env".to_owned(), format!("{HOSTED}=1")];
        command.extend(variables());
        command.extend([program, "--test-threads=2".to_owned()]);
        match tests {
            Tests::These(names) => {
                command.push("--exact".to_owned());
                command.extend(names.iter().copied().map(str::to_owned));
            }
            Tests::AllBut(names) => {
                command.extend(names.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]));
            }
        }
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        // What was copied in is to survive the host's end.
        self.succeed(User::Root, &["sync"]);
        let outcome = self.run_in_spite_of_the_emulator(user, &command);
        let text = outcome.text();
        assert_eq!(outcome.code, 0, "{text}\n{}", outcome.stderr);
        // A name that fits no test would pass as well.
        assert!(!text.contains("running 0 tests"), "{text}");
    }

    /// Runs a program to its end. QEMU's emulated SVM makes a host hang now and then, whatever runs in it: such a host is
    /// ended, and the program run from the beginning in the next one.
    fn run_in_spite_of_the_emulator(&self, user: User, command: &[&str]) -> Outcome {
        for _ in 1..ATTEMPTS {
            if let Some(outcome) = self.run_while_it_answers(user, command) {
                return outcome;
            }
            std::io::stderr().write_all(b"the test host hung; it is started anew\n").ok();
            self.environment.succeed(&["vm", "kill", NAME]);
            self.boot();
        }
        self.run_while_it_answers(user, command).expect("a test host that does not hang")
    }

    /// Runs a program to its end; returns nothing when the host hangs before.
    fn run_while_it_answers(&self, user: User, command: &[&str]) -> Option<Outcome> {
        let mut running = self.command(user, command);
        let file = || tempfile::tempfile_in(seed::scratch()).expect("make a file");
        let (stdout, stderr) = (file(), file());
        running.stdout(stdout.try_clone().expect("a second descriptor"));
        running.stderr(stderr.try_clone().expect("a second descriptor"));
        let mut child = running.spawn().expect("run banger");
        while !has_ended_within(&pidfd_of(&child), ANSWER_INTERVAL) {
            let asked = outcome_or_killed(&mut self.command(User::Root, &["true"]), ANSWER_LIMIT);
            if asked.is_none_or(|answer| answer.code != 0) {
                child.kill().expect("end banger");
                child.wait().expect("wait for banger");
                return None;
            }
        }
        let code = exit_code(&mut child);
        let read = |mut file: File| {
            let mut content = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut content)).expect("read what it printed");
            content
        };
        let stderr = String::from_utf8_lossy(&read(stderr)).into_owned();
        Some(Outcome { code, stdout: read(stdout), stderr })
    }

    /// Copies the kernel, the images and the database into the host.
    fn take_seed(&self, seed: &Path) {
        let mut tar = Command::new("tar")
            .args(["--create", "--sparse", "--file=-", "--directory"])
            .arg(seed)
            .args(["banger.db", "images", "kernels", "busybox.tar", "probe.tar"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tar");
        let place = format!("{PLACE}/seed");
        let extract = ["tar", "--extract", "--sparse", "--file=-", "--no-same-owner", "--directory", &place];
        let mut take = self.command(User::Plain, &extract);
        take.stdin(tar.stdout.take().expect("its output"));
        let taken = self.environment.outcome(&mut take);
        assert!(tar.wait().expect("wait for tar").success());
        assert_eq!(taken.code, 0, "{}", taken.stderr);
    }
}
