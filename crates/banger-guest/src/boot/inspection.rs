//! A guest that only looks at its first drive, and says what it finds and what its kernel can do.
//!
//! The drive may hold anything: it is a kernel in a VM of its own that reads it, as it would for a VM made from it.

use std::fs;
use std::io;
use std::path::Path;

use banger_types::guest::{INSPECTION_PREFIX, Inspection, KernelFeature, ModulePurpose, drive};
use banger_types::image::{FileSystem, FoundRoot};

use super::root::RootDirectory;
use super::{BootError, base, devices, filesystems, modules, systemd};
use crate::log;

/// Where an init may be, and then where a shell may be, in the order of the kernel's own search (`init/main.c`).
const PROGRAMS: [&str; 8] = [
    "/sbin/init",
    "/etc/init",
    "/bin/init",
    "/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/bin/sh",
    "/bin/bash",
];

/// Level of the kernel's messages on the console from which on they are shown: emergencies (proc(5),
/// `/proc/sys/kernel/printk`).
const QUIET: &str = "1";

/// Returns the line that the guest was asked for.
pub(super) fn words() -> String {
    let root = find().map_err(|error| log::chain(&error));
    // The console is for the answer now; a line of the kernel's in the middle of it would spoil it.
    let _ = fs::write("/proc/sys/kernel/printk", QUIET);
    let kernel_release = rustix::system::uname().release().to_string_lossy().into_owned();
    let inspection = Inspection { kernel_release, features: features(), root: root.and_then(|root| root) };
    format!("{INSPECTION_PREFIX}{}", serde_json::to_string(&inspection).unwrap_or_default())
}

/// Returns the root file system, or why what is on the drive is none.
fn find() -> Result<Result<FoundRoot, String>, BootError> {
    modules::load_all(ModulePurpose::Root)?;
    devices::wait_for(&[drive::BASE])?;
    filesystems::make(filesystems::BASE)?;
    let target = Path::new(filesystems::BASE);
    let base = match base::mount(target) {
        Ok(base) => base,
        Err(error) => {
            let (why, known) = (log::chain(&error), file_systems());
            let lacks = FileSystem::ALL.into_iter().filter(|kind| !mounts(&known, kind.name()));
            let lacks: Vec<_> = lacks.map(|kind| format!("; this kernel has no {kind}")).collect();
            let lacks = lacks.concat();
            return Ok(Err(format!(
                "a kernel mounts it neither as ext4 nor as squashfs or erofs, nor any partition of it ({why}){lacks}"
            )));
        }
    };
    if !base::looks_like_root(target) {
        return Ok(Err(format!(
            "its {} has neither an init nor a shell, and none of the directories that a root file system has",
            base.file_system
        )));
    }
    let open = |source: io::Error| BootError::File { action: "open", path: target.to_owned(), source };
    let root = RootDirectory::open(target).map_err(open)?;
    let systemd = systemd::find(&root);
    Ok(Ok(FoundRoot {
        file_system: base.file_system,
        partition: base.partition,
        unclean: base.unclean,
        init: systemd.or_else(|| init(&root)).map(str::to_owned),
        systemd: systemd.is_some(),
    }))
}

/// Returns the first init or shell of an image that can be run.
pub(super) fn init(root: &RootDirectory) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|path| root.is_program(path))
}

/// Returns what the kernel has, with all modules that it was given.
fn features() -> Vec<KernelFeature> {
    for purpose in
        [ModulePurpose::Console, ModulePurpose::Socket, ModulePurpose::Network, ModulePurpose::Image]
    {
        let _ = modules::load_all(purpose);
    }
    let known = file_systems();
    let drives = |name: &str| Path::new("/sys/bus/virtio/drivers").join(name).exists();
    [
        (KernelFeature::Overlay, mounts(&known, "overlay")),
        (KernelFeature::Ext4, mounts(&known, "ext4")),
        (KernelFeature::Squashfs, mounts(&known, "squashfs")),
        (KernelFeature::Erofs, mounts(&known, "erofs")),
        (KernelFeature::Block, drives("virtio_blk")),
        (KernelFeature::Console, drives("virtio_console")),
        (KernelFeature::Socket, drives("vmw_vsock_virtio_transport")),
        (KernelFeature::Network, drives("virtio_net")),
    ]
    .into_iter()
    .filter_map(|(feature, there)| there.then_some(feature))
    .collect()
}

/// Returns the kernel's list of file systems (proc(5), `/proc/filesystems`).
fn file_systems() -> String {
    fs::read_to_string("/proc/filesystems").unwrap_or_default()
}

fn mounts(known: &str, name: &str) -> bool {
    known.lines().any(|line| line.split('\t').nth(1) == Some(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_can_be_run_is_an_init() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let root = || RootDirectory::open(directory.path().canonicalize().unwrap()).unwrap();
        for path in ["sbin", "bin", "usr/bin"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        assert_eq!(init(&root()), None);
        fs::write(at("usr/bin/dash"), "").unwrap();
        std::os::unix::fs::symlink("/usr/bin/dash", at("bin/sh")).unwrap();
        assert_eq!(init(&root()), None, "nobody may run it");
        fs::set_permissions(at("usr/bin/dash"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(init(&root()), Some("/bin/sh"));
        fs::create_dir(at("sbin/init")).unwrap();
        assert_eq!(init(&root()), Some("/bin/sh"), "a directory is none");
        fs::write(at("init"), "#!").unwrap();
        fs::set_permissions(at("init"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(init(&root()), Some("/init"));
    }
}
