//! Root file systems and kernel bundles: sources, ext4 and cpio writing.
//!
//! - [`rootfs`]: the trait behind which root file systems are written, and the ext4 writer.
//! - [`archive`]: tar archives of root file systems and layers.
//! - [`oci`]: images as layouts and archives hold them.
//! - [`source`]: where images come from: `debian:`, `tar:`.
//! - [`kernel`]: kernel bundles and the initramfs.
//! - [`disk`]: a VM's private disk and its configuration drive.
//! - [`publish`]: how a finished result appears under its name: whole or not at all.
//!
//! Everything blocks; the daemon calls it from threads made for that. Programs of the host are run
//! through [`banger_core::command::Commands`] alone.

mod encoding;
mod regular;

pub mod archive;
pub mod disk;
pub mod kernel;
pub mod oci;
pub mod publish;
pub mod rootfs;
pub mod source;

pub use regular::open_regular;

/// Says how a package is installed, as what a person can do.
pub(crate) fn install(package: &str) -> String {
    format!("install {package}: `sudo apt-get install {package}` on Debian and Ubuntu")
}
