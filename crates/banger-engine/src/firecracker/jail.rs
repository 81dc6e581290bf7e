//! Firecracker in a jail of the root helper's: what it sees is below a root directory of its own, by the names of
//! `banger_types::helper::jail_file`.

use std::path::Path;

use banger_core::engine::{BootPlan, EngineError, JailPlan, LaunchPlan, PlannedFile};
use banger_types::helper::{JAIL, jail_file};
use banger_types::monitor::{ChannelSource, LaunchSpec};

use super::{configuration, dial, sockets};
use crate::LOG_LIMIT;

/// The API's socket, in the VM's directory.
pub(super) const API_SOCKET: &str = "jail/run/api.sock";
/// The socket device's side on the host, in the VM's directory, and as Firecracker knows it.
pub(super) const VSOCK: &str = "jail/run/vsock.sock";
const VSOCK_INSIDE: &str = "/run/vsock.sock";
/// The configuration, in the VM's directory.
const CONFIGURATION: &str = "jail/machine.json";

/// Returns the launch of a VM whose VMM is this program and runs in a jail.
pub(super) fn plan(
    plan: &BootPlan,
    jail: &JailPlan,
    firecracker: &Path,
    warning: Option<String>,
) -> Result<LaunchPlan, EngineError> {
    let [vmlinux, initramfs, base, modules, configuration_drive] = jail_file::READ;
    let shown = [
        (jail_file::VMM, firecracker),
        (vmlinux, plan.vmlinux.as_path()),
        (initramfs, &plan.initramfs),
        (base, &plan.base),
        (modules, &plan.modules),
        (configuration_drive, &plan.configuration),
        (jail_file::DISK, &plan.private_disk),
    ];
    let links = shown.map(|(name, path)| (format!("{JAIL}/{name}"), path.to_owned())).to_vec();
    let place = |name: &str| Path::new("/").join(name);
    let inside = BootPlan {
        vmlinux: place(vmlinux),
        initramfs: place(initramfs),
        base: place(base),
        modules: place(modules),
        configuration: place(configuration_drive),
        private_disk: place(jail_file::DISK),
        ..plan.clone()
    };
    let content = configuration::document(&inside, VSOCK_INSIDE)?;
    let launch = LaunchSpec {
        helpers: plan.network.as_ref().map(|network| network.helpers.clone()).unwrap_or_default(),
        vmm: jail.runner.clone(),
        channel: ChannelSource::Dial(dial(VSOCK)),
        sockets: sockets(),
        resume: None,
        standing: None,
        control_group: Some(jail.control_group.clone()),
        log_limit: LOG_LIMIT,
    };
    let files = vec![PlannedFile { name: CONFIGURATION, content }];
    Ok(LaunchPlan { launch, files, links, warnings: warning.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use banger_types::monitor::Program;
    use banger_types::vm::Accelerator;

    use super::*;
    use crate::sample;

    #[test]
    fn what_it_is_told_of_is_in_its_jail_and_what_is_there_is_linked() {
        let runner = Program {
            name: "firecracker".to_owned(),
            path: "/usr/bin/sudo".into(),
            arguments: vec!["-n".to_owned()],
            descriptors: Vec::new(),
        };
        let jail = JailPlan { runner: runner.clone(), control_group: "/sys/fs/cgroup/banger/0".into() };
        let boot = sample::plan("/v", Accelerator::Kvm);
        let plan = plan(&boot, &jail, Path::new("/opt/firecracker"), None).unwrap();
        assert_eq!((&plan.launch.vmm, &plan.launch.control_group), (&runner, &Some(jail.control_group)));
        let document = String::from_utf8(plan.files[0].content.clone()).unwrap();
        let told: serde_json::Value = serde_json::from_str(&document).unwrap();
        let drives: Vec<&str> = told["drives"]
            .as_array()
            .unwrap()
            .iter()
            .map(|drive| drive["path_on_host"].as_str().unwrap())
            .collect();
        assert_eq!(drives, ["/base", "/disk", "/modules", "/configuration"]);
        assert_eq!(told["vsock"]["uds_path"], "/run/vsock.sock");
        assert!(!document.contains("\"/v/"), "{document}");
        let link =
            |name: &str| plan.links.iter().find(|(other, _)| other == name).map(|(_, path)| path.clone());
        assert_eq!(link("jail/vmm"), Some("/opt/firecracker".into()));
        assert_eq!(link("jail/disk"), Some(boot.private_disk));
        assert_eq!(plan.links.len(), 7);
    }
}
