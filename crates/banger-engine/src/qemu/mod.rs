//! QEMU's microvm machine, by KVM or by emulation (TCG).
//!
//! Why `microvm`: no PCI, no ACPI devices to probe, virtio-mmio only; a kernel is at its init in
//! about 1.5 s under emulation, half a second sooner than with `q35`.

mod arguments;
mod clock;
mod control;
mod events;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use banger_core::command::Commands;
use banger_core::engine::{
    BootPlan, Engine, EngineError, EngineProgram, Installer, LaunchPlan, Probe, ProbePlan, RunningVmm,
    VmmEvent, VmmStatus,
};
use banger_core::network::{Attachment, CardKind};
use banger_types::error::chain;
use banger_types::monitor::{ChannelSource, InheritedDescriptor, LaunchSpec, Program};
use banger_types::vm::EngineKind;

use self::clock::{Counter, HostClocks};
use crate::LOG_LIMIT;
use crate::confinement::Confinement;
use crate::program::Versions;

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";
/// How it is installed.
const FIX: &str = "`sudo apt install qemu-system-x86`";
/// The socket pair that carries the control channel.
const CONTROL_PAIR: &str = "control";
/// The number under which QEMU finds its end of the control channel.
const CONTROL_DESCRIPTOR: i32 = 3;
/// The number under which QEMU finds its end of the network.
const NETWORK_DESCRIPTOR: i32 = 4;
/// The number under which QEMU finds its end of the filter, when it is the network itself.
const STACK_DESCRIPTOR: i32 = 5;
/// Most virtual CPUs of a VM: as many as its processors' interrupt controllers have numbers for (8 bits, Intel SDM volume 3,
/// section 11.4.6); with KVM the machine would have 288.
const MOST_VCPUS: u32 = 255;

/// QEMU on this host.
pub struct Qemu {
    commands: Arc<dyn Commands>,
    confinement: Arc<Confinement>,
    versions: Versions,
    counter: Counter,
}

impl std::fmt::Debug for Qemu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Qemu")
    }
}

impl Qemu {
    /// Returns the engine; it looks for QEMU through `commands` at each launch.
    pub fn new(commands: Arc<dyn Commands>, confinement: Arc<Confinement>) -> Self {
        let versions = Versions::new(Arc::clone(&commands));
        Self { commands, confinement, versions, counter: Counter::new(HostClocks) }
    }

    fn find(&self) -> Result<PathBuf, EngineError> {
        let not_installed = || EngineError::NotInstalled { program: PROGRAM.to_owned(), fix: FIX.to_owned() };
        self.commands.find(PROGRAM).ok_or_else(not_installed)
    }
}

impl Engine for Qemu {
    fn kind(&self) -> EngineKind {
        EngineKind::Qemu
    }

    fn emulates(&self) -> bool {
        true
    }

    fn discards(&self) -> bool {
        true
    }

    fn most_vcpus(&self) -> u32 {
        MOST_VCPUS
    }

    fn installer(&self) -> Option<&dyn Installer> {
        None
    }

    fn program(&self) -> Result<EngineProgram, EngineError> {
        let path = self.find()?;
        let unusable = |reason| EngineError::Unusable { program: path.clone(), reason, fix: FIX.to_owned() };
        let version = self.versions.of(&path).map_err(|error| unusable(chain(&error)))?;
        Ok(EngineProgram { path, version })
    }

    fn card_kind(&self) -> CardKind {
        CardKind::Stream
    }

    fn jails(&self) -> bool {
        false
    }

    fn has_network_stack(&self) -> bool {
        true
    }

    fn probe(&self, plan: &ProbePlan) -> Result<Probe, EngineError> {
        let vmm = Program {
            name: "qemu".to_owned(),
            path: self.find()?,
            arguments: arguments::of_probe(plan, self.counter.frequency_khz())?,
            descriptors: Vec::new(),
        };
        Ok(Probe { vmm, files: Vec::new() })
    }

    fn plan(&self, plan: &BootPlan) -> Result<LaunchPlan, EngineError> {
        let path = self.find()?;
        let mut descriptors =
            vec![InheritedDescriptor { number: CONTROL_DESCRIPTOR, pair: CONTROL_PAIR.to_owned() }];
        if let Some(network) = &plan.network {
            match &network.attachment {
                Attachment::StreamPair(pair) => {
                    descriptors.push(InheritedDescriptor { number: NETWORK_DESCRIPTOR, pair: pair.clone() });
                }
                Attachment::Device(_) => {}
                Attachment::Tap { .. } => return Err(EngineError::Attachment { engine: "qemu" }),
            }
            let stack = network.own_stack.iter();
            descriptors.extend(
                stack.map(|stack| InheritedDescriptor { number: STACK_DESCRIPTOR, pair: stack.pair.clone() }),
            );
        }
        let vmm = Program {
            name: "qemu".to_owned(),
            path,
            arguments: arguments::of_vm(plan, self.counter.frequency_khz())?,
            descriptors,
        };
        let vmm = self.confinement.confine("qemu", vmm, plan, None, false)?;
        let launch = LaunchSpec {
            helpers: plan.network.as_ref().map(|network| network.helpers.clone()).unwrap_or_default(),
            vmm,
            channel: ChannelSource::Pair(CONTROL_PAIR.to_owned()),
            // QEMU would take the place of what is there, which it may not.
            sockets: vec![arguments::QMP_SOCKET.into(), arguments::EVENT_SOCKET.into()],
            resume: Some(control::resume_request()),
            standing: Some(control::standing_question()),
            control_group: None,
            log_limit: LOG_LIMIT,
        };
        Ok(LaunchPlan { launch, files: Vec::new(), links: Vec::new(), warnings: Vec::new() })
    }

    fn inspect(&self, vmm: &RunningVmm) -> Result<VmmStatus, EngineError> {
        control::inspect(&vmm.directory)
    }

    fn events(&self, vmm: &RunningVmm) -> Result<Option<UnixStream>, EngineError> {
        events::connect(&vmm.directory).map(Some)
    }

    fn event(&self, line: &str) -> Option<VmmEvent> {
        events::parse(line)
    }

    fn pause(&self, vmm: &RunningVmm) -> Result<(), EngineError> {
        control::pause(&vmm.directory)
    }

    fn resume(&self, vmm: &RunningVmm) -> Result<(), EngineError> {
        control::resume(&vmm.directory)
    }
}
