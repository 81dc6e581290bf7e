//! A VMM without a machine: what tests of the daemon put first in `PATH` as `qemu-system-x86_64`.
//!
//! It is a real process under a real monitor: it takes the command line that `banger-engine` writes, opens the
//! files that are named there, prints to its standard output as a console, answers on a QMP socket, and speaks
//! the guest's side of the control channel. Only the emulated machine is not there: no kernel boots, so that a
//! VM is up in milliseconds, and there is no SSH server, so that `banger exec` has nobody to speak to.
//!
//! What it does is chosen by `fake-vmm.json` in the VM's directory or, when there is none, beside the program:
//! see [`Behaviour`]. While it runs it obeys lines on streams to the guest's port [`guest::COMMANDS`].
#![expect(
    clippy::expect_used,
    clippy::exit,
    clippy::print_stderr,
    reason = "a program for tests, which ends as it is told"
)]

mod guest;
mod qmp;

use std::io::Write as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use banger_types::guest::{INSPECT_PARAMETER, INSPECTION_PREFIX, TRIM_PARAMETER, TRIMMED_PREFIX};
use serde::Deserialize;

/// What a fake VM does unless it is told otherwise: boot, serve, and go down when it is asked to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Behaviour {
    /// Lines on the console, after the first one.
    console: Vec<String>,
    /// Prints nothing on the console, whatever happens.
    silent: bool,
    /// Ends with this code as soon as the console's lines are printed. A kernel that panics ends QEMU with 0.
    exit_at_boot: Option<i32>,
    /// The agent greets, and never says that it is ready.
    never_ready: bool,
    /// A shutdown is accepted, and nothing comes of it.
    ignore_shutdown: bool,
    /// Ends with this code when it goes down in order, not with 0.
    exit_at_shutdown: i32,
    /// What a guest says that is to look at its drive; by default that there is an ext4 with an init, and that its
    /// kernel can do everything. A silent one never answers.
    inspection: Option<serde_json::Value>,
}

impl Behaviour {
    fn read() -> Self {
        const NAME: &str = "fake-vmm.json";
        let program = std::env::args_os().next().unwrap_or_default();
        // Where what is installed with a VMM's program is, which a confined one may read.
        let prefix = Path::new(&program).ancestors().nth(2).expect("a prefix of directories");
        let installed = prefix.join("share/qemu").join(NAME);
        let json = std::fs::read(NAME).or_else(|_| std::fs::read(installed));
        json.map(|json| serde_json::from_slice(&json).expect("a behaviour")).unwrap_or_default()
    }
}

/// Whether the virtual CPUs run.
#[derive(Debug, Default)]
struct Machine {
    paused: Mutex<bool>,
    changed: Condvar,
    /// A write found no room, and the virtual CPUs stand still for it.
    out_of_space: AtomicBool,
    /// Who is told of what happens.
    listeners: Mutex<Vec<UnixStream>>,
}

impl Machine {
    fn is_paused(&self) -> bool {
        *self.paused.lock().expect("the machine's state")
    }

    fn set_paused(&self, paused: bool) {
        *self.paused.lock().expect("the machine's state") = paused;
        self.changed.notify_all();
    }

    /// Stands still as if the host had no room for what the guest writes.
    fn stall(&self) {
        self.out_of_space.store(true, Ordering::Release);
        self.set_paused(true);
        qmp::tell_of_stall(&mut self.listeners.lock().expect("the listeners"));
    }

