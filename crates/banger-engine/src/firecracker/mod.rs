//! Firecracker, with KVM.
//!
//! It reads its whole configuration from a file when it starts, so that a monitor can start it again for a guest that
//! reboots, without anybody to make requests. Its API is only asked how it is.

mod client;
mod configuration;
mod jail;
mod release;
#[cfg(test)]
mod specification;
mod version;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_core::command::Commands;
use banger_core::engine::{
    BootPlan, Engine, EngineError, EngineProgram, Installer, LaunchPlan, PlannedFile, Probe, ProbePlan,
    Release, RunningVmm, VmmEvent, VmmStatus,
};
use banger_core::network::{Attachment, CardKind, NetworkPlan};
use banger_core::process::Processes;
use banger_types::error::chain;
use banger_types::guest::CONTROL_SOCKET_PORT;
use banger_types::location::variable;
use banger_types::monitor::{ChannelSource, DialTerms, LaunchSpec, Program, SocketRequest};
use banger_types::vm::{Accelerator, EngineKind};

use self::client::{Client, VmState};
use self::version::Version;
use crate::LOG_LIMIT;
use crate::confinement::Confinement;
use crate::program::Versions;

/// The program.
const PROGRAM: &str = "firecracker";
/// How it is installed.
const INSTALL: &str = "`banger engine install` downloads a release; BANGER_FIRECRACKER names one of your own";
/// The configuration, in the VM's directory.
const CONFIGURATION: &str = "firecracker.json";
/// The API's socket, in the VM's directory.
const API_SOCKET: &str = "firecracker.sock";
/// The socket device's side on the host, in the VM's directory.
const VSOCK: &str = "vsock.sock";
/// What it logs: not each request.
const LEVEL: &str = "Warn";
/// Most virtual CPUs of a VM (its API, `MachineConfiguration.vcpu_count`).
const MOST_VCPUS: u32 = 32;

/// Firecracker on this host.
pub struct Firecracker {
    commands: Arc<dyn Commands>,
    processes: Arc<dyn Processes>,
    confinement: Arc<Confinement>,
    versions: Versions,
    /// Where banger has installed releases.
    installed: PathBuf,
}

impl std::fmt::Debug for Firecracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Firecracker")
    }
}

impl Firecracker {
    /// Returns the engine. At each launch it looks for the program that `BANGER_FIRECRACKER` names, else for the newest
    /// that can be run of those in `installed`, else for one on `PATH`.
    pub fn new(
        commands: Arc<dyn Commands>,
        processes: Arc<dyn Processes>,
        installed: PathBuf,
        confinement: Arc<Confinement>,
    ) -> Self {
        Self { versions: Versions::new(Arc::clone(&commands)), commands, processes, confinement, installed }
    }

    /// Returns the program. Refuses versions that are not run.
    fn look(&self) -> Result<Found, EngineError> {
        let named = std::env::var(variable::FIRECRACKER).ok().filter(|name| !name.is_empty());
        let candidates = match &named {
            Some(name) => self.commands.find(name).into_iter().collect(),
            None => release::all_in(&self.installed).into_iter().chain(self.commands.find(PROGRAM)).collect(),
        };
        self.first_of(candidates).unwrap_or_else(|| {
            let program = named.unwrap_or_else(|| PROGRAM.to_owned());
            Err(EngineError::NotInstalled { program, fix: INSTALL.to_owned() })
        })
    }

    /// Returns the first of these programs that can be run, else what is wrong with the first.
    fn first_of(&self, candidates: Vec<PathBuf>) -> Option<Result<Found, EngineError>> {
        let mut problem = None;
        for path in candidates {
            match judge(&self.versions, &path) {
                Ok((version, warning)) => return Some(Ok(Found { path, version, warning })),
                Err(error) => drop(problem.get_or_insert(error)),
            }
        }
        problem.map(Err)
    }

    fn control(vmm: &RunningVmm, error: std::io::Error) -> EngineError {
        EngineError::Control { directory: vmm.directory.clone(), source: error.into() }
    }
}

/// The program that is run.
struct Found {
    path: PathBuf,
    version: Version,
    /// What is to be said about it.
    warning: Option<String>,
}

/// Asks a program for its version, and returns that and what is to be said about it. Refuses what is no Firecracker, and
/// versions that are not run.
fn judge(versions: &Versions, path: &Path) -> Result<(Version, Option<String>), EngineError> {
    let unusable =
        |reason| EngineError::Unusable { program: path.to_owned(), reason, fix: INSTALL.to_owned() };
    let line = versions.of(path).map_err(|error| unusable(chain(&error)))?;
    let version =
        Version::parse(&line).ok_or_else(|| unusable(format!("it does not say that it is {PROGRAM}")))?;
    let warning = version.judge().map_err(unusable)?;
    Ok((version, warning))
}

/// Firecracker, with what is said of its API, and what is the same each time.
fn program(path: PathBuf, api: &[&str]) -> Program {
    let same = ["--config-file", CONFIGURATION, "--log-path", "/dev/stderr", "--level", LEVEL];
    Program {
        name: PROGRAM.to_owned(),
        path,
        arguments: api.iter().chain(&same).copied().map(str::to_owned).collect(),
        descriptors: Vec::new(),
    }
}

impl Engine for Firecracker {
    fn kind(&self) -> EngineKind {
        EngineKind::Firecracker
    }

    fn emulates(&self) -> bool {
        false
    }

    /// Its block device reads, writes, flushes and tells its id, and nothing else (virtio 1.2, 5.2.6: `VIRTIO_BLK_T_DISCARD`).
    fn discards(&self) -> bool {
        false
    }

