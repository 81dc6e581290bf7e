//! What the daemon dies in: works that are prepared, begun and looked at afterwards.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::path::Path;

use banger_api::Client;
use banger_api::request::PullRequest;
use banger_core::store::Store as _;
use banger_store::SqliteStore;
use banger_testkit::layers::{Layout, Packing, add, archive};
use banger_testkit::{Environment, Registry, RegistryOptions, not_run, pidfd, seed, wait_for_end};
use banger_types::address::HostPort;
use banger_types::location::variable;
use banger_types::monitor::Forward;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::size::Mebibytes;
use banger_types::space::PruneRequest;
use banger_types::vm::{VmRenameRequest, VmSetRequest, VmStopRequest};

use tar::EntryType;

use super::{Outcome, Work};
use crate::support::{Pipe, SMALL};

/// The thing that is being worked on.
const SUBJECT: &str = "subject";
/// What a VM that is renamed was called before.
const FORMER: &str = "former";
/// A VM that runs beside it all, and must not notice anything.
const WITNESS: &str = "witness";
/// The disk that `set` asks for, MiB.
const LARGER_DISK: u64 = 30 << 10;

/// The forward that comes and goes. Its port is of the range that no kernel gives to who asks for any (ip(7),
/// `ip_local_port_range`).
fn second_forward() -> Forward {
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    Forward { listen: HostPort::tcp(([127, 0, 0, 1], port)), guest_port: 7 }
}

/// A daemon that dies, and what its work is about.
pub(super) struct World {
    environment: Environment,
    client: Client,
    runtime: tokio::runtime::Runtime,
    /// What the witness is known by.
    witness: serde_json::Value,
    /// Whether there are machines in the VMs.
    real: bool,
    registry: OnceCell<Registry>,
    pipe: Pipe,
}

