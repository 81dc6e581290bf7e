//! A VM's directory with a real monitor in it, and a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use banger_types::address::HostPort;
use banger_types::guest::Service;
use banger_types::location::variable;
use banger_types::monitor::{
    ChannelSource, DialTerms, EndReason, Forward, InheritedDescriptor, LaunchSpec, MonitorPhase,
    MonitorReply, MonitorRequest, MonitorStatus, Program, SocketRequest, file,
};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use tempfile::TempDir;

use crate::fake_vmm::COMMANDS;

/// How long anything may take. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A monitor that is up.
pub(crate) struct Vm {
    pub(crate) directory: TempDir,
    pub(crate) monitor: Child,
    pub(crate) status: MonitorStatus,
}

/// Returns the launch of a fake VMM that finds its channel as number 3.
pub(crate) fn launch() -> LaunchSpec {
    let path = std::env::current_exe().unwrap();
    let arguments = ["--exact", "fake_vmm::fake_vmm", "--ignored", "--nocapture", "--quiet"];
    LaunchSpec {
        helpers: Vec::new(),
        vmm: Program {
            name: "fake".to_owned(),
            path,
            arguments: arguments.map(str::to_owned).to_vec(),
            descriptors: vec![InheritedDescriptor { number: 3, pair: "control".to_owned() }],
        },
        channel: ChannelSource::Pair("control".to_owned()),
        resume: None,
        standing: None,
        control_group: None,
        sockets: Vec::new(),
        log_limit: 1 << 20,
    }
}

/// Where the fake guest knocks when its channel is dialed.
pub(crate) const KNOCK: &str = "knock.sock";
/// Where the fake VMM is dialed.
pub(crate) const DIALED: &str = "dialed.sock";

/// Returns the launch of a fake VMM whose channel is dialed; its script says `dialed`.
pub(crate) fn dialed() -> LaunchSpec {
    let mut spec = launch();
    spec.vmm.descriptors.clear();
    let ask = SocketRequest { socket: DIALED.into(), request: "CONNECT 1\n".to_owned() };
    spec.channel = ChannelSource::Dial(DialTerms { knock: KNOCK.into(), ask, accepted: "OK ".to_owned() });
    spec.sockets = vec![DIALED.into()];
    spec
}

/// Returns a helper that runs a line of shell.
pub(crate) fn helper(script: &str) -> Program {
    Program {
        name: "helper".to_owned(),
        path: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        descriptors: Vec::new(),
    }
}

/// Makes a VM's directory.
pub(crate) fn directory(spec: &LaunchSpec, script: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(file::LAUNCH), serde_json::to_vec(spec).unwrap()).unwrap();
    std::fs::write(directory.path().join("fake.txt"), script).unwrap();
    directory
}

/// Starts a monitor and returns it with what it said when it was up.
pub(crate) fn spawn(directory: &Path) -> (Child, Result<MonitorStatus, String>) {
    spawn_with(directory, "60000")
}

/// The same, with a limit for the way down when the host goes down, milliseconds.
fn spawn_with(directory: &Path, shutdown_limit: &str) -> (Child, Result<MonitorStatus, String>) {
    // Not close-on-exec, like everything that a careless spawner has open.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let monitor = Command::new(env!("CARGO_BIN_EXE_banger-monitor"))
        .arg(directory)
        .env(variable::READY_DESCRIPTOR, writer.as_raw_fd().to_string())
        .env(variable::SHUTDOWN_LIMIT, shutdown_limit)
        .env("A_SECRET", "of the daemon")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(writer);
    let mut line = String::new();
    BufReader::new(std::fs::File::from(reader)).read_line(&mut line).unwrap();
    (monitor, serde_json::from_str(&line).unwrap())
}

impl Vm {
    /// Starts a monitor with a fake VMM.
    pub(crate) fn start(spec: &LaunchSpec, script: &str) -> Self {
        let directory = directory(spec, script);
        let (monitor, status) = spawn(directory.path());
        Self { directory, monitor, status: status.unwrap() }
    }

    /// Starts one whose guest gets so many milliseconds for its way down when the host goes down.
    pub(crate) fn start_with_limit(spec: &LaunchSpec, script: &str, milliseconds: &str) -> Self {
        let directory = directory(spec, script);
        let (monitor, status) = spawn_with(directory.path(), milliseconds);
        Self { directory, monitor, status: status.unwrap() }
    }

