//! The smallest init, packed for a kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use banger_image::kernel::cpio::Archive;

/// What the init of `bench/init.S` prints.
pub(crate) const LINE: &str = "banger-bench: init runs";
/// The init's source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/init.S");

/// What the init does when it has said its line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// It ends the machine.
    Ends,
    /// It sleeps.
    Stays,
}

impl Init {
    const fn file(self) -> &'static str {
        match self {
            Self::Ends => "init-ends.cpio",
            Self::Stays => "init-stays.cpio",
        }
    }

    /// Returns its initramfs in `scratch`; makes it if it is not there.
    pub(super) fn initramfs(self, scratch: &Path) -> Result<PathBuf> {
        let archive = scratch.join(self.file());
        if !archive.exists() {
            self.make(scratch, &archive)?;
        }
        Ok(archive)
    }

    /// Assembles the init and packs it.
    fn make(self, scratch: &Path, archive: &Path) -> Result<()> {
        let init = scratch.join("init");
        let mut assemble = Command::new("gcc");
        assemble.args(["-static", "-nostdlib", "-s", "-Wl,--build-id=none"]);
        if matches!(self, Self::Stays) {
            assemble.arg("-DSTAYS");
        }
        let status = assemble.arg("-o").arg(&init).arg(SOURCE).status().context("cannot run gcc")?;
        ensure!(status.success(), "{assemble:?} ended with {status}");
        let packed = Archive::new()
            .directory("dev", 0o755)
            .character_device("dev/console", 0o600, 5, 1)
            .file("init", 0o755, &fs_err::read(init)?)
            .finish();
        Ok(fs_err::write(archive, packed)?)
    }
}

/// Makes all of them in `scratch`, and returns their files: for where there is no compiler.
pub(crate) fn make(scratch: &Path) -> Result<Vec<PathBuf>> {
    [Init::Ends, Init::Stays].into_iter().map(|init| init.initramfs(scratch)).collect()
}
