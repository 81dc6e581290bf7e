//! Kernel bundles, made of Debian's real packages.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use banger_core::work::Unwatched;
use banger_download::debian::{Archives, Distribution};
use banger_download::{Client, Patience};
use banger_image::kernel::cpio::Archive;
use banger_image::kernel::debian::{METAPACKAGE, dependency, is_of_interest};
use banger_image::kernel::initramfs::{GuestBinary, assemble, assemble_at};
use banger_image::kernel::{self, Ingredients, KernelPackage};
use banger_image::source::debian::DebianMirror;
use banger_types::guest::KernelFeature;
use banger_types::source::DEBIAN_KEYRING;
use support::{Image, StdCommands, look};

/// An entry of a cpio archive: mode, device number, content.
type CpioEntry = (u32, (u32, u32), Vec<u8>);

/// Reads concatenated archives as the kernel does: after a trailer, zeros up to the next magic.
fn read_cpio(mut bytes: &[u8]) -> Vec<(String, CpioEntry)> {
    let mut entries = Vec::new();
    let mut offset = 0;
    while !bytes.is_empty() {
        if bytes[0] == 0 {
            (bytes, offset) = (&bytes[1..], offset + 1);
            continue;
        }
        assert_eq!(offset % 4, 0, "an archive begins at a multiple of four");
        assert_eq!(&bytes[..6], b"070701");
        let field = |n: usize| {
            let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap().to_owned();
        assert_eq!(bytes[110 + name_size - 1], 0);
        assert_eq!((field(2), field(3)), (0, 0), "{name} is root's");
        let data = (110 + name_size).next_multiple_of(4);
        let entry = (field(1), (field(9), field(10)), bytes[data..data + size].to_vec());
        let end = (data + size).next_multiple_of(4);
        (bytes, offset) = (&bytes[end..], offset + end);
        if name != "TRAILER!!!" {
            entries.push((name, entry));
        }
    }
    entries
}

#[test]
fn an_archive_reads_back() {
    let bytes = Archive::new()
        .directory("dev", 0o755)
        .character_device("dev/console", 0o600, 5, 1)
        .file("init", 0o755, b"12345")
        .finish();
    assert_eq!(bytes.len() % 512, 0);
    let both = [bytes.clone(), bytes].concat();
    let entries = read_cpio(&both);
    assert_eq!(entries.len(), 6);
    assert_eq!(entries[1], ("dev/console".to_owned(), (0o020_600, (5, 1), Vec::new())));
    assert_eq!(entries[5], ("init".to_owned(), (0o100_755, (0, 0), b"12345".to_vec())));
}

/// Makes what a bundle needs so that an initramfs can be made of it.
fn write_bundle(bundle: &Path, recipe: u32) {
    let modules = Archive::new().file("modules/list", 0o644, b"").finish();
    std::fs::write(bundle.join("modules.cpio"), &modules).unwrap();
    let description =
        format!(r#"{{"release":"1","version":"1-1","recipe":{recipe},"modules_key":"0123456789abcdef"}}"#);
    std::fs::write(bundle.join("kernel.json"), description).unwrap();
}

#[test]
fn a_bundle_of_another_recipe_is_not_booted() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    let binary = bundle.join("guest");
    std::fs::write(&binary, "guest").unwrap();
    let guest = GuestBinary::load(&binary).unwrap();
    write_bundle(bundle, kernel::RECIPE);
    assert!(kernel::is_current(bundle).unwrap());
    let initramfs = assemble(bundle, &guest).unwrap();
    for other in [kernel::RECIPE - 1, kernel::RECIPE + 1] {
        write_bundle(bundle, other);
        assert!(!kernel::is_current(bundle).unwrap());
        // Nor does it help that an archive is there.
        assert!(initramfs.exists());
        let error = assemble(bundle, &guest).unwrap_err();
        assert!(matches!(&error, kernel::KernelError::Outdated { found, .. } if *found == other), "{error}");
        assert!(error.fix().unwrap().contains("banger kernel pull"));
    }
}

#[test]
fn a_vm_keeps_the_initramfs_that_it_was_started_with() {
    let directory = tempfile::tempdir().unwrap();
    let (bundle, vm) = (directory.path().join("kernel"), directory.path().join("vm"));
    std::fs::create_dir(&bundle).unwrap();
    std::fs::create_dir(&vm).unwrap();
    write_bundle(&bundle, kernel::RECIPE);
    let (binary, initramfs) = (bundle.join("guest"), vm.join("initramfs.cpio"));
    let guest = |content: String| {
        std::fs::write(&binary, content).unwrap();
        GuestBinary::load(&binary).unwrap()
    };
    let first = guest("first".to_owned());
    assemble_at(&bundle, &first, &initramfs).unwrap();
    let before = std::fs::read(&initramfs).unwrap();
    for build in 0..5 {
        assemble(&bundle, &guest(format!("build {build}"))).unwrap();
    }
    assert_eq!(std::fs::read(&initramfs).unwrap(), before);
    let archives = || {
        let names = std::fs::read_dir(&bundle).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("initramfs-")).count()
    };
    assert_eq!(archives(), 2, "they do not pile up");
    let next = guest("next".to_owned());
    assemble_at(&bundle, &next, &initramfs).unwrap();
    assert_ne!(std::fs::read(&initramfs).unwrap(), before);
    assert_eq!(std::fs::read_dir(&vm).unwrap().count(), 1);
}

