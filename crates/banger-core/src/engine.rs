//! The port to what runs a VM.
//!
//! An engine turns a [`BootPlan`] into a [`LaunchPlan`]: which programs a monitor starts, with what.
//! Everything that lasts is the monitor's, so an engine holds no state of a VM, and nothing of one
//! engine shows through this port.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use banger_types::digest::Digest;
use banger_types::guest::{INSPECT_PARAMETER, PROBE_PARAMETER, TRIM_PARAMETER};
use banger_types::monitor::{LaunchSpec, Program};
use banger_types::size::Mebibytes;
use banger_types::vm::{Accelerator, EngineKind};

use crate::network::{CardKind, NetworkPlan};

/// What a VM boots with. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPlan {
    /// The VM's directory: sockets and logs go there.
    pub directory: PathBuf,
    /// The kernel image: a bzImage, or the ELF file itself.
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
    /// The jail that its VMM is to run in, if there is one: of an engine that [`Engine::jails`].
    pub jail: Option<JailPlan>,
}

/// A jail of the root helper's (`banger_types::helper::RUN_VMM`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailPlan {
    /// What runs a VMM in it, in the VM's directory.
    pub runner: Program,
    /// The directory of its control group.
    pub control_group: PathBuf,
}

/// What a guest boots with that only answers one question, and ends. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    /// The question.
    pub question: Question,
    /// What isolates the guest.
    pub accelerator: Accelerator,
    /// The kernel image: a bzImage, or the ELF file itself.
    pub kernel: PathBuf,
    /// The same kernel as an ELF file.
    pub vmlinux: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// What such a guest is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether guests boot (`banger_types::guest::PROBE_PARAMETER`).
    Boots,
    /// What its kernel can do, and what is on this drive, its first: read-only
    /// (`banger_types::guest::INSPECT_PARAMETER`).
    Inspect(PathBuf),
    /// Which blocks nobody uses of the ext4 on this drive, its first: they are given back
    /// (`banger_types::guest::TRIM_PARAMETER`).
    Trim(PathBuf),
}

impl Question {
    /// Returns the word of the kernel's command line that asks it.
    pub const fn parameter(&self) -> &'static str {
        match self {
            Self::Boots => PROBE_PARAMETER,
            Self::Inspect(_) => INSPECT_PARAMETER,
            Self::Trim(_) => TRIM_PARAMETER,
        }
    }

    /// Returns the drive that it is about.
    pub fn drive(&self) -> Option<&Path> {
        match self {
            Self::Boots => None,
            Self::Inspect(drive) | Self::Trim(drive) => Some(drive),
        }
    }

    /// Returns whether that drive is written to.
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Trim(_))
    }
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
    /// Symbolic links to be made in the VM's directory first: their names, and where they lead.
    pub links: Vec<(String, PathBuf)>,
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
    /// An archive is no release of it, or cannot be unpacked.
    #[error("cannot unpack a release of {engine}")]
    Release {
        /// The engine.
        engine: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
            Self::Release { .. } | Self::Attachment { .. } | Self::Path { .. } | Self::Control { .. } => None,
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

/// Where a release of an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its address.
    pub url: String,
    /// The digest of what is there.
    pub digest: Digest,
    /// How long that is, bytes.
    pub size: u64,
}

/// What knows an engine's releases, and how they are installed.
pub trait Installer: Send + Sync {
    /// Returns the release for this host's processor that banger was tried with, if there is one.
    fn release(&self) -> Option<Release>;

    /// Unpacks what is needed of an archive of a release into an empty directory, and returns what that is.
    fn unpack(&self, archive: &Path, directory: &Path) -> Result<EngineProgram, EngineError>;

    /// Returns what is in a directory that a release was unpacked into.
    fn examine(&self, directory: &Path) -> Result<EngineProgram, EngineError>;
}

/// What runs VMs.
pub trait Engine: Send + Sync {
    /// Returns which one it is.
    fn kind(&self) -> EngineKind;

    /// Whether it runs guests where there is no KVM, too.
    fn emulates(&self) -> bool;

    /// Whether blocks that a guest discards go back to the host.
    fn discards(&self) -> bool;

    /// Returns how many virtual CPUs a VM of it has at most.
    fn most_vcpus(&self) -> u32;

    /// Looks for its program, and asks that for its version.
    fn program(&self) -> Result<EngineProgram, EngineError>;

    /// Returns what installs it, if banger can.
    fn installer(&self) -> Option<&dyn Installer>;

    /// Returns how its VMMs are attached to networks.
    fn card_kind(&self) -> CardKind;

    /// Whether its VMMs can run in jails of the root helper's, as another user and with another root directory.
    fn jails(&self) -> bool;

    /// Whether it has a network stack of its own ([`crate::network::OwnStack`]).
    fn has_network_stack(&self) -> bool;

    /// Returns how a guest is booted that only answers a question.
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
