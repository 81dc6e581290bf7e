//! The configuration file: what the API would be told, path by path (Firecracker, `firecracker.yaml`).

use std::path::Path;

use banger_core::engine::{BootPlan, EngineError, ProbePlan};
use banger_core::network::Attachment;
use serde::Serialize;

use crate::kernel_parameters;

/// `reboot=k`: a reset goes through the keyboard's controller, which is how the guest ends its VMM.
/// `8250.nr_uarts=1`: there are no other serial lines. Firecracker adds `pci=off` by itself.
const KERNEL_PARAMETERS: &str = "reboot=k 8250.nr_uarts=1";
/// What a guest has that only prints, MiB.
const PROBE_MEMORY: u64 = 256;
/// The guest's address on the socket device. It is alone on it.
const GUEST_CID: u32 = 3;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration<'a> {
    boot_source: BootSource<'a>,
    drives: Vec<Drive<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_interfaces: Vec<NetworkInterface<'a>>,
    machine_config: MachineConfiguration,
    #[serde(skip_serializing_if = "Option::is_none")]
    vsock: Option<Vsock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy: Option<Entropy>,
}

/// `PUT /boot-source`.
#[derive(Serialize)]
struct BootSource<'a> {
    kernel_image_path: &'a str,
    initrd_path: &'a str,
    boot_args: String,
}

/// `PUT /drives/{drive_id}`.
#[derive(Serialize)]
struct Drive<'a> {
    #[serde(rename = "drive_id")]
    id: &'static str,
    path_on_host: &'a str,
    is_root_device: bool,
    is_read_only: bool,
    /// The default, `Unsafe`, acknowledges the guest's flushes and does nothing for them.
    cache_type: &'static str,
}

/// `PUT /machine-config`.
#[derive(Serialize)]
struct MachineConfiguration {
    vcpu_count: u32,
    mem_size_mib: u64,
}

/// `PUT /network-interfaces/{iface_id}`.
#[derive(Serialize)]
struct NetworkInterface<'a> {
    iface_id: &'static str,
    guest_mac: &'a str,
    host_dev_name: &'a str,
}

/// `PUT /vsock`.
#[derive(Serialize)]
struct Vsock {
    guest_cid: u32,
    uds_path: &'static str,
}

/// `PUT /entropy`.
#[derive(Serialize)]
struct Entropy {}

pub(super) fn document(plan: &BootPlan, vsock: &'static str) -> Result<Vec<u8>, EngineError> {
    let network_interfaces = plan.network.iter().filter_map(|network| match &network.attachment {
        Attachment::Tap { device, .. } | Attachment::Device(device) => Some(NetworkInterface {
            iface_id: "network",
            guest_mac: &network.guest.mac,
            host_dev_name: device,
        }),
        Attachment::StreamPair(_) => None,
    });
    let configuration = Configuration {
        boot_source: BootSource {
            kernel_image_path: text(&plan.vmlinux)?,
            initrd_path: text(&plan.initramfs)?,
            boot_args: kernel_parameters::of_vm(KERNEL_PARAMETERS),
        },
        // The order is the guest's: /dev/vda, /dev/vdb and so on.
        drives: vec![
            drive("base", &plan.base, true)?,
            drive("private", &plan.private_disk, false)?,
            drive("modules", &plan.modules, true)?,
            drive("configuration", &plan.configuration, true)?,
        ],
        network_interfaces: network_interfaces.collect(),
        machine_config: MachineConfiguration { vcpu_count: plan.vcpus, mem_size_mib: plan.memory.0 },
        vsock: Some(Vsock { guest_cid: GUEST_CID, uds_path: vsock }),
        entropy: Some(Entropy {}),
    };
    Ok(json(&configuration))
}

fn drive<'a>(id: &'static str, path: &'a Path, is_read_only: bool) -> Result<Drive<'a>, EngineError> {
    let path_on_host = text(path)?;
    Ok(Drive { id, path_on_host, is_root_device: false, is_read_only, cache_type: "Writeback" })
}

/// Returns the document of a guest that only answers a question.
pub(super) fn probe(plan: &ProbePlan) -> Result<Vec<u8>, EngineError> {
    Ok(json(&Configuration {
        boot_source: BootSource {
            kernel_image_path: text(&plan.vmlinux)?,
            initrd_path: text(&plan.initramfs)?,
            boot_args: kernel_parameters::of_probe(&plan.question, KERNEL_PARAMETERS),
        },
        drives: plan
            .question
            .drive()
            .map(|path| drive("base", path, !plan.question.writes()))
            .into_iter()
            .collect::<Result<_, _>>()?,
        network_interfaces: Vec::new(),
        machine_config: MachineConfiguration { vcpu_count: 1, mem_size_mib: PROBE_MEMORY },
        vsock: None,
        entropy: None,
    }))
}

/// Plain data with string keys: writing it to memory cannot fail.
fn json(configuration: &Configuration<'_>) -> Vec<u8> {
    serde_json::to_vec_pretty(configuration).unwrap_or_default()
}

fn text(path: &Path) -> Result<&str, EngineError> {
    path.to_str().ok_or_else(|| EngineError::Path { engine: "firecracker", path: path.to_owned() })
}