#[test]
fn a_vm_gets_its_initramfs_while_other_builds_make_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    write_bundle(bundle, kernel::RECIPE);
    std::thread::scope(|scope| {
        for build in 0..4 {
            scope.spawn(move || {
                let binary = bundle.join(format!("guest-{build}"));
                std::fs::write(&binary, format!("build {build}")).unwrap();
                let guest = GuestBinary::load(&binary).unwrap();
                for _ in 0..50 {
                    let own = bundle.join(format!("vm-{build}"));
                    assemble_at(bundle, &guest, &own).unwrap();
                    let entries = read_cpio(&std::fs::read(&own).unwrap());
                    assert_eq!(entries.last().unwrap().1.2, format!("build {build}").into_bytes());
                }
            });
        }
    });
}

#[test]
fn an_initramfs_is_made_once_for_each_guest_and_old_ones_go() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    write_bundle(bundle, kernel::RECIPE);
    let binary = bundle.join("guest");
    let make = |content: &str, age: u64| {
        std::fs::write(&binary, content).unwrap();
        let guest = GuestBinary::load(&binary).unwrap();
        let path = assemble(bundle, &guest).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, format!("initramfs-0123456789abcdef-{}.cpio", guest.key()));
        let old = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        (path, guest)
    };
    let (first, old_guest) = make("one", 300);
    let entries = read_cpio(&std::fs::read(&first).unwrap());
    assert_eq!(entries.last().unwrap(), &("init".to_owned(), (0o100_755, (0, 0), b"one".to_vec())));
    let modified = std::fs::metadata(&first).unwrap().modified().unwrap();
    assert_eq!(assemble(bundle, &old_guest).unwrap(), first);
    assert_eq!(std::fs::metadata(&first).unwrap().modified().unwrap(), modified, "made once");

    let (second, _) = make("two", 200);
    let (third, _) = make("three", 100);
    assert!(!first.exists() && second.exists() && third.exists());
    assert!(assemble(bundle, &old_guest).is_err(), "the binary is another one by now");
}

/// Gets the newest kernel of a suite from the real archive.
fn real_package(suite: &str, directory: &Path) -> KernelPackage {
    let client = Client::new(&[], Patience::default()).unwrap();
    let archives = Archives::new(client, DEBIAN_KEYRING.into(), directory.to_owned());
    let archive = DebianMirror::of_host().unwrap_or_default().archive;
    let distribution = Distribution { archive, suite: suite.parse().unwrap() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let packages = runtime.block_on(archives.packages(&distribution, is_of_interest, &Unwatched)).unwrap();
    let metapackage = packages.iter().find(|package| package.name == METAPACKAGE).unwrap();
    let (name, _) = dependency(&metapackage.depends).unwrap();
    let kernel = packages.iter().find(|package| package.name == name).unwrap();
    let path = directory.join("kernel.deb");
    runtime.block_on(archives.download(kernel, &path, &Unwatched)).unwrap();
    KernelPackage { path, version: kernel.version.to_string() }
}

#[test]
fn real_debian_kernel_bundle() {
    check_real_bundle("bookworm", &[]);
}

/// Its modules are packed with xz.
#[test]
fn real_debian_kernel_bundle_of_packed_modules() {
    check_real_bundle("trixie", &["virtio", "virtio_ring", "virtio_console"]);
}

#[test]
fn what_is_no_package_of_a_kernel_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("package.deb");
    let why = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let ingredients = Ingredients::Package(KernelPackage { path: path.clone(), version: String::new() });
        let error = kernel::build(&ingredients, &directory.path().join("kernel"), &StdCommands, &Unwatched);
        let text = chain(&error.unwrap_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left");
        text
    };
    assert!(why(b"nothing").contains("it is no Debian package"));
    assert!(why(b"!<arch>\n").contains("there are no files in it"));
    let member = |name: &str, content: &[u8]| {
        let mut header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, content.len()).into_bytes();
        header.extend_from_slice(content);
        [b"!<arch>\n", &header[..]].concat()
    };
    assert!(why(&member("data.tar", &[0; 1024])).contains("there is no kernel image in it"));
    assert!(why(&member("data.tar.xz", b"x")).contains("cannot unpack"));
}

