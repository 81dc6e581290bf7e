//! Kernels and their initramfs: of whatever files somebody has a bundle comes that is whole, and the same each time, or
//! none, and nothing is left.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use banger_core::command::{CommandError, Commands, Consumer, HostCommand};
use banger_core::work::{Unwatched, Work};
use banger_fuzz::scratch::Place;
use banger_fuzz::seeds;
use banger_image::kernel::cpio::Archive;
use banger_image::kernel::{self, Ingredients, KernelBundle, KernelError, RECIPE, file};
use libfuzzer_sys::fuzz_target;

/// Bytes at the begin of the input that say how long the kernel is; what follows it is the initramfs.
const HEADER: usize = 2;

fuzz_target!(
    init: {
        let bzimage = bzimage(b"\x7fELF and so on");
        let seeds: Vec<_> = [&b"\x7fELF and so on"[..], &bzimage]
            .into_iter()
            .flat_map(|kernel| initramfs().map(|initramfs| input(kernel, &initramfs)))
            .collect();
        seeds::plant(seeds.iter().map(Vec::as_slice));
    },
    |bytes: &[u8]| {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return };
        let length = usize::from(u16::from_le_bytes(*header)).min(rest.len());
        let (kernel, initramfs) = rest.split_at(length);
        let place = Place::new();
        let at = |name: &str| place.path().join(name);
        fs::write(at("kernel"), kernel).unwrap_or_else(|error| panic!("{error}"));
        let initrd = (!initramfs.is_empty()).then(|| at("initramfs"));
        if let Some(path) = &initrd {
            fs::write(path, initramfs).unwrap_or_else(|error| panic!("{error}"));
        }
        let own = Ingredients::Files { kernel: at("kernel"), initrd };
        let Ok(bundle) = build(&own, &place, "own") else { return };
        assert_eq!(fs::read(at("own").join(file::KERNEL)).ok().as_deref(), Some(kernel));
        let again = build(&own, &place, "again").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(bundle, again);
        let archive = |name: &str| fs::read(at(name).join(file::MODULES_ARCHIVE)).ok();
        assert_eq!(archive("own"), archive("again"));
        // The same kernel, downloaded: by itself, it is as good.
        build(&Ingredients::Download(at("kernel")), &place, "copy").unwrap_or_else(|error| panic!("{error}"));
    }
);

/// Makes a bundle, and looks whether it is whole, or nothing.
fn build(ingredients: &Ingredients, place: &Place, name: &str) -> Result<KernelBundle, KernelError> {
    let destination = place.path().join(name);
    let built = kernel::build(ingredients, &destination, &NoCommands, &Unwatched);
    let is_unfinished = |name: &str| name.starts_with('.');
    let entries = fs::read_dir(place.path()).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(!names.any(|name| is_unfinished(&name)), "nothing unfinished is left");
    assert_eq!(destination.exists(), built.is_ok());
    if let Ok(bundle) = &built {
        whole(bundle, &destination);
    }
    built
}

fn whole(bundle: &KernelBundle, directory: &Path) {
    assert_eq!(bundle.recipe, RECIPE);
    let begin = |name: &str| {
        let content = fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{error}"));
        content.get(..6).map(<[u8]>::to_vec)
    };
    assert!(begin(file::VMLINUX).is_some_and(|begin| begin.starts_with(b"\x7fELF")) || is_short(directory));
    assert_eq!(begin(file::MODULES_ARCHIVE).as_deref(), Some(&b"070701"[..]));
    let read = kernel::describe(directory).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(&read, bundle);
}

/// Whether a kernel is little more than what says that it is one.
fn is_short(directory: &Path) -> bool {
    fs::read(directory.join(file::VMLINUX))
        .is_ok_and(|kernel| kernel.len() < 6 && kernel.starts_with(b"\x7fELF"))
}

fn input(kernel: &[u8], initramfs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(kernel.len()).unwrap_or_else(|error| panic!("{error}"));
    [&length.to_le_bytes(), kernel, initramfs].concat()
}

/// A kernel as x86 boots it (Linux, Documentation/arch/x86/boot.rst), with its release and this payload.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x20e, &(0x300_u16 - 512).to_le_bytes());
    put(0x24c, &u32::try_from(payload.len()).unwrap_or_default().to_le_bytes());
    put(0x300, b"6.1 (root@host)");
    image.extend_from_slice(payload);
    image
}

/// As distributions make them: the processor's microcode, padding, and the rest packed or not.
fn initramfs() -> [Vec<u8>; 3] {
    let microcode = Archive::new().file("kernel/x86/microcode/x.bin", 0o644, b"microcode").finish();
    let main = Archive::new()
        .file("init", 0o755, b"#!/bin/sh")
        .file("usr/lib/modules/6.1/modules.dep", 0o644, b"kernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko:\n")
        .file("usr/lib/modules/6.1/modules.builtin", 0o644, b"kernel/overlay.ko\n")
        .file("usr/lib/modules/6.1/kernel/ext4.ko", 0o644, b"\x7fELF ext4")
        .file("usr/lib/modules/6.1/kernel/jbd2.ko", 0o644, b"\x7fELF jbd2")
        .finish();
    [main.clone(), [microcode, vec![0; 8], gzip(&main)].concat(), Vec::new()]
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap_or_else(|error| panic!("{error}"));
    encoder.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// A host without programs: none is needed for these.
struct NoCommands;

impl Commands for NoCommands {
    fn run(&self, command: &HostCommand, _work: &dyn Work) -> Result<Vec<u8>, CommandError> {
        Err(CommandError::NotInstalled { program: command.program.clone() })
    }

    fn stream(
        &self,
        command: &HostCommand,
        _work: &dyn Work,
        _consume: Consumer<'_>,
    ) -> Result<(), CommandError> {
        Err(CommandError::NotInstalled { program: command.program.clone() })
    }

    fn find(&self, _program: &str) -> Option<PathBuf> {
        None
    }
}