    /// Waits until the virtual CPUs run: without them the guest does nothing.
    fn run(&self) {
        let paused = self.paused.lock().expect("the machine's state");
        drop(self.changed.wait_while(paused, |paused| *paused).expect("the machine's state"));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        print("QEMU emulator version 7.2.0 (fake)");
        return;
    }
    if value(&arguments, "-accel").as_deref() == Some("kvm") {
        fail("a fake has no KVM");
    }
    let behaviour = Behaviour::read();
    let files = open_files(&arguments);
    if value(&arguments, "-append").is_some_and(|words| words.contains(INSPECT_PARAMETER)) {
        return inspect(&behaviour);
    }
    if value(&arguments, "-append").is_some_and(|words| words.contains(TRIM_PARAMETER)) {
        return trim(&behaviour);
    }
    let machine = Arc::new(Machine::default());
    for server in values(&arguments, "-qmp") {
        let socket = option(&server, "unix:");
        qmp::listen(&socket.unwrap_or_else(|| fail("-qmp is not unix:NAME")), &machine);
    }
    let control = values(&arguments, "-chardev").find_map(|value| option(&value, "socket,id=control,fd="));
    let control = control.and_then(|number| number.parse().ok());
    let control = UnixStream::from(inherited(control.unwrap_or_else(|| fail("there is no control channel"))));
    if !behaviour.silent {
        print("fake guest: booting");
    }
    behaviour.console.iter().for_each(|line| print(line));
    if let Some(code) = behaviour.exit_at_boot {
        std::process::exit(code);
    }
    std::thread::spawn(read_console);
    guest::Guest::new(control, behaviour, machine).serve();
    // A VMM runs on, whatever becomes of its guest's channel.
    drop(files);
    hang()
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Answers what a guest would that looks at its drive.
fn inspect(behaviour: &Behaviour) {
    behaviour.console.iter().for_each(|line| print(line));
    if let Some(code) = behaviour.exit_at_boot {
        std::process::exit(code);
    }
    if behaviour.silent {
        hang();
    }
    let inspection = behaviour.inspection.clone().unwrap_or_else(|| {
        serde_json::json!({
            "kernel_release": "6.1.0-fake",
            "features": ["overlay", "ext4", "block", "console", "socket", "network"],
            "root": {"Ok": {
                "file_system": "ext4",
                "partition": null,
                "unclean": false,
                "init": "/sbin/init",
                "systemd": false,
            }},
        })
    });
    print(&format!("fake guest: {INSPECTION_PREFIX}{inspection}"));
}

/// Answers what a guest would that trims its drive.
fn trim(behaviour: &Behaviour) {
    behaviour.console.iter().for_each(|line| print(line));
    if behaviour.silent {
        hang();
    }
    print(&format!("fake guest: {TRIMMED_PREFIX}{}", serde_json::json!({"Ok": 4096})));
}

/// Opens what a VMM would read from and write to; it could not start without.
fn open_files(arguments: &[String]) -> Vec<std::fs::File> {
    let drives = values(arguments, "-drive").map(|drive| {
        let writable = !drive.contains(",readonly=on");
        let path = drive.split_once(",file.filename=").map(|(_, rest)| rest.replace(",,", "\0"));
        let path = path.and_then(|path| path.split(',').next().map(|path| path.replace('\0', ",")));
        (path.unwrap_or_else(|| fail(&format!("the drive '{drive}' has no file"))), writable)
    });
    let boot = ["-kernel", "-initrd"]
        .map(|name| (value(arguments, name).unwrap_or_else(|| fail(&format!("there is no {name}"))), false));
    let open = |(path, writable): (String, bool)| {
        let file = std::fs::OpenOptions::new().read(true).write(writable).open(&path);
        file.unwrap_or_else(|error| fail(&format!("cannot open '{path}': {error}")))
    };
    drives.chain(boot).map(open).collect()
}

fn values(arguments: &[String], name: &str) -> impl Iterator<Item = String> {
    arguments.windows(2).filter(move |pair| pair[0] == name).map(|pair| pair[1].clone())
}

fn value(arguments: &[String], name: &str) -> Option<String> {
    values(arguments, name).next()
}

/// Returns what follows `prefix`, up to the next option.
fn option(value: &str, prefix: &str) -> Option<String> {
    value.strip_prefix(prefix).and_then(|rest| rest.split(',').next()).map(str::to_owned)
}

#[expect(unsafe_code, reason = "inherited under a number from the command line")]
fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the monitor has opened it for this program, as the command line says, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Says what is typed on the console, line by line.
fn read_console() {
    for line in std::io::stdin().lines() {
        print(&format!("fake guest: typed: {}", line.expect("read the console")));
    }
}

/// Prints a line on the console.
fn print(line: &str) {
    let mut console = std::io::stdout().lock();
    writeln!(console, "{line}").and_then(|()| console.flush()).expect("print to the console");
}

fn fail(why: &str) -> ! {
    eprintln!("banger-test-vmm: {why}");
    std::process::exit(1)
}
