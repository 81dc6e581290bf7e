//! Things that the fake daemon can show.

use std::path::Path;

use banger_types::guest::KernelFeature;
use banger_types::image::{Image, ImageConfig};
use banger_types::kernel::Kernel;
use banger_types::operation::{FinishedPhase, Operation, OperationKind, OperationStatus, Progress, Unit};
use banger_types::setting::{Setting, SettingOrigin};
use banger_types::size::Mebibytes;
use banger_types::space::{Pruned, SpaceItem, SpaceKind, SpaceUsage};
use banger_types::system::SystemStatus;
use banger_types::vm::{Accelerator, EngineKind, Isolation, NetworkMode, Vm, VmSpec, VmState};
use jiff::{SignedDuration, Timestamp};

/// Long enough ago that a slow test still sees the same minute.
fn minutes_ago(minutes: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(minutes * 60 + 5)
}

pub(crate) fn vm(name: &str, state: VmState) -> Vm {
    let running = state == VmState::Running;
    let forward =
        banger_types::monitor::Forward { listen: "127.0.0.1:8080".parse().unwrap(), guest_port: 80 };
    Vm {
        id: "0123456789ab".parse().unwrap(),
        name: name.parse().unwrap(),
        state,
        generation: 7,
        reason: (state == VmState::Failed).then(|| "qemu exited with code 1".to_owned()),
        spec: VmSpec {
            image: "00000000000a".parse().unwrap(),
            image_name: "debian:bookworm".to_owned(),
            kernel: "00000000000b".parse().unwrap(),
            kernel_name: "debian:bookworm".to_owned(),
            vcpus: 2,
            memory: Mebibytes(2048),
            disk: Mebibytes(20480),
            network: NetworkMode::User,
            allow_host: false,
            no_peers: false,
            environment: vec!["LANG=C".to_owned()],
            forwards: vec![forward.clone()],
            automatic_forwards: true,
            labels: std::collections::BTreeMap::new(),
            restart: banger_types::vm::RestartPolicy::No,
            service: false,
            engine: EngineKind::Qemu,
            remove: false,
        },
        restart_at: None,
        accelerator: running.then_some(Accelerator::Tcg),
        created_at: minutes_ago(180),
        started_at: running.then(|| minutes_ago(3)),
        vmm_pid: running.then_some(4242),
        addresses: None,
        isolation: running.then_some(Isolation { system_calls: true, files: true, ..Isolation::default() }),
        forwards: if running { vec![forward] } else { Vec::new() },
        automatic_forwards: Vec::new(),
        sockets: Vec::new(),
        directory: "/data/vms/0123456789ab".into(),
        disk_usage: 26_713_492,
        warnings: Vec::new(),
    }
}

pub(crate) fn image(name: &str) -> Image {
    Image {
        id: "00000000000a".parse().unwrap(),
        name: name.to_owned(),
        source: "debian:bookworm".to_owned(),
        digest: Some("sha256:00".to_owned()),
        size: 1_073_741_824,
        disk_usage: 312_000_000,
        created_at: minutes_ago(3),
        config: ImageConfig::default(),
        layers: Vec::new(),
        kernel: None,
        registered: None,
        problem: None,
    }
}

pub(crate) fn kernel(name: &str) -> Kernel {
    Kernel {
        id: "00000000000b".parse().unwrap(),
        name: name.to_owned(),
        source: "debian:bookworm".to_owned(),
        release: "6.1.0-41-cloud-amd64".to_owned(),
        version: "6.1.158-1".to_owned(),
        disk_usage: 41_000_000,
        created_at: minutes_ago(3),
        features: vec![KernelFeature::Overlay, KernelFeature::Ext4, KernelFeature::Containers],
        registered: None,
        problem: None,
    }
}

pub(crate) fn settings() -> Vec<Setting> {
    let setting = |name: &str, value: &str, origin, at_restart: Option<&str>| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        meaning: "what it is for".to_owned(),
        origin,
        at_restart: at_restart.map(str::to_owned),
    };
    let file = SettingOrigin::File("/home/me/.config/banger/config.toml".into());
    vec![
        setting("operations.at_once", "16", SettingOrigin::Default, Some("2")),
        setting("vm.memory", "4G", file, None),
        setting("vm.network", "", SettingOrigin::Default, None),
    ]
}

pub(crate) fn space() -> SpaceUsage {
    let item = |kind, name: &str, bytes, used_by: &[&str], may_go| {
        let used_by = used_by.iter().map(|name| (*name).to_owned()).collect();
        SpaceItem { kind, name: name.to_owned(), id: None, bytes, used_by, may_go }
    };
    let items = vec![
        item(SpaceKind::Image, "debian", 300_000_000, &["web", "work"], false),
        item(SpaceKind::Image, "debian@00000000000a", 290_000_000, &[], true),
        item(SpaceKind::Vm, "web", 1_500_000, &[], false),
        item(SpaceKind::Layer, "layers", 90_000_000, &[], true),
    ];
    let total = items.iter().map(|item| item.bytes).sum();
    SpaceUsage { items, total, available: 20_000_000_000 }
}

/// What may go of it.
pub(crate) fn pruned() -> Pruned {
    let items: Vec<_> = space().items.into_iter().filter(|item| item.may_go).collect();
    Pruned { bytes: items.iter().map(|item| item.bytes).sum(), items, ..Pruned::default() }
}

pub(crate) fn operation(kind: OperationKind, subject: &str) -> Operation {
    Operation {
        id: "0000000000c1".parse().unwrap(),
        kind,
        subject: subject.to_owned(),
        status: OperationStatus::Running,
        progress: Some(Progress::of("disk: copy template")),
        asked_by: None,
        request: None,
        made: None,
        pruned: None,
        stop: None,
        finished_phases: Vec::new(),
        may_cancel: true,
        warnings: Vec::new(),
        error: None,
        created_at: minutes_ago(1),
        updated_at: minutes_ago(1),
    }
}

/// Returns the operation at its beginning, in its middle and at its good end.
pub(crate) fn succeeded(kind: OperationKind, subject: &str) -> Vec<Operation> {
    let begun = operation(kind, subject);
    let finished = |stage: &str, duration_ms| FinishedPhase { stage: stage.to_owned(), duration_ms };
    let middle = Operation {
        progress: Some(Progress {
            done: 10 << 20,
            total: Some(20 << 20),
            unit: Unit::Bytes,
            ..Progress::of("boot")
        }),
        finished_phases: vec![finished("disk: copy template", 12)],
        ..begun.clone()
    };
    let ended = Operation {
        status: OperationStatus::Succeeded,
        finished_phases: vec![finished("disk: copy template", 12), finished("boot", 2_345)],
        may_cancel: false,
        ..middle.clone()
    };
    vec![begun, middle, ended]
}

pub(crate) fn system(directory: &Path, pid: u32) -> SystemStatus {
    SystemStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid,
        socket: directory.join("data/run/bangerd.sock"),
        data_directory: directory.join("data"),
        log: directory.join("data/bangerd.log"),
        engine: "qemu, in emulation: the kernel did not boot under KVM".to_owned(),
        helper: banger_types::helper::HelperReadiness::NeedsPassword,
        vms: 2,
        vms_running: 1,
        unknown_vms: Vec::new(),
        images: 1,
        kernels: 1,
        started_at: minutes_ago(3),
        web: None,
    }
}