    /// Starts a plain one and waits until the guest is ready.
    pub(crate) fn ready() -> Self {
        let vm = Self::start(&launch(), "");
        vm.await_phase(|phase| *phase == MonitorPhase::Ready);
        vm
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path(file::SOCKET))
    }

    /// Asks once, on a connection of its own.
    pub(crate) fn ask(&self, request: &MonitorRequest) -> MonitorReply {
        self.connect().ask(request)
    }

    /// Waits until the guest is ready.
    pub(crate) fn await_ready(&self) -> MonitorStatus {
        self.await_phase(|phase| *phase == MonitorPhase::Ready)
    }

    /// Watches until the phase is as wanted.
    pub(crate) fn await_phase(&self, wanted: impl Fn(&MonitorPhase) -> bool) -> MonitorStatus {
        self.await_status(|status| wanted(&status.phase))
    }

    /// Watches until the state is as wanted.
    pub(crate) fn await_status(&self, wanted: impl Fn(&MonitorStatus) -> bool) -> MonitorStatus {
        let mut watcher = self.connect();
        let MonitorReply::Status(mut status) = watcher.ask(&MonitorRequest::Watch) else { panic!() };
        while !wanted(&status) {
            status = watcher.read_line();
        }
        status
    }

    /// Returns a stream to a port of the guest.
    pub(crate) fn stream(&self, port: u16) -> Client {
        let mut client = self.connect();
        assert_eq!(client.ask(&MonitorRequest::Connect(Service::Tcp(port))), MonitorReply::Connected);
        client
    }

    /// Makes a forward to a port of the guest.
    pub(crate) fn forward(&self, listen: &str, guest_port: u16) -> HostPort {
        let listen: HostPort = listen.parse().unwrap();
        let reply = self.ask(&MonitorRequest::ForwardAdd(Forward { listen, guest_port }));
        let MonitorReply::Forward(forward) = reply else { panic!("{reply:?}") };
        assert_eq!((forward.listen.ip(), forward.guest_port), (listen.ip(), guest_port));
        assert_ne!(forward.listen.port(), 0);
        forward.listen
    }

    /// Gives the fake VMM a command.
    pub(crate) fn command(&self, line: &str) -> Client {
        let mut stream = self.stream(COMMANDS);
        stream.write(format!("{line}\n").as_bytes());
        stream
    }

    /// Waits for the monitor's own end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let id = Pid::from_child(&self.monitor);
        assert!(ends(id), "the monitor did not end");
        self.monitor.wait().unwrap()
    }

    /// Waits for the end and returns what the state's file says then.
    pub(crate) fn wait_for_end(&mut self) -> MonitorStatus {
        assert!(self.wait().success());
        serde_json::from_str(&self.read(file::STATUS)).unwrap()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ended = self.monitor.kill();
        let _status = self.monitor.wait();
    }
}

/// Whether a process ends in time. It may have ended already.
pub(crate) fn ends(id: Pid) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(id, PidfdFlags::empty()) else { return true };
    let mut wanted = [PollFd::new(&pidfd, PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    rustix::event::poll(&mut wanted, Some(&patience)).unwrap() == 1
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

pub(crate) fn kill(id: u32, signal: Signal) {
    rustix::process::kill_process(pid(id), signal).unwrap();
}

/// Returns how a VM has ended.
pub(crate) fn end(status: &MonitorStatus) -> &EndReason {
    let MonitorPhase::Ended(reason) = &status.phase else { panic!("{:?}", status.phase) };
    reason
}

/// Returns the number in a line of a process's status (`proc_pid_status(5)`), as `RssAnon:`.
pub(crate) fn process_status(id: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.split_whitespace().next().unwrap().parse().unwrap()
}

/// Waits until a condition on files holds, where no event says so.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection to the control socket.
pub(crate) struct Client {
    pub(crate) reader: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(socket) }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, request: &MonitorRequest) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.write(&line);
    }

    pub(crate) fn ask(&mut self, request: &MonitorRequest) -> MonitorReply {
        self.send(request);
        self.read_line()
    }

    pub(crate) fn read_line<T: serde::de::DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the connection ended after '{line}'");
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn finish(&mut self) {
        self.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).unwrap();
        bytes
    }
}
