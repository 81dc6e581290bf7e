//! QEMU's command line (qemu-system-x86_64(1)).

use std::path::Path;

use banger_core::engine::{BootPlan, EngineError, ProbePlan};
use banger_core::network::{Attachment, OwnStack};
use banger_types::guest::CONTROL_PORT_NAME;
use banger_types::size::Mebibytes;
use banger_types::vm::Accelerator;

use super::{CONTROL_DESCRIPTOR, NETWORK_DESCRIPTOR, STACK_DESCRIPTOR};
use crate::kernel_parameters;

/// The QMP socket, in the VM's directory.
pub(super) const QMP_SOCKET: &str = "qmp.sock";

/// The QMP socket for what QEMU tells by itself: a QMP server has one client at a time.
pub(super) const EVENT_SOCKET: &str = "events.sock";

/// This machine has no keyboard: nobody looks for one by plug and play. (Firecracker's has one, and is looked for.)
const PARAMETERS: &str = "i8042.nopnp";
/// Kernel parameters of an emulated guest: no check against clocks that are emulated themselves.
const TCG_PARAMETERS: &str = "tsc=reliable";
/// What a guest has that only prints.
const PROBE_MEMORY: Mebibytes = Mebibytes(256);

/// A guest that only answers a question.
pub(super) fn of_probe(plan: &ProbePlan, counter_khz: Option<u64>) -> Result<Vec<String>, EngineError> {
    let more = parameters(plan.accelerator, counter_khz);
    let mut arguments = Arguments::machine(plan.accelerator, 1, PROBE_MEMORY);
    arguments
        .option("-kernel", text(&plan.kernel)?)
        .option("-initrd", text(&plan.initramfs)?)
        .option("-append", kernel_parameters::of_probe(&plan.question, &more));
    if let Some(drive) = plan.question.drive() {
        let access = if plan.question.writes() { Access::Unattended } else { Access::ReadOnly };
        arguments.drive("base", drive, access)?;
    }
    Ok(arguments.0)
}

/// Returns what a guest is told because of what isolates it.
fn parameters(accelerator: Accelerator, counter_khz: Option<u64>) -> String {
    // By emulation the guest measures its counter by itself, which succeeds on a host that is not busy.
    match (accelerator, counter_khz) {
        (Accelerator::Kvm, _) => PARAMETERS.to_owned(),
        (Accelerator::Tcg, None) => format!("{PARAMETERS} {TCG_PARAMETERS}"),
        (Accelerator::Tcg, Some(khz)) => format!("{PARAMETERS} {TCG_PARAMETERS} tsc_early_khz={khz}"),
    }
}

/// A VM.
pub(super) fn of_vm(plan: &BootPlan, counter_khz: Option<u64>) -> Result<Vec<String>, EngineError> {
    let more = parameters(plan.accelerator, counter_khz);
    let mut arguments = Arguments::machine(plan.accelerator, plan.vcpus, plan.memory);
    arguments
        .option("-qmp", format!("unix:{QMP_SOCKET},server=on,wait=off"))
        .option("-qmp", format!("unix:{EVENT_SOCKET},server=on,wait=off"))
        .option("-kernel", text(&plan.kernel)?)
        .option("-initrd", text(&plan.initramfs)?)
        .option("-append", kernel_parameters::of_vm(&more));
    // The order is the guest's: /dev/vda, /dev/vdb and so on.
    arguments
        .drive("base", &plan.base, Access::ReadOnly)?
        .drive("private", &plan.private_disk, Access::Private)?
        .drive("modules", &plan.modules, Access::ReadOnly)?
        .drive("configuration", &plan.configuration, Access::ReadOnly)?;
    arguments
        .option("-device", "virtio-serial-device,max_ports=2")
        .option("-chardev", format!("socket,id=control,fd={CONTROL_DESCRIPTOR}"))
        .option("-device", format!("virtserialport,chardev=control,name={CONTROL_PORT_NAME}"))
        .option("-device", "virtio-rng-device");
    if let Some(network) = &plan.network {
        let backend = match &network.attachment {
            // It is made and configured already.
            Attachment::Device(name) => format!("tap,id=network,ifname={name},script=no,downscript=no"),
            _ => format!("stream,id=network,addr.type=fd,addr.str={NETWORK_DESCRIPTOR}"),
        };
        let card = format!("virtio-net-device,netdev=network,mac={}", network.guest.mac);
        arguments.option("-netdev", backend).option("-device", card);
        if let Some(stack) = &network.own_stack {
            arguments.stack(stack);
        }
    }
    Ok(arguments.0)
}

