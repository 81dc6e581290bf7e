//! The port to what runs a VM.
//!
//! An engine turns a [`BootPlan`] into a [`LaunchPlan`]: which programs a monitor starts, with what.
//! Everything that lasts is the monitor's, so an engine holds no state of a VM, and nothing of one
//! engine shows through this port.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use banger_types::guest::GuestNetwork;
use banger_types::monitor::{LaunchSpec, Program};
use banger_types::size::Mebibytes;
use banger_types::vm::{Accelerator, EngineKind};

/// What a VM boots with. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPlan {
    /// The VM's directory: sockets and logs go there.
    pub directory: PathBuf,
    /// The kernel image, a bzImage.
    pub kernel: PathBuf,
    /// The same kernel as an ELF file.
    pub vmlinux: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The image's root file system; read-only and shared. The guest's first drive.
    pub base: PathBuf,
    /// The VM's private disk; what the guest flushes must be on the host's disk when the flush is
    /// acknowledged. The guest's second drive.
    pub private_disk: PathBuf,
    /// The kernel's modules; read-only and shared. The guest's third drive.
    pub modules: PathBuf,
    /// The configuration drive; read-only. The guest's fourth drive.
    pub configuration: PathBuf,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// The network card, if any.
    pub network: Option<NetworkPlan>,
    /// What isolates the guest.
    pub accelerator: Accelerator,
}

/// What a guest boots with that only shows that guests boot (`banger_types::guest::PROBE_PARAMETER`). Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    /// The kernel image, a bzImage.
    pub kernel: PathBuf,
    /// The same kernel as an ELF file.
    pub vmlinux: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// How such a guest is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The VMM. Its standard output is the guest's serial console.
    pub vmm: Program,
    /// To be written first into the directory that it runs in.
    pub files: Vec<PlannedFile>,
}

/// An engine's program, as it is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineProgram {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, as it prints it.
    pub version: String,
}

/// What a monitor has to start, and what has to be there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    /// For the monitor.
    pub launch: LaunchSpec,
    /// To be written into the VM's directory first, mode 0600.
    pub files: Vec<PlannedFile>,
    /// What whoever starts the VM should know, in whole sentences.
    pub warnings: Vec<String>,
}

/// A file of a VM's directory that an engine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub content: Vec<u8>,
}

/// A VM's network: the programs that carry it, and how the VMM meets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Started before the VMM.
    pub helpers: Vec<Program>,
    /// Where the VMM sends and receives frames.
    pub attachment: Attachment,
    /// What the guest is told.
    pub guest: GuestNetwork,
}

/// Where a VMM sends and receives Ethernet frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A connected stream socket, one end of this pair of the launch's, on which each frame comes
    /// after its length as 32 bits in network byte order.
    StreamPair(String),
    /// A TAP device. The VMM is started through a program that makes the device and becomes what is named by its
    /// further arguments.
    Tap {
        /// The device's name.
        device: String,
        /// The program.
        through: Program,
    },
}

/// What a VMM can do with Ethernet frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardKind {
    /// [`Attachment::StreamPair`].
    Stream,
    /// [`Attachment::Tap`].
    Tap,
}

/// Why an engine cannot run a VM.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its program is not installed.
    #[error("the program '{program}' is not installed")]
    NotInstalled {
        /// The program.
        program: String,
        /// What can be done about it.
        fix: String,
    },
    /// Its program is there, and not one that can be run.
    #[error("'{}' cannot be used: {reason}", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// Why not.
        reason: String,
        /// What can be done about it.
        fix: String,
    },
    /// The network was planned for another engine.
    #[error("{engine} cannot be attached to a network in this way")]
    Attachment {
        /// The engine.
        engine: &'static str,
    },
    /// A path cannot be said on its command line.
    #[error("the path '{}' is not UTF-8, which {engine} cannot be told", path.display())]
    Path {
        /// The engine.
        engine: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The VMM did not answer, or not as it should.
    #[error("cannot ask the VMM in {}", directory.display())]
    Control {
        /// The VM's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EngineError {
    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<&str> {
        match self {
            Self::NotInstalled { fix, .. } | Self::Unusable { fix, .. } => Some(fix),
            Self::Attachment { .. } | Self::Path { .. } | Self::Control { .. } => None,
        }
    }
}

/// A VMM that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningVmm {
    /// Its VM's directory, in which it works.
    pub directory: PathBuf,
    /// Its process id.
    pub pid: u32,
}

/// What a VMM says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmmStatus {
    /// Whether its virtual CPUs run.
    pub running: bool,
    /// Whether they stand still for the reason of [`VmmEvent::OutOfSpace`].
    pub out_of_space: bool,
    /// What isolates the guest.
    pub accelerator: Accelerator,
}

/// What a VMM tells by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmmEvent {
    /// From now on it tells everything.
    Listening,
    /// The host has no room for something that the guest has written. The virtual CPUs stand still; nothing is lost, and
    /// [`Engine::resume`] writes it anew.
    OutOfSpace,
}

/// What runs VMs.
pub trait Engine: Send + Sync {
    /// Returns which one it is.
    fn kind(&self) -> EngineKind;

    /// Looks for its program, and asks that for its version.
    fn program(&self) -> Result<EngineProgram, EngineError>;

    /// Returns how its VMMs are attached to networks.
    fn card_kind(&self) -> CardKind;

    /// Returns how a guest is booted by KVM that only shows that guests boot.
    fn probe(&self, plan: &ProbePlan) -> Result<Probe, EngineError>;

    /// Returns what a monitor has to start for this VM.
    fn plan(&self, plan: &BootPlan) -> Result<LaunchPlan, EngineError>;

    /// Asks a VMM. Blocks for as long as it takes to answer.
    fn inspect(&self, vmm: &RunningVmm) -> Result<VmmStatus, EngineError>;

    /// Connects to a VMM, for lines that [`Engine::event`] reads, until it ends; `None` where
    /// VMMs tell nothing by themselves.
    fn events(&self, vmm: &RunningVmm) -> Result<Option<UnixStream>, EngineError>;

    /// Returns what a line of [`Engine::events`] tells, if it is of any concern.
    fn event(&self, line: &str) -> Option<VmmEvent>;

    /// Makes a VMM's virtual CPUs stand still. Blocks until they do.
    fn pause(&self, vmm: &RunningVmm) -> Result<(), EngineError>;

    /// Lets a VMM's virtual CPUs go on. The guest's clock may stand where it stood.
    fn resume(&self, vmm: &RunningVmm) -> Result<(), EngineError>;
}

/// The port to networks.
pub trait Networks: Send + Sync {
    /// Returns the plan of a user-mode network, which needs no root, for a VMM that is attached in this way.
    ///
    /// `nameservers` are the host's own; those on its loopback are reached through the network
    /// itself, never directly.
    fn user(&self, nameservers: &[std::net::IpAddr], card: CardKind) -> Result<NetworkPlan, NetworkError>;
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Its program is not installed.
    #[error("the program '{program}' is not installed")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The port on the host cannot be had.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr),
}
