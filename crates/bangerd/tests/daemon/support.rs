//! A daemon with fake VMs, asked through its API.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_api::{Client, ClientError};
use banger_testkit::{Environment, Outcome, pidfd, seed};
use banger_types::operation::{Operation, OperationStatus, Progress};
use banger_types::size::Mebibytes;
use banger_types::vm::{NetworkMode, Vm, VmCreateRequest, VmState};
use banger_types::{ApiError, ErrorKind};

/// What a VM of these tests is made with, as arguments.
pub(crate) const SMALL: [&str; 8] =
    ["--image", seed::PROBE, "--memory", "256M", "--vcpus", "1", "--net", "none"];

/// How long something that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The daemon, and how to talk to it.
pub(crate) struct Daemon {
    pub(crate) environment: Environment,
    pub(crate) client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Starts one.
    pub(crate) fn new() -> Self {
        Self::of(Environment::with_fake_vmm())
    }

    /// Starts one in an environment.
    pub(crate) fn of(environment: Environment) -> Self {
        environment.succeed(&["daemon", "start"]);
        let client = Client::new(environment.data().join("run/bangerd.sock"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { environment, client, runtime }
    }

    /// Waits for the answer to a call.
    pub(crate) fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Returns the error that the daemon answers a call with.
    pub(crate) fn refused<T: std::fmt::Debug>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> ApiError {
        match self.call(call) {
            Err(ClientError::Api(error)) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Waits for the end of the operation that a call begins, and returns it.
    pub(crate) fn finish(&self, call: impl Future<Output = Result<Operation, ClientError>>) -> Operation {
        let begun = self.call(call).unwrap();
        self.call(async {
            let mut lines = self.client.watch_operation(begun.id.as_str()).await.unwrap();
            let mut last = begun;
            while let Some(operation) = lines.next().await.unwrap() {
                last = operation;
            }
            last
        })
    }

    /// Waits for the end of the operation that a call begins, which must be a good one.
    pub(crate) fn succeed(&self, call: impl Future<Output = Result<Operation, ClientError>>) {
        let operation = self.finish(call);
        assert_eq!(operation.status, OperationStatus::Succeeded, "{operation:?}");
    }

    /// Follows an operation until it is as it should be, and returns it.
    pub(crate) fn follow_until(
        &self,
        operation: &Operation,
        is_there: impl Fn(&Operation) -> bool,
    ) -> Operation {
        self.call(async {
            let mut changes = self.client.watch_operation(operation.id.as_str()).await.unwrap();
            while let Some(operation) = changes.next().await.unwrap() {
                if is_there(&operation) {
                    return operation;
                }
            }
            panic!("{} ended before", operation.id)
        })
    }

    /// Follows an operation until it is in a phase.
    pub(crate) fn reach(&self, operation: &Operation, stage: &str) {
        self.follow(operation, |progress| progress.stage == stage);
    }

    /// Follows an operation until it has come so far.
    pub(crate) fn follow(&self, operation: &Operation, is_there: impl Fn(&Progress) -> bool) {
        self.call(async {
            let mut lines = self.client.watch_operation(operation.id.as_str()).await.unwrap();
            let mut last = None;
            while let Some(operation) = lines.next().await.unwrap() {
                if operation.progress.as_ref().is_some_and(&is_there) {
                    return;
                }
                last = Some(operation);
            }
            panic!("the operation ended before: {last:?}")
        });
    }

    /// Makes a VM and boots it.
    pub(crate) fn create(&self, name: &str, change: impl FnOnce(&mut VmCreateRequest)) {
        self.succeed(self.client.create_vm(&request(name, change)));
    }

    /// Returns a VM.
    pub(crate) fn vm(&self, name: &str) -> Vm {
        self.call(self.client.vm(name)).unwrap()
    }

    /// Waits until a VM is as it should be. Follows its changes: nothing is asked again and again.
    pub(crate) fn wait(&self, name: &str, wanted: impl Fn(&Vm) -> bool) -> Vm {
        self.call(async {
            let follow = async {
                let mut changes = self.client.watch_vm(name).await.unwrap();
                while let Some(vm) = changes.next().await.unwrap() {
                    if wanted(&vm) {
                        return vm;
                    }
                }
                panic!("{name} is gone")
            };
            if let Ok(vm) = tokio::time::timeout(LIMIT, follow).await {
                return vm;
            }
            panic!("waited in vain for {name}: {:?}", self.client.vm(name).await)
        })
    }

    /// Waits until a VM is in this state.
    pub(crate) fn wait_for(&self, name: &str, state: VmState) -> Vm {
        self.wait(name, |vm| vm.state == state)
    }

    /// Returns the process id of the VM's monitor.
    pub(crate) fn monitor_pid(&self, name: &str) -> i32 {
        self.environment.monitor_pid(name)
    }

    /// Returns the process id of the VM's VMM.
    pub(crate) fn vmm_pid(&self, name: &str) -> i32 {
        i32::try_from(self.vm(name).vmm_pid.unwrap()).unwrap()
    }

    /// Lets the guest do something: a line of `banger-test-vmm`'s.
    pub(crate) fn guest(&self, name: &str, command: &str) {
        use std::io::Write as _;
        self.environment.connect(name, 1).write_all(format!("{command}\n").as_bytes()).unwrap();
    }
}

/// A pipe that nobody writes to: whoever makes an image of it waits until they are told not to.
pub(crate) struct Pipe {
    directory: tempfile::TempDir,
    /// Somebody could write to it for as long as it is open.
    _open: std::fs::File,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        // Opened for both, it does not wait for anybody.
        let open = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        Self { directory, _open: open }
    }

    /// Returns what an image can be pulled from.
    pub(crate) fn source(&self) -> String {
        format!("tar:{}", self.directory.path().join("pipe").display())
    }
}

/// Returns the request for a small VM.
pub(crate) fn request(name: &str, change: impl FnOnce(&mut VmCreateRequest)) -> VmCreateRequest {
    let mut request = VmCreateRequest {
        name: Some(name.parse().unwrap()),
        image: Some(seed::PROBE.to_owned()),
        memory: Some(Mebibytes(256)),
        vcpus: Some(1),
        network: Some(NetworkMode::None),
        engine: banger_testkit::engine().map(|engine| serde_json::from_value(engine.into()).unwrap()),
        ..VmCreateRequest::default()
    };
    change(&mut request);
    request
}

/// Kills a process as a crash would; returns when it was done, and what tells of its end.
pub(crate) fn kill(pid: i32) -> (Instant, OwnedFd) {
    let process = pidfd(pid);
    rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL).unwrap();
    (Instant::now(), process)
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::pidfd_send_signal(pidfd(pid), signal).unwrap();
}

/// Fails unless an error has this kind and says this somewhere.
pub(crate) fn assert_says(error: &ApiError, kind: ErrorKind, words: &str) {
    let text = format!("{} {} {}", error.what, error.why.join(" "), error.fix.clone().unwrap_or_default());
    assert!(error.kind == kind && text.contains(words), "{error:?}");
}

/// Runs `banger`, which must end with this code. Returns its error, with `[DATA]` for the data directory.
pub(crate) fn refuse(environment: &Environment, code: i32, arguments: &[&str]) -> String {
    let outcome = environment.run(arguments);
    assert_eq!(outcome.code, code, "banger {arguments:?}: {}", outcome.stderr);
    assert_eq!(outcome.text(), "", "banger {arguments:?}");
    error(environment, &outcome)
}

/// Returns the error that a command ended with, with `[DATA]` for the data directory. What comes before tells of progress.
pub(crate) fn error(environment: &Environment, outcome: &Outcome) -> String {
    let said = named(environment, &outcome.stderr);
    let start = said.find("error: ").unwrap_or_else(|| panic!("no error: {said}"));
    said[start..].to_owned()
}

/// Returns a text with `[DATA]` for the data directory.
pub(crate) fn named(environment: &Environment, text: &str) -> String {
    text.replace(environment.data().to_str().unwrap(), "[DATA]")
}

/// Returns the names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Fails unless all that there is are these VMs, images and kernels, whole, and no process but those of VMs that run.
pub(crate) fn assert_left(environment: &Environment, vms: usize, images: usize, kernels: usize) {
    for (directory, expected) in [("vms", vms), ("images", images), ("kernels", kernels)] {
        let names = names(&environment.data().join(directory));
        assert!(names.len() == expected, "{directory}: {names:?}");
        assert!(names.iter().all(|name| !name.starts_with('.')), "{directory}: {names:?}");
    }
    let operations = environment.run(&["op", "ls", "--json"]).json();
    let under_way = ["pending", "running", "cancelling"];
    let running = operations.as_array().unwrap().iter();
    let running = running.filter(|it| under_way.iter().any(|status| it["status"] == *status));
    assert_eq!(running.count(), 0, "{operations}");
    let listed = environment.run(&["vm", "ls", "--json"]).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), vms);
    let alive = listed.iter().filter(|vm| !vm["vmm_pid"].is_null()).count();
    let monitors = processes_in(&environment.data().join("vms"));
    assert_eq!(monitors.len(), 2 * alive, "a monitor and a VMM for each: {monitors:?}");
}

/// Returns the processes that work in a directory or beneath it.
pub(crate) fn processes_in(directory: &Path) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let processes = processes.map(|entry| entry.path());
    let works = |process: &PathBuf| {
        std::fs::read_link(process.join("cwd")).is_ok_and(|working| working.starts_with(directory))
    };
    processes.filter(works).collect()
}

/// Returns the memory of a process, KiB (`proc_pid_status(5)`).
pub(crate) fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
