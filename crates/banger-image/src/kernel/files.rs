//! Kernels in files: the user's own, which stay where they are, and those that were downloaded.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use banger_core::work::Work;
use banger_types::guest::KernelFeature;
use fs_err as fs;

use super::initrd::Initrd;
use super::modules::{Missing, archive_of, boot_archive};
use super::{
    BOOT_MODULES, KernelBundle, KernelError, RECIPE, features, file, key, vmlinux, write_description,
};
use crate::publish::Staging;
use crate::regular::open_regular;
use crate::rootfs::ext4::Ext4Writer;
use crate::rootfs::{Metadata, RootfsWriter as _, TreePath};

/// How a bundle has its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It leads to the file.
    InPlace,
    /// It has it itself.
    Copied,
}

/// Makes the bundle of a kernel, with the modules that are needed to mount from `initrd`. What is derived from the kernel (an
/// ELF file for VMMs that boot nothing else) is the bundle's own.
pub(super) fn build(
    kernel: &Path,
    kept: Use,
    initrd: Option<&Path>,
    staging: &Staging,
    work: &dyn Work,
) -> Result<KernelBundle, KernelError> {
    work.stage("kernel: look at it");
    let not_one = |source| KernelError::NotAKernel { path: kernel.to_owned(), source };
    let (file, mut image) = (open_regular(kernel), Vec::new());
    let read = file.and_then(|file| file.take(vmlinux::LIMIT + 1).read_to_end(&mut image));
    if read.map_err(KernelError::io("read the kernel"))? as u64 > vmlinux::LIMIT {
        return Err(not_one(vmlinux::VmlinuxError::TooLarge { limit: vmlinux::LIMIT }));
    }
    let features = write_kernel(kernel, kept, &image, staging.path(), &not_one)?;
    let release = vmlinux::release(&image);
    drop(image);
    work.check()?;
    write_no_modules(&staging.path().join(file::MODULES))?;
    let (release, archive) = match initrd {
        None => (release.unwrap_or_default(), archive_of(&[])),
        Some(path) => {
            work.stage("kernel: take modules out of the initramfs");
            let initrd = Initrd::open(path, work)?;
            let (release, modules) = initrd.of_release(release.as_deref())?;
            let archive = boot_archive(&modules, release, &BOOT_MODULES, Missing::Ignored)?;
            (release.to_owned(), archive)
        }
    };
    fs::write(staging.path().join(file::MODULES_ARCHIVE), &archive)
        .map_err(KernelError::io("write the modules' archive"))?;
    let modules_key = key(&archive);
    let bundle = KernelBundle { release, version: String::new(), features, recipe: RECIPE, modules_key };
    write_description(&bundle, staging.path())?;
    Ok(bundle)
}

/// Writes a kernel and its ELF file. Returns what it can do by its configuration, if that is a part of it; what it has as modules
/// does not count.
fn write_kernel(
    kernel: &Path,
    kept: Use,
    image: &[u8],
    bundle: &Path,
    not_one: &dyn Fn(vmlinux::VmlinuxError) -> KernelError,
) -> Result<Vec<KernelFeature>, KernelError> {
    let features = |elf: &[u8]| {
        let configuration = features::embedded(elf).unwrap_or_default();
        features::of_configuration(&configuration, features::Modules::Unknown)
    };
    let place = bundle.join(file::KERNEL);
    match kept {
        Use::InPlace => symlink(kernel, &place).map_err(KernelError::io("lead to the kernel"))?,
        Use::Copied => fs::write(&place, image).map_err(KernelError::io("write the kernel"))?,
    }
    let vmlinux = bundle.join(file::VMLINUX);
    if vmlinux::is_elf(image) {
        let linked = match kept {
            Use::InPlace => symlink(kernel, &vmlinux),
            Use::Copied => fs::hard_link(&place, &vmlinux),
        };
        linked.map_err(KernelError::io("lead to the kernel"))?;
        return Ok(features(image));
    }
    let elf = vmlinux::extract(image).map_err(not_one)?;
    fs::write(vmlinux, &elf).map_err(KernelError::io("write the kernel's ELF file"))?;
    Ok(features(&elf))
}

/// Writes a file system without any modules.
fn write_no_modules(path: &Path) -> Result<(), KernelError> {
    let writer = Ext4Writer::create(path, "banger-modules");
    let writer = writer.map_err(KernelError::io("write the file system of the modules"))?;
    let mut writer = Box::new(writer);
    let root = Metadata { mode: 0o755, ..Metadata::default() };
    writer.directory(&TreePath::default(), root).map_err(KernelError::Modules)?;
    writer.finish().map(drop).map_err(KernelError::Modules)
}
