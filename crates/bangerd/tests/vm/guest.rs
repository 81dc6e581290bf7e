//! One VM of one kind of image, in which many things are tried one after the other.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use banger_testkit::{Environment, Outcome, seed};

/// What is special about an image of the tests.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its name; the VM has the same.
    pub(crate) name: &'static str,
    /// Memory that its VM needs.
    pub(crate) memory: &'static str,
    /// The probe's path in it.
    pub(crate) probe: &'static str,
    /// The user of its sessions when none is named, as `uid:gid`.
    pub(crate) default_ids: &'static str,
    /// That user's home.
    pub(crate) home: &'static str,
    /// A user beside root that its `/etc/passwd` has.
    pub(crate) user: Option<&'static str>,
    /// What a login shell calls itself.
    pub(crate) login_shell: Option<&'static str>,
}

/// Debian with systemd.
pub(crate) const DEBIAN: Image = Image {
    name: seed::DEBIAN,
    memory: "512M",
    probe: "/usr/local/bin/probe",
    default_ids: "1000:1000",
    home: "/home/dev",
    user: Some("dev"),
    login_shell: Some("-bash"),
};

/// Nothing but busybox and a probe.
pub(crate) const BUSYBOX: Image = Image {
    name: seed::BUSYBOX,
    memory: "256M",
    probe: "/bin/probe",
    default_ids: "0:0",
    home: "/root",
    user: Some("alice"),
    login_shell: Some("-sh"),
};

/// A single static program: no shell, no `/etc`.
pub(crate) const PROBE: Image = Image {
    name: seed::PROBE,
    memory: "256M",
    probe: "/probe",
    default_ids: "0:0",
    home: "/",
    user: None,
    login_shell: None,
};

/// A running VM.
pub(crate) struct Guest {
    pub(crate) environment: Environment,
    pub(crate) image: &'static Image,
    failed: Vec<&'static str>,
}

impl Guest {
    /// Makes a VM by `vm run` with this command, and returns it with how that ended.
    pub(crate) fn run(image: &'static Image, command: &[&str]) -> (Self, Outcome) {
        let environment = Environment::new();
        let guest = Self { environment, image, failed: Vec::new() };
        let outcome = guest.environment.run(
            &[
                &["vm", "run", "--name", image.name, "-e", "SHARED=of the VM"],
                &small(image)[..],
                &["--"],
                command,
            ]
            .concat(),
        );
        (guest, outcome)
    }

    /// Returns `banger exec` of a program, not yet started.
    pub(crate) fn client<A: AsRef<OsStr>>(&self, options: &[&str], program: &[A]) -> Command {
        let mut command = self.environment.banger(&["exec"]);
        command.args(options).args([self.image.name, "--"]).args(program);
        command
    }

    /// Runs a program in the guest.
    pub(crate) fn exec(&self, options: &[&str], program: &[&str]) -> Outcome {
        self.environment.outcome(&mut self.client(options, program))
    }

    /// Runs the probe in the guest.
    pub(crate) fn probe(&self, options: &[&str], arguments: &[&str]) -> Outcome {
        self.exec(options, &[&[self.image.probe], arguments].concat())
    }

    /// Runs the probe in the guest, which must succeed, and returns what it said.
    pub(crate) fn answer(&self, options: &[&str], arguments: &[&str]) -> String {
        let outcome = self.probe(options, arguments);
        assert_eq!(outcome.code, 0, "{options:?} {arguments:?}: {}", outcome.stderr);
        outcome.text()
    }

    /// Tries one thing. A failure is noted, and the other things are tried all the same.
    pub(crate) fn step(&mut self, what: &'static str, check: impl FnOnce(&Self)) {
        let begin = Instant::now();
        let failed = catch_unwind(AssertUnwindSafe(|| check(self))).is_err();
        let word = if failed { "FAILED" } else { "ok" };
        #[expect(clippy::print_stdout, reason = "a failed test shows which of its steps failed")]
        let () = println!("{}: {what}: {word} ({:.1} s)", self.image.name, begin.elapsed().as_secs_f64());
        if failed {
            self.failed.push(what);
        }
    }

    /// Fails when a step did.
    pub(crate) fn finish(self) {
        assert!(self.failed.is_empty(), "in {}: {}", self.image.name, self.failed.join("; "));
    }
}

/// Returns the options for a small VM of an image, without a network card.
pub(crate) fn small(image: &Image) -> [&'static str; 8] {
    ["--image", image.name, "--memory", image.memory, "--vcpus", "1", "--net", "none"]
}

/// Makes the smallest VM that has a shell, without a network card.
pub(crate) fn create(environment: &Environment, name: &str, more: &[&str]) {
    environment.succeed(&[&["vm", "create", name], &small(&BUSYBOX)[..], more].concat());
}

/// Makes the smallest VM that has a shell, with a network card.
pub(crate) fn create_with_network(environment: &Environment, name: &str, more: &[&str]) {
    // All but `--net none`.
    environment.succeed(&[&["vm", "create", name], &small(&BUSYBOX)[..6], more].concat());
}

/// The probe as an echo server, wherever it was started. It ends with this.
pub(crate) struct EchoServer(Child);

impl EchoServer {
    /// Starts one in a guest.
    pub(crate) fn inside(environment: &Environment, vm: &str, address: &str) -> Self {
        let arguments = ["exec", vm, "--", BUSYBOX.probe, "serve", address];
        Self::start(&mut environment.banger(&arguments))
    }

    /// Starts one by a command, and waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        // What it has to say is its first line.
        let (child, _output) = start(command.stdin(Stdio::piped()), "serving");
        Self(child)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // It ends with its standard input, or has ended with its VM.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// Starts a program and waits until it has said its first line, which must be this one.
pub(crate) fn start(command: &mut Command, first_line: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), first_line, "{command:?}");
    (child, output)
}

/// Sends a signal to a program that the test has started.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Returns bytes that no coding or terminal leaves alone by chance.
pub(crate) fn random(count: u64) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open("/dev/urandom").unwrap().take(count).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Checks the private disk of a VM that does not run: its journal is replayed, as the next boot would do it (which
/// e2fsck(8) calls a correction), and then there is nothing to mend.
pub(crate) fn assert_disk_is_sound(environment: &Environment, vm: &str) {
    let id = environment.vm(vm)["id"].as_str().unwrap().to_owned();
    let disk = environment.data().join("vms").join(id).join("disk.ext4");
    let check = |option: &str| {
        let mut check = environment.command("/sbin/e2fsck");
        environment.outcome(check.args(["-f", option]).arg(&disk))
    };
    let replayed = check("-p");
    assert!(replayed.code <= 1, "{}{}", replayed.text(), replayed.stderr);
    let checked = check("-n");
    assert_eq!(checked.code, 0, "{}{}", checked.text(), checked.stderr);
}