/// How a drive is used.
#[derive(Clone, Copy)]
enum Access {
    /// Shared with other VMs and never written.
    ReadOnly,
    /// This VM's own. `cache.writeback` passes a guest's flush on as fdatasync (QEMU manual,
    /// "disk cache"), and blocks that the guest discards or fills with zeroes are given back.
    ///
    /// `werror=enospc`: a write that the host has no room for stops the machine and is done anew when it goes on (qemu(1),
    /// "-drive"). The guest would take an error for a broken disk, and lose what it has not written yet.
    Private,
    /// The same, of a machine that nobody would let go on: an error is the guest's to tell.
    Unattended,
}

struct Arguments(Vec<String>);

impl Arguments {
    /// A machine with a serial console and nothing else.
    fn machine(accelerator: Accelerator, vcpus: u32, memory: Mebibytes) -> Self {
        let mut arguments = Self(Vec::new());
        let accelerator = match accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        };
        arguments
            .option("-machine", "microvm,rtc=on,isa-serial=on")
            .option("-accel", accelerator)
            .option("-cpu", "max")
            .option("-smp", vcpus.to_string())
            .option("-m", format!("{}M", memory.0))
            .flag("-nodefaults")
            .flag("-no-user-config")
            // A reset ends it.
            .flag("-no-reboot")
            // System calls that it has no use for end it: seccomp(2).
            .option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
            .option("-display", "none")
            // Standard input and output are the serial console; Ctrl-C there is the guest's.
            .option("-chardev", "stdio,id=console,signal=off")
            .option("-serial", "chardev:console");
        arguments
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }

    /// QEMU's own network stack, joined to a stream of frames as two ports of a hub are (qemu(1), "-netdev hubport").
    fn stack(&mut self, stack: &OwnStack) {
        let OwnStack { network, gateway, nameserver, .. } = stack;
        let v6 = match &stack.v6 {
            Some((network, router)) => format!("ipv6=on,ipv6-net={network},ipv6-host={router}"),
            None => "ipv6=off".to_owned(),
        };
        self.option(
            "-netdev",
            format!("user,id=stack,ipv4=on,net={network},host={gateway},dns={nameserver},{v6}"),
        )
        .option("-netdev", format!("stream,id=world,addr.type=fd,addr.str={STACK_DESCRIPTOR}"))
        .option("-netdev", "hubport,id=stack-port,hubid=0,netdev=stack")
        .option("-netdev", "hubport,id=world-port,hubid=0,netdev=world");
    }

    fn drive(&mut self, id: &str, path: &Path, access: Access) -> Result<&mut Self, EngineError> {
        let path = escaped(&text(path)?);
        let rest = match access {
            Access::ReadOnly => "readonly=on",
            Access::Private => "cache=writeback,discard=unmap,detect-zeroes=unmap,werror=enospc",
            Access::Unattended => "cache=writeback,discard=unmap,detect-zeroes=unmap,werror=report",
        };
        let drive = format!("if=none,id={id},format=raw,file.driver=file,file.filename={path},{rest}");
        Ok(self.option("-drive", drive).option("-device", format!("virtio-blk-device,drive={id}")))
    }
}

fn text(path: &Path) -> Result<String, EngineError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| EngineError::Path { engine: "qemu", path: path.to_owned() })
}

/// A comma ends a value in QEMU's options; two of them are one comma (qemu(1), "-drive").
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn plan(directory: &str) -> BootPlan {
        sample::plan(directory, Accelerator::Tcg)
    }

    fn values<'a>(arguments: &'a [String], name: &str) -> Vec<&'a str> {
        arguments.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn drives_come_in_the_guests_order_and_only_the_private_one_is_written() {
        let arguments = of_vm(&plan("/v"), Some(2_000_000)).unwrap();
        let drives = values(&arguments, "-drive");
        let order: Vec<_> =
            drives.iter().filter_map(|drive| drive.split("id=").nth(1)?.split(',').next()).collect();
        assert_eq!(order, ["base", "private", "modules", "configuration"]);
        for drive in drives {
            assert_eq!(drive.contains("readonly=on"), !drive.contains("id=private"), "{drive}");
        }
    }

    #[test]
    fn a_guest_without_a_network_has_no_card() {
        let arguments = of_vm(&plan("/v"), Some(2_000_000)).unwrap();
        assert!(values(&arguments, "-netdev").is_empty());
        assert_eq!(values(&arguments, "-m"), ["1536M"]);
    }

    #[test]
    fn the_guest_is_told_the_counters_frequency_if_it_is_known() {
        let parameters = |khz| {
            let arguments = of_vm(&plan("/v"), khz).unwrap();
            values(&arguments, "-append")[0].to_owned()
        };
        assert!(parameters(Some(2_000_000)).ends_with(" tsc_early_khz=2000000"));
        assert!(!parameters(None).contains("tsc_early_khz"));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        let arguments = of_vm(&plan("/a,readonly=off"), Some(2_000_000)).unwrap();
        let drive = values(&arguments, "-drive")[0];
        assert!(drive.contains("file.filename=/a,,readonly=off/base.ext4,"), "{drive}");
    }
}
