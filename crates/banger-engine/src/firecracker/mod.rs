//! Firecracker, with KVM.
//!
//! It reads its whole configuration from a file when it starts, so that a monitor can start it again for a guest that
//! reboots, without anybody to make requests. Its API is for what comes later: pausing, and asking.

mod client;
mod configuration;
#[cfg(test)]
mod specification;
mod version;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_core::command::Commands;
use banger_core::engine::{
    BootPlan, Engine, EngineError, EngineProgram, LaunchPlan, PlannedFile, Probe, ProbePlan, VmmEvent,
    VmmStatus,
};
use banger_types::guest::CONTROL_SOCKET_PORT;
use banger_types::monitor::{ChannelSource, DialTerms, LaunchSpec, Program, SocketQuestion, SocketRequest};
use banger_types::vm::{Accelerator, EngineKind, NetworkMode};

use self::client::{Client, VmState};
use self::version::Version;
use crate::program::{Versions, chain};

/// The program.
const PROGRAM: &str = "firecracker";
/// How it is installed.
const INSTALL: &str = "put a release of it on the daemon's PATH, or name it with BANGER_FIRECRACKER";
/// Names another program to run in its place.
const VARIABLE: &str = "BANGER_FIRECRACKER";
/// The configuration, in the VM's directory.
const CONFIGURATION: &str = "firecracker.json";
/// The API's socket, in the VM's directory.
const API_SOCKET: &str = "firecracker.sock";
/// The socket device's side on the host, in the VM's directory.
const VSOCK: &str = "vsock.sock";
/// What it logs: not each request.
const LEVEL: &str = "Warn";
/// Most bytes of a log before it is rotated.
const LOG_LIMIT: u64 = 4 << 20;

/// Firecracker on this host.
pub struct Firecracker {
    commands: Arc<dyn Commands>,
    versions: Versions,
}

impl std::fmt::Debug for Firecracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Firecracker")
    }
}

impl Firecracker {
    /// Returns the engine; it looks for Firecracker through `commands` at each launch.
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { versions: Versions::new(Arc::clone(&commands)), commands }
    }

    /// Returns the program, its version, and what is to be said about that. Refuses versions that are not run.
    fn look(&self) -> Result<(PathBuf, Version, Option<String>), EngineError> {
        let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        let name = named.as_deref().unwrap_or(PROGRAM);
        let path = self
            .commands
            .find(name)
            .ok_or_else(|| EngineError::NotInstalled { program: name.to_owned(), fix: INSTALL.to_owned() })?;
        let unusable =
            |reason| EngineError::Unusable { program: path.clone(), reason, fix: INSTALL.to_owned() };
        let line = self.versions.of(&path).map_err(|error| unusable(chain(&error)))?;
        let version =
            Version::parse(&line).ok_or_else(|| unusable(format!("it does not say that it is {PROGRAM}")))?;
        let warning = version.judge().map_err(unusable)?;
        Ok((path, version, warning))
    }
}

/// Firecracker with these arguments.
fn program(path: PathBuf, arguments: &[&str]) -> Program {
    Program {
        name: PROGRAM.to_owned(),
        path,
        arguments: arguments.iter().copied().map(str::to_owned).collect(),
        descriptors: Vec::new(),
    }
}

impl Engine for Firecracker {
    fn kind(&self) -> EngineKind {
        EngineKind::Firecracker
    }

    fn program(&self) -> Result<EngineProgram, EngineError> {
        let (path, version, _) = self.look()?;
        Ok(EngineProgram { path, version: version.to_string() })
    }

    fn supports(&self, network: NetworkMode) -> Result<(), EngineError> {
        match network {
            NetworkMode::None => Ok(()),
            NetworkMode::User => Err(EngineError::Unsupported {
                engine: PROGRAM,
                what: "user-mode network yet",
                fix: "create the VM with `--net none` or `--engine qemu`".to_owned(),
            }),
        }
    }

    fn probe(&self, plan: &ProbePlan) -> Result<Probe, EngineError> {
        let (path, ..) = self.look()?;
        let content = configuration::probe(plan)?;
        let arguments =
            ["--no-api", "--config-file", CONFIGURATION, "--log-path", "/dev/stderr", "--level", LEVEL];
        let vmm = program(path, &arguments);
        Ok(Probe { vmm, files: vec![PlannedFile { name: CONFIGURATION, content }] })
    }

    fn plan(&self, plan: &BootPlan) -> Result<LaunchPlan, EngineError> {
        let (path, _, warning) = self.look()?;
        if plan.network.is_some() {
            self.supports(NetworkMode::User)?;
        }
        let content = configuration::document(plan)?;
        let api = ["--api-sock", API_SOCKET];
        let rest = ["--config-file", CONFIGURATION, "--log-path", "/dev/stderr", "--level", LEVEL];
        let vmm = program(path, &[&api[..], &rest[..]].concat());
        let launch = LaunchSpec {
            helpers: Vec::new(),
            vmm,
            channel: ChannelSource::Dial(dial()),
            sockets: vec![API_SOCKET.into(), VSOCK.into()],
            resume: Some(request(&client::resume())),
            standing: Some(SocketQuestion {
                ask: request(&client::describe()),
                yes: vec!["\"state\":\"Paused\"".to_owned()],
                no: vec!["\"state\":\"Running\"".to_owned()],
            }),
            log_limit: LOG_LIMIT,
        };
        let files = vec![PlannedFile { name: CONFIGURATION, content }];
        Ok(LaunchPlan { launch, files, warnings: warning.into_iter().collect() })
    }

    fn inspect(&self, directory: &Path) -> Result<VmmStatus, EngineError> {
        let state = Client::connect(directory)?.state()?;
        Ok(VmmStatus {
            running: state == VmState::Running,
            out_of_space: false,
            accelerator: Accelerator::Kvm,
        })
    }

    fn events(&self, _directory: &Path) -> Result<Option<UnixStream>, EngineError> {
        Ok(None)
    }

    fn event(&self, _line: &str) -> Option<VmmEvent> {
        None
    }

    fn pause(&self, directory: &Path) -> Result<(), EngineError> {
        Client::connect(directory)?.change(&client::pause())
    }

    fn resume(&self, directory: &Path) -> Result<(), EngineError> {
        Client::connect(directory)?.change(&client::resume())
    }
}

/// How the monitor connects to the guest (Firecracker, docs/vsock.md).
fn dial() -> DialTerms {
    DialTerms {
        knock: format!("{VSOCK}_{CONTROL_SOCKET_PORT}").into(),
        ask: SocketRequest { socket: VSOCK.into(), request: format!("CONNECT {CONTROL_SOCKET_PORT}\n") },
        accepted: "OK ".to_owned(),
    }
}

/// A request of the API, for who speaks no HTTP.
fn request(request: &client::Request) -> SocketRequest {
    SocketRequest { socket: API_SOCKET.into(), request: request.to_string() }
}
