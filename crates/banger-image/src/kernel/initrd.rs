//! Taking a kernel's modules out of somebody's initramfs.
//!
//! An initramfs is any number of cpio archives one after the other, with NUL bytes between them, each of which may be packed
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Here one that is packed is taken for the last, as
//! distributions make them. Nothing of it but modules is kept.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use banger_core::work::Work;
use cpio::newc::{Entry, Reader};

use super::KernelError;
use super::modules::ModuleSource;
use crate::archive::Compression;
use crate::regular::open_regular;

/// Most bytes that one may have, and may unpack to.
const LIMIT: u64 = 1 << 30;
/// Most bytes of modules, as they are in it, that are kept.
const MOST_KEPT: u64 = 256 << 20;
/// Most bytes that a module may unpack to.
const LARGEST_MODULE: u64 = 64 << 20;
/// The lists of modules, beside them.
const LISTS: [&str; 2] = ["modules.dep", "modules.builtin"];
/// `S_IFMT` and `S_IFREG` (inode(7)).
const KIND: (u32, u32) = (0o170_000, 0o100_000);
/// Most archives that one may consist of.
const MOST_ARCHIVES: usize = 16;
/// What cpio's headers begin with.
const MAGICS: [&[u8; 6]; 2] = [b"070701", b"070702"];
/// Where modules are, and where they are with a merged `/usr`.
const MODULES: [&str; 2] = ["lib/modules/", "usr/lib/modules/"];

/// The modules of an initramfs, as they are in it.
pub(super) struct Initrd {
    path: PathBuf,
    /// By release, and then by path beneath it.
    modules: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Bytes of them.
    kept: u64,
}

impl Initrd {
    /// Reads the initramfs at `path`.
    pub(super) fn open(path: &Path, work: &dyn Work) -> Result<Self, KernelError> {
        let file = open_regular(path).map_err(KernelError::io("read the initramfs"))?;
        let mut initrd = Self { path: path.to_owned(), modules: BTreeMap::new(), kept: 0 };
        let read = initrd.read_archives(Box::new(BufReader::new(Bounded::new(file, work))), work);
        // What was cancelled shows up as a failed read.
        work.check()?;
        read.map_err(|error| initrd.problem(error.to_string()))?;
        Ok(initrd)
    }

    fn problem(&self, problem: String) -> KernelError {
        KernelError::Initrd { path: self.path.clone(), problem }
    }

    /// Returns the modules of a kernel; of the only one that there are any of, if nothing is known of the kernel.
    pub(super) fn of_release(&self, release: Option<&str>) -> Result<(&str, Modules<'_>), KernelError> {
        let mut releases = self.modules.keys();
        let found = match (release, releases.next(), releases.next()) {
            (Some(release), ..) => self.modules.get_key_value(release),
            (None, Some(only), None) => self.modules.get_key_value(only),
            (None, ..) => None,
        };
        let there = || self.modules.keys().cloned().collect::<Vec<_>>().join(", ");
        let (release, files) = found.ok_or_else(|| match (release, self.modules.is_empty()) {
            (_, true) => self.problem("there are no modules in it".to_owned()),
            (Some(release), false) => {
                self.problem(format!("it has modules of {} and none of the kernel {release}", there()))
            }
            (None, false) => self.problem(format!("it has modules of {}, of several kernels", there())),
        })?;
        Ok((release, Modules { initrd: self, files }))
    }

    fn read_archives<'a>(&mut self, mut input: Box<dyn Read + 'a>, work: &'a dyn Work) -> io::Result<()> {
        let mut packed = false;
        for _ in 0..MOST_ARCHIVES {
            let Some(begin) = beginning(&mut input)? else { return Ok(()) };
            let is_archive = MAGICS.iter().any(|magic| begin.starts_with(*magic));
            let compression = Compression::of(&begin).unwrap_or(Compression::None);
            input = Box::new(Cursor::new(begin).chain(input));
            if is_archive {
                input = self.read_archive(input)?;
            } else if compression != Compression::None && !packed {
                packed = true;
                input = Box::new(BufReader::new(Bounded::new(compression.decoder(input)?, work)));
            } else {
                return Err(io::Error::other(
                    "it is no cpio archive, and not one packed with gzip, xz or zstd either",
                ));
            }
        }
        Err(io::Error::other("it consists of too many archives"))
    }

    /// Reads one archive to its end.
    fn read_archive<'a>(&mut self, mut input: Box<dyn Read + 'a>) -> io::Result<Box<dyn Read + 'a>> {
        loop {
            let mut entry = Reader::new(input)?;
            if entry.entry().is_trailer() {
                return entry.finish();
            }
            let name = entry.entry().name();
            let name = name.trim_start_matches("./").trim_start_matches('/');
            let place = MODULES.iter().find_map(|place| name.strip_prefix(place)?.split_once('/'));
            if let Some((release, path)) = place.filter(|(_, path)| is_wanted(entry.entry(), path)) {
                self.kept += u64::from(entry.entry().file_size());
                if self.kept > MOST_KEPT {
                    return Err(io::Error::other(format!("its modules have more than {MOST_KEPT} bytes")));
                }
                let (release, path) = (release.to_owned(), path.to_owned());
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                self.modules.entry(release).or_default().insert(path, content);
            }
            input = entry.finish()?;
        }
    }
}

/// Whether an entry is a module, or a list of them.
fn is_wanted(entry: &Entry, path: &str) -> bool {
    entry.mode() & KIND.0 == KIND.1 && (LISTS.contains(&path) || path.contains(".ko"))
}

/// Reads no more than [`LIMIT`] bytes, and nothing once somebody has cancelled.
struct Bounded<'a, R> {
    reader: R,
    left: u64,
    work: &'a dyn Work,
}

