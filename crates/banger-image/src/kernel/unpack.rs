//! Taking what is needed out of a kernel package.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use banger_core::work::Work;
use fs_err as fs;

use super::{KernelError, file};
use crate::archive::{self, Compression, Reading};
use crate::rootfs::{Content, HardLink, Metadata, RootfsWriter, Special, Timestamp, TreePath, WriteError};

/// How the name of the member begins that holds a package's files (deb(5)).
const DATA: &[u8] = b"data.tar";
/// Most bytes that a kernel package may unpack to; Debian's have 150 MB.
const LARGEST: u64 = 2 << 30;
/// Most bytes of a kernel's configuration; Debian's have 270 kB.
const LARGEST_CONFIGURATION: u64 = 8 << 20;
/// How names of modules end that are packed.
const PACKED: [(&str, Compression); 3] =
    [(".ko.xz", Compression::Xz), (".ko.zst", Compression::Zstd), (".ko.gz", Compression::Gzip)];

/// What was taken out.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) release: String,
    /// When the package was built.
    pub(super) modified: Timestamp,
    /// The kernel's configuration; empty where the package has none.
    pub(super) configuration: String,
}

/// Writes the kernel image of a package into `bundle`, and its modules beneath `tree` as `lib/modules/RELEASE`, none of them
/// packed.
pub(super) fn unpack(
    package: &Path,
    tree: &Path,
    bundle: &Path,
    work: &dyn Work,
) -> Result<Unpacked, KernelError> {
    let problem = |problem: String| KernelError::Package { path: package.to_owned(), problem };
    let file = fs::File::open(package).map_err(KernelError::io("read the kernel's package"))?;
    let mut members = ar::Archive::new(BufReader::new(file));
    let modified = Timestamp::default();
    let mut picker = Picker { tree, bundle, release: None, modified, configuration: String::new() };
    loop {
        let member = members.next_entry().transpose();
        let member = member.map_err(|error| problem(format!("it is no Debian package ({error})")))?;
        let member = member.ok_or_else(|| problem("there are no files in it".to_owned()))?;
        if member.header().identifier().starts_with(DATA) {
            let reading = Reading { limit: LARGEST, hash_stored: false, ..Reading::default() };
            archive::read(member, &reading, &mut picker, work).map_err(|source| KernelError::Unpack {
                path: package.to_owned(),
                source: Box::new(source),
            })?;
            break;
        }
    }
    let release = picker.release.ok_or_else(|| problem("there is no kernel image in it".to_owned()))?;
    let modules = tree.join("lib/modules").join(&release);
    if !modules.join("kernel").is_dir() {
        return Err(problem(format!("there are no modules of {release} in it")));
    }
    Ok(Unpacked { release, modified: picker.modified, configuration: picker.configuration })
}

/// A root file system of which only the kernel and its modules are kept.
struct Picker<'a> {
    tree: &'a Path,
    bundle: &'a Path,
    release: Option<String>,
    modified: Timestamp,
    configuration: String,
}

impl Picker<'_> {
    /// Returns where a file of the package goes, if anywhere, and how it is packed.
    fn destination(&mut self, path: &TreePath, metadata: &Metadata) -> Option<(PathBuf, Compression)> {
        // Names of a kernel package are plain; anything else is not one of those that are wanted.
        let path = std::str::from_utf8(path.as_bytes()).ok()?;
        if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
            self.release = Some(release.to_owned());
            self.modified = metadata.modified;
            return Some((self.bundle.join(file::KERNEL), Compression::None));
        }
        let path = path.strip_prefix("usr/").unwrap_or(path);
        path.strip_prefix("lib/modules/")?;
        for (end, packed) in PACKED {
            if let Some(stem) = path.strip_suffix(end) {
                return Some((self.tree.join(format!("{stem}.ko")), packed));
            }
        }
        Some((self.tree.join(path), Compression::None))
    }
}

impl RootfsWriter for Picker<'_> {
    // A package is one layer, and takes nothing away.
    fn next_layer(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn whiteout(&mut self, _path: &TreePath) -> Result<(), WriteError> {
        Ok(())
    }

    fn opaque(&mut self, _path: &TreePath) -> Result<(), WriteError> {
        Ok(())
    }

    fn sparse_file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<(), WriteError> {
        if path.as_bytes().starts_with(b"boot/config-") {
            self.configuration.clear();
            let mut text = Read::take(content, LARGEST_CONFIGURATION);
            let text = text.read_to_string(&mut self.configuration);
            return text.map(drop).map_err(WriteError::Image);
        }
        let Some((destination, packed)) = self.destination(path, &metadata) else { return Ok(()) };
        let mut stored = Read::take(content, size);
        let mut write = || -> io::Result<()> {
            if let Some(parent) = destination.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&destination)?;
            // The whole archive has a limit, and what one module unpacks to is in the same measure.
            io::copy(&mut packed.decoder(&mut stored)?.take(LARGEST), &mut file).map(drop)
        };
        write().map_err(WriteError::Image)?;
        if stored.limit() > 0 {
            return Err(WriteError::ContentEnds { path: path.to_string(), missing: stored.limit() });
        }
        Ok(())
    }

    fn directory(&mut self, _path: &TreePath, _metadata: Metadata) -> Result<(), WriteError> {
        Ok(())
    }

    fn symbolic_link(
        &mut self,
        _path: &TreePath,
        _metadata: Metadata,
        _target: &[u8],
    ) -> Result<(), WriteError> {
        Ok(())
    }

    fn hard_link(&mut self, _path: &TreePath, _target: &TreePath) -> Result<HardLink, WriteError> {
        Ok(HardLink::Linked)
    }

    fn special(
        &mut self,
        _path: &TreePath,
        _metadata: Metadata,
        _special: Special,
    ) -> Result<(), WriteError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64, WriteError> {
        Ok(0)
    }
}