    fn most_vcpus(&self) -> u32 {
        MOST_VCPUS
    }

    fn installer(&self) -> Option<&dyn Installer> {
        Some(self)
    }

    fn program(&self) -> Result<EngineProgram, EngineError> {
        let Found { path, version, .. } = self.look()?;
        Ok(EngineProgram { path, version: version.to_string() })
    }

    fn card_kind(&self) -> CardKind {
        CardKind::Tap
    }

    fn jails(&self) -> bool {
        true
    }

    fn has_network_stack(&self) -> bool {
        false
    }

    fn probe(&self, plan: &ProbePlan) -> Result<Probe, EngineError> {
        let Found { path, .. } = self.look()?;
        let content = configuration::probe(plan)?;
        let vmm = program(path, &["--no-api"]);
        Ok(Probe { vmm, files: vec![PlannedFile { name: CONFIGURATION, content }] })
    }

    fn plan(&self, plan: &BootPlan) -> Result<LaunchPlan, EngineError> {
        let Found { path, warning, .. } = self.look()?;
        if let Some(jail) = &plan.jail {
            return jail::plan(plan, jail, &path, warning);
        }
        let content = configuration::document(plan, VSOCK)?;
        let vmm = program(path, &["--api-sock", API_SOCKET]);
        // It connects to its monitor, for the guest that knocks.
        let own = plan.directory.join(CONFIGURATION);
        let vmm = self.confinement.confine(PROGRAM, vmm, plan, Some(&own), true)?;
        let (vmm, helpers) = match &plan.network {
            None => (vmm, Vec::new()),
            Some(NetworkPlan { attachment: Attachment::Device(_), helpers, .. }) => (vmm, helpers.clone()),
            Some(NetworkPlan { attachment: Attachment::Tap { through, .. }, helpers, .. }) => {
                (start_through(through, vmm)?, helpers.clone())
            }
            Some(_) => return Err(EngineError::Attachment { engine: PROGRAM }),
        };
        let launch = LaunchSpec {
            helpers,
            vmm,
            channel: ChannelSource::Dial(dial(VSOCK)),
            sockets: sockets(),
            // A guest that stands still does so with its whole VMM, which monitors see and change by themselves.
            resume: None,
            standing: None,
            control_group: None,
            log_limit: LOG_LIMIT,
        };
        let files = vec![PlannedFile { name: CONFIGURATION, content }];
        Ok(LaunchPlan { launch, files, links: Vec::new(), warnings: warning.into_iter().collect() })
    }

    fn inspect(&self, vmm: &RunningVmm) -> Result<VmmStatus, EngineError> {
        // One that stands still answers nobody.
        let stands_still = self.processes.stands_still(vmm).map_err(|error| Self::control(vmm, error))?;
        let running = !stands_still && Client::connect(&vmm.directory)?.state()? == VmState::Running;
        Ok(VmmStatus { running, out_of_space: false, accelerator: Accelerator::Kvm })
    }

    fn events(&self, _vmm: &RunningVmm) -> Result<Option<UnixStream>, EngineError> {
        Ok(None)
    }

    fn event(&self, _line: &str) -> Option<VmmEvent> {
        None
    }

    /// Not by its API: in 1.16, a guest that went on after that would hear nothing more through its socket device
    /// (firecracker-microvm/firecracker, pull request 6100).
    fn pause(&self, vmm: &RunningVmm) -> Result<(), EngineError> {
        self.processes.stop(vmm).map_err(|error| Self::control(vmm, error))
    }

    fn resume(&self, vmm: &RunningVmm) -> Result<(), EngineError> {
        self.processes.go_on(vmm).map_err(|error| Self::control(vmm, error))
    }
}

impl Installer for Firecracker {
    fn release(&self) -> Option<Release> {
        release::official()
    }

    fn unpack(&self, archive: &Path, directory: &Path) -> Result<EngineProgram, EngineError> {
        release::unpack(archive, directory)
            .map_err(|error| EngineError::Release { engine: PROGRAM, source: error.into() })?;
        self.examine(directory)
    }

    fn examine(&self, directory: &Path) -> Result<EngineProgram, EngineError> {
        let path = directory.join(PROGRAM);
        // Not remembered: it is about to move.
        let (version, _) = judge(&Versions::new(Arc::clone(&self.commands)), &path)?;
        Ok(EngineProgram { path, version: version.to_string() })
    }
}

/// Firecracker started through another program, which becomes it.
fn start_through(through: &Program, vmm: Program) -> Result<Program, EngineError> {
    let path = vmm.path.to_str().map(str::to_owned);
    let path = path.ok_or_else(|| EngineError::Path { engine: PROGRAM, path: vmm.path.clone() })?;
    Ok(Program {
        name: vmm.name,
        path: through.path.clone(),
        arguments: through.arguments.iter().cloned().chain([path]).chain(vmm.arguments).collect(),
        descriptors: through.descriptors.clone(),
    })
}

/// How the monitor connects to the guest (Firecracker, docs/vsock.md).
/// The sockets that there may be of an earlier start, in a jail or without.
fn sockets() -> Vec<PathBuf> {
    [API_SOCKET, VSOCK, jail::API_SOCKET, jail::VSOCK].map(PathBuf::from).to_vec()
}

fn dial(vsock: &str) -> DialTerms {
    DialTerms {
        knock: format!("{vsock}_{CONTROL_SOCKET_PORT}").into(),
        ask: SocketRequest { socket: vsock.into(), request: format!("CONNECT {CONTROL_SOCKET_PORT}\n") },
        accepted: "OK ".to_owned(),
    }
}