impl<'a, R> Bounded<'a, R> {
    fn new(reader: R, work: &'a dyn Work) -> Self {
        Self { reader, left: LIMIT, work }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.check().map_err(io::Error::other)?;
        let got = self.reader.read(buffer)?;
        let left = self.left.checked_sub(got as u64);
        self.left = left.ok_or_else(|| io::Error::other(format!("it has more than {LIMIT} bytes")))?;
        Ok(got)
    }
}

/// Skips NUL bytes and returns what follows, as far as formats are told by it; nothing at the end.
fn beginning(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut first = [0];
    while first == [0] {
        if input.read(&mut first)? == 0 {
            return Ok(None);
        }
    }
    let mut begin = first.to_vec();
    input.take(5).read_to_end(&mut begin)?;
    Ok(Some(begin))
}

/// A kernel's modules in an initramfs.
pub(super) struct Modules<'a> {
    initrd: &'a Initrd,
    files: &'a BTreeMap<String, Vec<u8>>,
}

impl ModuleSource for Modules<'_> {
    fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, KernelError> {
        let content =
            self.files.get(path).ok_or_else(|| self.initrd.problem(format!("it has no '{path}'")))?;
        let failed = |error: io::Error| self.initrd.problem(format!("'{path}' does not unpack: {error}"));
        let compression = Compression::of(content).unwrap_or(Compression::None);
        let mut unpacked = Vec::new();
        let mut decoder = compression.decoder(content.as_slice()).map_err(failed)?.take(LARGEST_MODULE + 1);
        decoder.read_to_end(&mut unpacked).map_err(failed)?;
        if unpacked.len() as u64 > LARGEST_MODULE {
            return Err(self.initrd.problem(format!("'{path}' has more than {LARGEST_MODULE} bytes")));
        }
        Ok(unpacked)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use banger_core::work::Unwatched;

    use super::*;
    use crate::kernel::cpio::Archive;

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 1).unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn open(content: &[u8]) -> Result<Initrd, KernelError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Initrd::open(file.path(), &Unwatched)
    }

    fn problem(initrd: Result<Initrd, KernelError>) -> String {
        match initrd.err().unwrap() {
            KernelError::Initrd { problem, .. } => problem,
            other => panic!("{other:?}"),
        }
    }

    /// As distributions make them: the processor's microcode, padding, and the rest packed.
    fn initramfs(pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let microcode = Archive::new().file("kernel/x86/microcode/AuthenticAMD.bin", 0o644, b"microcode");
        let main = Archive::new()
            .file("init", 0o755, b"#!/bin/sh")
            .file("usr/lib/modules/6.1/modules.dep", 0o644, b"kernel/a.ko.zst:\n")
            .file("usr/lib/modules/6.1/kernel/a.ko.zst", 0o644, &zstd(b"\x7fELF a"))
            .file("lib/modules/6.1/kernel/b.ko", 0o644, b"\x7fELF b");
        [microcode.finish(), vec![0; 1024], pack(&main.finish())].concat()
    }

    #[test]
    fn modules_are_found_however_they_are_packed() {
        for pack in [zstd as fn(&[u8]) -> Vec<u8>, gzip, <[u8]>::to_vec] {
            let initrd = open(&initramfs(pack)).unwrap();
            let (release, modules) = initrd.of_release(None).unwrap();
            assert_eq!(release, "6.1");
            assert_eq!(modules.read("modules.dep").unwrap(), b"kernel/a.ko.zst:\n");
            assert_eq!(modules.read("kernel/a.ko.zst").unwrap(), b"\x7fELF a");
            assert_eq!(modules.read("kernel/b.ko").unwrap(), b"\x7fELF b");
            assert!(modules.read("kernel/c.ko").is_err());
            assert!(initrd.of_release(Some("6.1")).is_ok());
            let other = initrd.of_release(Some("6.2")).map(drop).unwrap_err();
            assert!(
                other.to_string().contains("it has modules of 6.1 and none of the kernel 6.2"),
                "{other}"
            );
        }
    }

    #[test]
    fn what_is_no_initramfs_is_refused() {
        assert!(problem(open(b"hello")).contains("no cpio archive"));
        assert!(problem(open(&zstd(&zstd(&initramfs(zstd))))).contains("no cpio archive"));
        let whole = initramfs(zstd);
        assert!(!problem(open(&whole[..whole.len() - 20])).is_empty());
        let empty = open(&Archive::new().finish()).unwrap();
        assert!(empty.of_release(None).map(drop).unwrap_err().to_string().contains("no modules"));
        assert!(problem(open(&Archive::new().finish().repeat(20))).contains("too many archives"));
        // Gibibytes of nothing in a few kilobytes, and modules of them.
        let nothing = zstd(&vec![0; 64 << 20]);
        let much = [zstd(&Archive::new().finish()), nothing.repeat(17)].concat();
        assert!(problem(open(&much)).contains("more than 1073741824 bytes"));
        let zeros = vec![0; 65 << 20];
        let large = Archive::new().file("lib/modules/6.1/a.ko.zst", 0o644, &zstd(&zeros));
        let large = open(&large.finish()).unwrap();
        let (_, modules) = large.of_release(None).unwrap();
        assert!(modules.read("a.ko.zst").unwrap_err().to_string().contains("more than 67108864 bytes"));
        let many = (0..5).fold(Archive::new(), |archive, number| {
            archive.file(&format!("lib/modules/6.1/{number}.ko"), 0o644, &zeros)
        });
        assert!(problem(open(&zstd(&many.finish()))).contains("its modules have more than"));
        // A name that claims to be 4 GiB long.
        let mut claims = Archive::new().file("x", 0o644, b"").finish();
        claims[94..102].copy_from_slice(b"ffffffff");
        assert!(!problem(open(&claims)).is_empty());
    }
}