impl World {
    pub(super) fn new(environment: Environment, real: bool) -> Self {
        environment.succeed(&[&["vm", "create", WITNESS], &SMALL[..]].concat());
        let witness = environment.vm(WITNESS);
        let client = Client::new(environment.data().join("run/bangerd.sock"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { environment, client, runtime, witness, real, registry: OnceCell::new(), pipe: Pipe::new() }
    }

    /// Does it without a fault, and returns its phases.
    pub(super) fn phases(&self, work: Work) -> BTreeSet<String> {
        self.prepare(work);
        self.environment.succeed(&["daemon", "start"]);
        self.begin(work);
        let ended = self.settled("without a fault");
        assert_eq!(ended.status, OperationStatus::Succeeded, "{ended:?}");
        self.clean_up(work);
        ended.finished_phases.into_iter().map(|phase| phase.stage).collect()
    }

    pub(super) fn try_point(&self, point: &str, work: Work, outcome: Outcome) {
        if self.real && matches!(work, Work::Remake | Work::RegisterKernel | Work::DeleteKernel) {
            // No real guest would boot from a kernel without the modules that it needs.
            return;
        }
        if self.real && work == Work::PullRemote && banger_testkit::engine().is_some() {
            let test = format!("faults::the_same_with_real_vms ({point} in {work:?})");
            not_run(&test, "there is no docker-registry in a test host; outside of one it is tried");
            return;
        }
        self.prepare(work);
        self.environment.succeed(&["daemon", "stop"]);
        let start = self
            .environment
            .outcome(self.environment.banger(&["daemon", "start"]).env(variable::FAULT_POINT, point));
        assert_eq!(start.code, 0, "{point}: {}", start.stderr);
        let daemon = pidfd(self.environment.daemon_pid());
        self.begin(work);
        assert!(wait_for_end(&daemon), "{point} in {work:?}: the daemon did not get there");

        // The next command starts the next daemon.
        let operation = self.settled(point);
        self.check(point, work, outcome, &operation);
        self.check_witness(point);
        self.check_leftovers(point);
        self.clean_up(work);
    }

    /// Brings the subject into the state in which the work begins.
    fn prepare(&self, work: Work) {
        let create = [&["vm", "create", SUBJECT, "-p", "0:7"], &SMALL[..]].concat();
        match work {
            Work::Create
            | Work::Pull
            | Work::CancelPull
            | Work::PullRemote
            | Work::Register
            | Work::RegisterKernel => {}
            Work::Remake => {
                std::fs::write(self.kernel(), b"\x7fELF and so on").unwrap();
                self.register(false);
                std::fs::write(self.kernel(), b"\x7fELF and so on, newer").unwrap();
            }
            Work::DeleteImage => self.pull(false),
            Work::DeleteKernel => self.register_kernel(false),
            Work::Prune => {
                self.pull(false);
                // What had the name before is superseded.
                let newer = self.environment.data().with_file_name("newer.tar");
                std::fs::write(&newer, archive(|b| add(b, EntryType::Regular, b"file", b"", b"x"))).unwrap();
                self.pull_from(&newer, false);
            }
            Work::Start | Work::Set => {
                self.environment.succeed(&[&create[..], &["--no-start"]].concat());
            }
            Work::Rename => {
                self.environment.succeed(&[&["vm", "create", FORMER, "-p", "0:7"], &SMALL[..]].concat());
            }
            Work::RemoveForward => {
                self.environment.succeed(&create);
                self.call(self.client.add_forward(SUBJECT, &second_forward())).unwrap();
            }
            Work::AddForward | Work::Restart | Work::Stop | Work::Kill | Work::Pause | Work::Delete => {
                self.environment.succeed(&create);
            }
            Work::Resume => {
                self.environment.succeed(&create);
                let operation = self.call(self.client.pause_vm(SUBJECT)).unwrap();
                self.environment.succeed(&["op", "watch", operation.id.as_str()]);
            }
        }
    }

    fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Begins the work. The daemon may well be dead before it answers.
    fn begin(&self, work: Work) {
        let stop = VmStopRequest::default();
        let set = VmSetRequest { disk: Some(Mebibytes(LARGER_DISK)), ..VmSetRequest::default() };
        match work {
            Work::Create => {
                self.environment
                    .run(&[&["vm", "create", SUBJECT, "-p", "0:7", "--no-wait"], &SMALL[..]].concat());
            }
            Work::Start => drop(self.call(self.client.start_vm(SUBJECT))),
            Work::Restart => drop(self.call(self.client.restart_vm(SUBJECT, &stop))),
            Work::Stop => drop(self.call(self.client.stop_vm(SUBJECT, &stop))),
            Work::Kill => drop(self.call(self.client.kill_vm(SUBJECT))),
            Work::Pause => drop(self.call(self.client.pause_vm(SUBJECT))),
            Work::Resume => drop(self.call(self.client.resume_vm(SUBJECT))),
            Work::Delete => drop(self.call(self.client.delete_vm(SUBJECT, true))),
            Work::Set => drop(self.call(self.client.set_vm(SUBJECT, &set))),
            Work::Rename => {
                let name = VmRenameRequest { name: SUBJECT.parse().unwrap() };
                drop(self.call(self.client.rename_vm(FORMER, &name)));
            }
            Work::AddForward => drop(self.call(self.client.add_forward(SUBJECT, &second_forward()))),
            Work::RemoveForward => {
                drop(self.call(self.client.remove_forward(SUBJECT, second_forward().listen)));
            }
            Work::Pull => self.pull(true),
            Work::CancelPull => {
                let request = PullRequest { source: self.pipe.source(), name: Some(SUBJECT.to_owned()) };
                let begun = self.call(self.client.pull_image(&request)).unwrap();
                drop(self.call(self.client.cancel_operation(begun.id.as_str())));
            }
            Work::PullRemote => {
                let source = format!("docker://{}/subject", self.registry().host());
                self.environment.run(&["image", "pull", &source, "--name", SUBJECT, "--no-wait"]);
            }
            Work::Register => {
                std::fs::write(self.kernel(), b"\x7fELF and so on").unwrap();
                self.register(true);
            }
            Work::RegisterKernel => self.register_kernel(true),
            Work::DeleteImage => drop(self.call(self.client.delete_image(SUBJECT))),
            Work::DeleteKernel => drop(self.call(self.client.delete_kernel(SUBJECT))),
            Work::Prune => drop(self.call(self.client.prune(&PruneRequest::default()))),
            Work::Remake => drop(self.environment.run(&["kernel", "pull", SUBJECT, "--no-wait"])),
        }
    }

    /// A registry with an image, started by whoever needs it first.
    fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| {
            let registry = Registry::start(RegistryOptions::default());
            let directory = tempfile::tempdir().unwrap();
            let layer =
                |name: &str| archive(|b| add(b, EntryType::Regular, name.as_bytes(), b"", &[7; 5000]));
            let layers = [layer("one"), layer("two")];
            let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Packing::Gzip)).collect();
            let layout = Layout::of(directory.path(), &layers, &serde_json::json!({}));
            registry.push(&layout.path, "one", "subject");
            registry
        })
    }

    /// A kernel of the user's own.
    fn kernel(&self) -> std::path::PathBuf {
        self.environment.data().with_file_name("vmlinux")
    }

    /// Pulls an image, or begins to.
    fn pull(&self, begin: bool) {
        self.pull_from(&seed::directory().join("probe.tar"), begin);
    }

    fn pull_from(&self, tar: &Path, begin: bool) {
        let tar = format!("tar:{}", tar.display());
        let typed = ["image", "pull", &tar, "--name", SUBJECT, "--no-wait"];
        self.run_or_begin(&typed, begin);
    }

    /// Registers a kernel of the user's own, or begins to.
    fn register_kernel(&self, begin: bool) {
        std::fs::write(self.kernel(), b"\x7fELF and so on").unwrap();
        let kernel = self.kernel().to_str().unwrap().to_owned();
        let typed = ["kernel", "register", &kernel, "--name", SUBJECT, "--no-wait"];
        self.run_or_begin(&typed, begin);
    }

    /// Runs a command that ends with `--no-wait`, or without that to its good end. The daemon may well be dead before it
    /// answers who does not wait.
    fn run_or_begin(&self, typed: &[&str], begin: bool) {
        if begin {
            self.environment.run(typed);
        } else {
            self.environment.succeed(&typed[..typed.len() - 1]);
        }
    }

    /// Registers the seed's own image, as if it were the user's, or begins to.
    fn register(&self, begin: bool) {
        let store = SqliteStore::open(&self.environment.data().join("banger.db")).unwrap();
        let image = store.images().unwrap().into_iter().find(|image| image.name == seed::BUSYBOX).unwrap();
        let rootfs = seed::directory().join("images").join(image.id.as_str()).join("base.ext4");
        let files = [&rootfs, &self.kernel()].map(|path| path.to_str().unwrap().to_owned());
        let mut typed = vec!["image", "register", "--name", SUBJECT, "--rootfs", &files[0]];
        if !self.real {
            typed.extend(["--kernel", &files[1]]);
        }
        if begin {
            typed.push("--no-wait");
        }
        self.environment.run(&typed);
    }

    /// Waits until every operation has ended, and returns the newest.
    fn settled(&self, point: &str) -> Operation {
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(3);
        loop {
            let listed = self.environment.run(&["op", "ls", "--json"]);
            assert_eq!(listed.code, 0, "{point}: {}", listed.stderr);
            let operations: Vec<Operation> = serde_json::from_slice(&listed.stdout).unwrap();
            if operations.iter().all(|operation| operation.status.is_final()) {
                return operations.into_iter().next().unwrap();
            }
            assert!(std::time::Instant::now() < deadline, "{point}: {operations:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn check(&self, point: &str, work: Work, outcome: Outcome, operation: &Operation) {
        let context = || format!("{point} in {work:?}: {operation:?}\n{}", self.environment.last_words());
        let status = operation.status;
        if work == Work::CancelPull {
            // The one before it ended, and whoever asked was heard.
            assert_eq!(status, OperationStatus::Cancelled, "{}", context());
        }
        if work == Work::Prune {
            self.check_pruned(point, operation, &context());
        } else if work == Work::DeleteImage || work == Work::DeleteKernel {
            assert_eq!(status, OperationStatus::Succeeded, "{}", context());
        }
        if work.is_of_images() {
            let images = self.environment.succeed(&["image", "ls", "-q"]);
            let there = images.lines().any(|line| line == SUBJECT);
            assert_eq!(there, outcome != Outcome::Gone, "{}", context());
            assert!(!there || work == Work::Prune || status == OperationStatus::Succeeded, "{}", context());
            // A kernel that came with it is there with it, or gone with it.
            let kernels = names(&self.environment.data().join("kernels")).len();
            let comes = matches!(work, Work::Register | Work::Remake);
            assert_eq!(kernels, 1 + usize::from(comes && there && !self.real), "{}", context());
            if work == Work::Remake {
                let problem =
                    || self.environment.run(&["kernel", "show", SUBJECT, "--json"]).json()["problem"].clone();
                assert!(problem().is_null(), "what is there is not taken for the new one: {}", context());
            }
            return;
        }
        if matches!(work, Work::RegisterKernel | Work::DeleteKernel) {
            let shown = self.environment.run(&["kernel", "show", SUBJECT]);
            assert_eq!(shown.code == 0, outcome != Outcome::Gone, "{}", context());
            let kernels = names(&self.environment.data().join("kernels")).len();
            assert_eq!(kernels, 1 + usize::from(shown.code == 0), "{}", context());
            return;
        }
        let shown = self.environment.run(&["vm", "show", SUBJECT, "--json"]);
        let Outcome::Done(state) = outcome else {
            assert_eq!(shown.code, 3, "{}", context());
            return;
        };
        assert_eq!(shown.code, 0, "{}", context());
        let vm = shown.json();
        assert_eq!(vm["state"], state, "{}", context());
        // A change is no operation: the newest one is older than the fault.
        if work == Work::Set {
            assert_eq!(vm["spec"]["disk"], LARGER_DISK);
            self.environment.succeed(&["vm", "start", SUBJECT]);
            let disk = Path::new(vm["directory"].as_str().unwrap()).join("disk.ext4");
            assert_eq!(std::fs::metadata(disk).unwrap().len(), LARGER_DISK << 20, "{}", context());
            return;
        }
        let asked = operation.finished_phases.iter().any(|phase| phase.stage == "ask the guest to stop");
        assert!(work != Work::Kill || !asked, "a kill has become a stop: {}", context());
        // Nor are these; the newest operation is then the creation.
        assert_eq!(format!("{:?}", operation.status), "Succeeded", "{}", context());
        match work {
            Work::Rename => assert_eq!(self.environment.run(&["vm", "show", FORMER]).code, 3),
            // Whoever adds a forward and hears nothing has none, unless it is remembered; one whose end is remembered goes.
            Work::AddForward | Work::RemoveForward => {
                self.check_second_forward(point == "ForwardRemembered", &context());
                return;
            }
            _ => {}
        }
        if state == "running" {
            // The forward was not forgotten.
            let forwards = self.call(self.client.forwards(SUBJECT)).unwrap();
            assert_eq!(forwards.len(), 1, "{}", context());
            assert_ne!(forwards[0].listen.port(), 0, "{}", context());
            std::net::TcpStream::connect(forwards[0].listen.address).unwrap();
        }
    }

    /// What a prune had not come to is there, and what was gone is said.
    fn check_pruned(&self, point: &str, operation: &Operation, context: &str) {
        assert_eq!(operation.status, OperationStatus::Failed, "{context}");
        let superseded = || {
            let images = self.environment.succeed(&["image", "ls", "-q"]);
            images.lines().filter(|name| name.starts_with(&format!("{SUBJECT}@"))).count()
        };
        let gone = operation.pruned.as_ref().map_or(0, |pruned| pruned.items.len());
        assert_eq!((gone, superseded()), if point == "PruneTook" { (1, 0) } else { (0, 1) }, "{context}");
        self.environment.succeed(&["image", "prune", "--yes"]);
        assert_eq!(superseded(), 0, "{context}");
    }

    /// The second forward is there for everybody, or for nobody: the list, the monitor, and whoever connects.
    fn check_second_forward(&self, there: bool, context: &str) {
        let listen = second_forward().listen;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let agreed = || {
            let listed = self.call(self.client.forwards(SUBJECT)).unwrap();
            let connects = std::net::TcpStream::connect(listen.address).is_ok();
            (listed.iter().any(|forward| forward.listen == listen), connects, listed.len())
        };
        // The next daemon serves before it has asked each monitor.
        while agreed() != (there, there, 1 + usize::from(there)) {
            assert!(std::time::Instant::now() < deadline, "{context}: {:?}", agreed());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// The witness runs as if nothing had been, and answers.
    fn check_witness(&self, point: &str) {
        let now = self.environment.vm(WITNESS);
        for same in ["state", "started_at", "vmm_pid", "id"] {
            assert_eq!(now[same], self.witness[same], "{point}: {same}");
        }
        if self.real {
            self.environment.succeed(&["exec", WITNESS, "--", "/probe", "exit", "0"]);
            return;
        }
        // Every port of a fake guest is an echo.
        let mut stream = self.environment.connect(WITNESS, 7);
        stream.write_all(b"there?").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"there?");
    }

    /// No half-made file, no journal, no process that nobody knows.
    fn check_leftovers(&self, point: &str) {
        let data = self.environment.data();
        let partial = find(data, &|name| name.starts_with(".partial-"));
        assert!(partial.is_empty(), "{point}: {partial:?}");
        let vms: serde_json::Value = self.environment.run(&["vm", "ls", "--json"]).json();
        let known: BTreeSet<String> =
            vms.as_array().unwrap().iter().map(|vm| vm["id"].as_str().unwrap().to_owned()).collect();
        let there: BTreeSet<String> = names(&data.join("vms"));
        assert_eq!(there, known, "{point}");
        let store = SqliteStore::open(&data.join("banger.db")).unwrap();
        // What is registered is where its user has it.
        let own = store.images().unwrap().into_iter().filter(|image| image.registered.is_none());
        let images = own.map(|image| image.id.to_string()).collect();
        assert_eq!(names(&data.join("images")), images, "{point}");
        let kernels = store.kernels().unwrap().into_iter().map(|kernel| kernel.id.to_string()).collect();
        assert_eq!(names(&data.join("kernels")), kernels, "{point}");
        assert!(store.unsettled().unwrap().is_empty(), "{point}: the journal is not settled");
        let running: BTreeSet<String> = vms
            .as_array()
            .unwrap()
            .iter()
            .filter(|vm| !vm["vmm_pid"].is_null())
            .map(|vm| vm["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(busy_directories(&data.join("vms")), running, "{point}: processes");
    }

    fn clean_up(&self, work: Work) {
        if work.is_of_images() {
            self.environment.run(&["image", "rm", "--yes", SUBJECT]);
            // The next pull is to download them, too.
            for layers in ["layers/sha256", "layers/diff-ids"] {
                let layers = self.environment.data().join(layers);
                for layer in names(&layers) {
                    std::fs::remove_file(layers.join(layer)).unwrap();
                }
            }
        } else if matches!(work, Work::RegisterKernel | Work::DeleteKernel) {
            self.environment.run(&["kernel", "rm", "--yes", SUBJECT]);
        } else {
            self.environment.run(&["vm", "rm", "--force", "--yes", SUBJECT]);
        }
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(find(&entry.path(), wanted));
        }
    }
    found
}

/// The directories of VMs in which any process works: monitors, VMMs and their helpers all do.
fn busy_directories(vms: &Path) -> BTreeSet<String> {
    let vms = vms.canonicalize().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let places = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    places
        .filter(|place| place.starts_with(&vms))
        .filter_map(|place| place.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect()
}