/// The whole bundle, of a package in Debian's real archive, whose kernel has built these in that may be modules.
fn check_real_bundle(suite: &str, built_in: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("kernels/one");
    let package = real_package(suite, directory.path());
    let ingredients = Ingredients::Package(package.clone());
    let bundle = kernel::build(&ingredients, &destination, &StdCommands, &Unwatched)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(bundle.version, package.version);
    assert!(bundle.release.ends_with("-cloud-amd64"), "{bundle:?}");
    assert_eq!(kernel::describe(&destination).unwrap(), bundle);
    let names: Vec<_> = std::fs::read_dir(directory.path().join("kernels"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["one"], "nothing is left beside it");

    // The boot protocol's magic (Documentation/arch/x86/boot.rst).
    let elf = std::fs::read(destination.join("vmlinux")).unwrap();
    // A 64-bit x86 file (ELF-64 specification, "ELF Header": e_ident, e_machine).
    assert_eq!((&elf[..5], &elf[18..20]), (&b"\x7fELF\x02"[..], &[62, 0][..]));
    let image = std::fs::read(destination.join("vmlinuz")).unwrap();
    assert_eq!(&image[0x202..0x206], b"HdrS");

    let archive = read_cpio(&std::fs::read(destination.join("modules.cpio")).unwrap());
    let entries: BTreeMap<_, _> = archive.into_iter().collect();
    for name in ["dev", "proc", "sys", "newroot", "modules"] {
        assert_eq!(entries[name].0, 0o040_755, "{name}");
    }
    assert_eq!((entries["dev/console"].0, entries["dev/console"].1), (0o020_600, (5, 1)));
    let list = String::from_utf8(entries["modules/list"].2.clone()).unwrap();
    let listed: Vec<_> = list.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let position = |module: &str| {
        let found = listed.iter().position(|(name, _)| name[3..] == format!("{module}.ko"));
        found.unwrap_or_else(|| panic!("{module}: {list}"))
    };
    let purpose = |module: &str| listed[position(module)].1;
    let is_before = |one, other| built_in.contains(&one) || position(one) < position(other);
    assert!(is_before("virtio", "virtio_mmio") && is_before("virtio_ring", "virtio_mmio"));
    assert!(position("net_failover") < position("virtio_net"));
    assert!(position("vsock") < position("vmw_vsock_virtio_transport"));
    for (module, expected) in [
        ("virtio_blk", "root"),
        ("overlay", "root"),
        ("virtio_console", "console"),
        ("vsock", "socket"),
        ("net_failover", "network"),
        ("squashfs", "image"),
        ("erofs", "image"),
    ] {
        if !built_in.contains(&module) {
            assert_eq!(purpose(module), expected, "{module}");
        }
    }
    for module in built_in {
        assert!(!list.contains(&format!("-{module}.ko ")), "{module}: {list}");
    }
    // All that VMs need, and Docker in them.
    assert_eq!(bundle.features, KernelFeature::ALL);
    for (name, _) in &listed {
        assert_eq!(&entries[&format!("modules/{name}")].2[..4], b"\x7fELF", "{name}");
    }

    let image = Image { path: destination.join("modules.ext4"), directory: tempfile::tempdir().unwrap() };
    image.check();
    let Some(mounted) = image.mount("check_real_bundle") else { return };
    let seen = look(&mounted.at);
    for name in ["modules.dep", "modules.alias", "modules.dep.bin", "kernel/fs/overlayfs/overlay.ko"] {
        assert!(seen.contains_key(name.as_bytes()), "{name}");
    }
    assert!(seen.values().all(|entry| entry.owner == (0, 0)));
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
