//! Plans for tests.

use std::path::PathBuf;

use banger_core::engine::BootPlan;
use banger_types::size::Mebibytes;
use banger_types::vm::Accelerator;

/// Returns the plan of a VM in this directory, without a network.
pub(crate) fn plan(directory: &str, accelerator: Accelerator) -> BootPlan {
    let directory = PathBuf::from(directory);
    BootPlan {
        kernel: directory.join("vmlinuz"),
        vmlinux: directory.join("vmlinux"),
        initramfs: directory.join("initramfs"),
        base: directory.join("base.ext4"),
        private_disk: directory.join("disk.ext4"),
        modules: directory.join("modules.ext4"),
        configuration: directory.join("configuration"),
        vcpus: 2,
        memory: Mebibytes(1536),
        network: None,
        accelerator,
        jail: None,
        directory,
    }
}
