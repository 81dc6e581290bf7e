//! Taking what is needed out of a kernel package.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use banger_core::command::Commands;
use banger_core::work::Work;
use banger_types::source::Suite;
use fs_err as fs;

use super::apt::Package;
use super::{KernelError, file, program, text};
use crate::archive::{self, Reading};
use crate::rootfs::{Content, HardLink, Metadata, RootfsWriter, Special, Timestamp, TreePath, WriteError};

/// What was taken out.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) release: String,
    /// When the package was built.
    pub(super) modified: Timestamp,
}

/// Writes the kernel image into `bundle`, and its modules beneath `tree` as `lib/modules/RELEASE`.
pub(super) fn unpack(
    package: &Package,
    suite: &Suite,
    tree: &Path,
    bundle: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<Unpacked, KernelError> {
    let command = program("dpkg-deb", "dpkg", commands)?;
    let command = command.argument("--fsys-tarfile").argument(text(&package.path)?);
    let mut picker = Picker { tree, bundle, release: None, modified: Timestamp::default(), compressed: None };
    let mut consume = |reader: &mut dyn Read| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(archive::read_unpacked(reader, &Reading::default(), &mut picker, work).map(drop)?)
    };
    commands
        .stream(&command, work, &mut consume)
        .map_err(|source| KernelError::Command { doing: "unpack the kernel's package", source })?;
    let problem = |problem: String| KernelError::Package { suite: suite.to_string(), problem };
    if let Some(module) = picker.compressed {
        return Err(problem(format!(
            "its modules are compressed ('{module}'), which is not supported yet; use debian:bookworm"
        )));
    }
    let release = picker.release.ok_or_else(|| problem("there is no kernel image in it".to_owned()))?;
    let modules = tree.join("lib/modules").join(&release);
    if !modules.join("kernel").is_dir() {
        return Err(problem(format!("there are no modules of {release} in it")));
    }
    Ok(Unpacked { release, modified: picker.modified })
}

/// A root file system of which only the kernel and its modules are kept.
struct Picker<'a> {
    tree: &'a Path,
    bundle: &'a Path,
    release: Option<String>,
    modified: Timestamp,
    compressed: Option<String>,
}

impl Picker<'_> {
    /// Returns where a file of the package goes, if anywhere.
    fn destination(&mut self, path: &TreePath, metadata: &Metadata) -> Option<PathBuf> {
        // Names of a kernel package are plain; anything else is not one of those that are wanted.
        let path = std::str::from_utf8(path.as_bytes()).ok()?;
        if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
            self.release = Some(release.to_owned());
            self.modified = metadata.modified;
            return Some(self.bundle.join(file::KERNEL));
        }
        let path = path.strip_prefix("usr/").unwrap_or(path);
        let module = path.strip_prefix("lib/modules/")?;
        let packed = [".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|end| module.ends_with(end));
        if packed && self.compressed.is_none() {
            self.compressed = Some(module.to_owned());
        }
        (self.compressed.is_none()).then(|| self.tree.join(path))
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
        let Some(destination) = self.destination(path, &metadata) else { return Ok(()) };
        let write = || -> io::Result<u64> {
            if let Some(parent) = destination.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&destination)?;
            io::copy(&mut Read::take(content, size), &mut file)
        };
        let written = write().map_err(WriteError::Image)?;
        if written < size {
            return Err(WriteError::ContentEnds { path: path.to_string(), missing: size - written });
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
