//! Kernel bundles: a bootable kernel, its modules as a small file system, and the initramfs.
//!
//! A bundle is a directory with the files of [`file`]. The initramfs that a VM boots with is made of
//! two concatenated cpio archives: the modules needed to mount, which are part of the bundle, and
//! `banger-guest` as `/init`, which changes with each build. [`initramfs::assemble`] puts them
//! together, under a name made of both keys, so that a new build never boots a stale guest.

pub mod cpio;
pub mod debian;
mod features;
mod files;
pub mod initramfs;
mod initrd;
mod modules;
mod unpack;
mod vmlinux;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::{Cancelled, Work};
use banger_types::digest::{Digest, DigestError};
use banger_types::guest::{KernelFeature, ModulePurpose};
use banger_types::kernel::RegisteredKernel;
use banger_types::source::{ImageSourceError, Suite, is_secure_address};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveError;
use crate::publish::{PublishError, Staging};
use crate::rootfs::WriteError;

pub use self::vmlinux::VmlinuxError;

/// Files of a bundle's directory.
pub mod file {
    /// The kernel image, a bzImage; of a user's own it leads to that, which may be an ELF file.
    pub const KERNEL: &str = "vmlinuz";
    /// The same kernel as an ELF file, for VMMs that boot nothing else.
    pub const VMLINUX: &str = "vmlinux";
    /// All modules, as an ext4 whose root is `/lib/modules/RELEASE`; nothing of a user's own kernel.
    pub const MODULES: &str = "modules.ext4";
    /// The modules needed to mount, as the first half of an initramfs.
    pub const MODULES_ARCHIVE: &str = "modules.cpio";
    /// [`super::KernelBundle`] as JSON.
    pub const DESCRIPTION: &str = "kernel.json";
}

/// Which modules are in the initramfs and how it is laid out. To be raised with every change to
/// either, and to what is known of a kernel, so that bundles of an older recipe are made anew.
pub const RECIPE: u32 = 4;
/// A kernel has at most this many bytes.
pub const LARGEST: u64 = vmlinux::LIMIT;

/// What must be loaded before the private disk, the modules and the image can be mounted and the
/// host be spoken to, and what for. Everything else is on the modules drive.
const BOOT_MODULES: [(&str, ModulePurpose); 9] = [
    ("virtio_mmio", ModulePurpose::Root),
    ("virtio_blk", ModulePurpose::Root),
    ("ext4", ModulePurpose::Root),
    ("overlay", ModulePurpose::Root),
    ("virtio_console", ModulePurpose::Console),
    ("vmw_vsock_virtio_transport", ModulePurpose::Socket),
    ("virtio_net", ModulePurpose::Network),
    ("squashfs", ModulePurpose::Image),
    ("erofs", ModulePurpose::Image),
];

/// A source of kernels, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// `debian:SUITE`: the newest cloud kernel of a Debian suite.
    Debian(Suite),
    /// `https://HOST/PATH#sha256=DIGITS`: a kernel that has all it needs built in. What stands behind `#` is no part of the
    /// address (RFC 3986, section 3.5).
    Address {
        /// Where it is.
        url: String,
        /// What it has to be.
        digest: Digest,
    },
}

/// What a bundle is made of; all of it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingredients {
    /// A kernel package of Debian's.
    Package(KernelPackage),
    /// A bzImage or an ELF file that becomes part of the bundle.
    Download(PathBuf),
    /// Files of the user's own, which stay where they are.
    Files {
        /// A bzImage or an ELF file.
        kernel: PathBuf,
        /// An initramfs with the modules that it has not built in.
        initrd: Option<PathBuf>,
    },
}

/// A Debian package with a kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPackage {
    /// The file. Whoever got it has verified it.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
}

impl From<&RegisteredKernel> for Ingredients {
    fn from(files: &RegisteredKernel) -> Self {
        let initrd = files.initrd.as_ref().map(|initrd| initrd.path.clone());
        Self::Files { kernel: files.kernel.path.clone(), initrd }
    }
}

/// Why a text is no source of kernels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelSourceError {
    /// No transport that we know.
    #[error(
        "'{0}' is not a kernel source; write debian:SUITE, as in debian:bookworm, or https://…#sha256=DIGITS"
    )]
    Transport(String),
    /// An address that others could answer for.
    #[error("'{0}' does not begin with https://")]
    Insecure(String),
    /// An address alone.
    #[error(
        "'{0}' does not say what the kernel has to be; write #sha256= and its SHA-256 digest after the address"
    )]
    NoDigest(String),
    /// The digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The suite.
    #[error(transparent)]
    Suite(#[from] ImageSourceError),
}

impl Default for KernelSource {
    /// Returns the source of the kernel that VMs boot unless told otherwise.
    #[expect(clippy::expect_used, reason = "a constant that the tests parse")]
    fn default() -> Self {
        Self::Debian("bookworm".parse().expect("a suite's name"))
    }
}

impl FromStr for KernelSource {
    type Err = KernelSourceError;

    fn from_str(text: &str) -> Result<Self, KernelSourceError> {
        match text.split_once(':') {
            Some(("debian", suite)) => Ok(Self::Debian(suite.parse()?)),
            Some(("http" | "https", rest)) if rest.starts_with("//") => address(text),
            _ => Err(KernelSourceError::Transport(text.chars().take(200).collect())),
        }
    }
}

/// How the part of an address begins that says what is there.
const FRAGMENT: &str = "sha256=";

fn address(text: &str) -> Result<KernelSource, KernelSourceError> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let shown = || url.chars().take(200).collect();
    if !is_secure_address(url) || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(KernelSourceError::Insecure(shown()));
    }
    let digits = fragment.strip_prefix(FRAGMENT).ok_or_else(|| KernelSourceError::NoDigest(shown()))?;
    Ok(KernelSource::Address { url: url.to_owned(), digest: digits.parse()? })
}

impl fmt::Display for KernelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(suite) => write!(f, "debian:{suite}"),
            Self::Address { url, digest } => write!(f, "{url}#{FRAGMENT}{}", digest.digits()),
        }
    }
}

/// What a bundle is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBundle {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The package's version; empty where there is no package.
    pub version: String,
    /// What it can do by its configuration, as far as that is known.
    #[serde(default)]
    pub features: Vec<KernelFeature>,
    /// [`RECIPE`] of the writer.
    pub recipe: u32,
    /// First 16 hexadecimal digits of the SHA-256 digest of the modules' archive.
    pub modules_key: String,
}

/// Why a kernel bundle could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A program that is needed is not there.
    #[error("the program '{program}' is not installed")]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// A directory whose name cannot be handed to a command.
    #[error("the path '{0}' has control characters in it, or is not UTF-8")]
    Directory(PathBuf),
    /// A command failed.
    #[error("cannot {doing}")]
    Command {
        /// What it was for, as a clause.
        doing: &'static str,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// A file is no kernel package.
    #[error("'{path}' is not a package of a kernel: {problem}")]
    Package {
        /// The package.
        path: PathBuf,
        /// What is odd about it, as a clause.
        problem: String,
    },
    /// A kernel package is damaged.
    #[error("cannot unpack '{path}'")]
    Unpack {
        /// The package.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ArchiveError>,
    },
    /// A module that is needed is not there.
    #[error("the kernel {release} has no module '{module}', neither built in nor loadable")]
    NoModule {
        /// The kernel.
        release: String,
        /// The module.
        module: String,
    },
    /// A file could not be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What it was for, as a clause.
        doing: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel cannot be taken out of its image.
    #[error("cannot take the kernel out of its image")]
    Vmlinux(#[from] VmlinuxError),
    /// More than any kernel needs.
    #[error("the modules that the kernel {release} needs to mount have more than {most} bytes")]
    TooManyModules {
        /// The kernel.
        release: String,
        /// Most bytes.
        most: usize,
    },
    /// A user's file is no kernel.
    #[error("'{path}' is no kernel that a VM can boot: a bzImage for x86, or an ELF file")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: VmlinuxError,
    },
    /// A user's initramfs is of no use.
    #[error("cannot take modules out of the initramfs '{path}': {problem}")]
    Initrd {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as a clause.
        problem: String,
    },
    /// The file system of the modules could not be written.
    #[error("cannot write the file system of the modules")]
    Modules(#[source] WriteError),
    /// A bundle's description is not one.
    #[error("'{path}' does not describe a kernel")]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A bundle that another version of banger has made, in another way.
    #[error(
        "the kernel in '{path}' was made by recipe {found}, and this version boots those of recipe {RECIPE}"
    )]
    Outdated {
        /// The bundle.
        path: PathBuf,
        /// Its recipe.
        found: u32,
    },
    /// It could not be published.
    #[error("cannot keep the kernel")]
    Publish(#[from] PublishError),
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl KernelError {
    pub(crate) fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Command { source, .. } => crate::source::was_cancelled(source),
            Self::Unpack { source, .. } => matches!(**source, ArchiveError::Cancelled(_)),
            _ => false,
        }
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Missing { package, .. } => Some(crate::install(package)),
            Self::Outdated { .. } => {
                Some("make it anew with `banger kernel pull NAME`; its VMs keep their disks".to_owned())
            }
            Self::NotAKernel { source: VmlinuxError::TooLarge { .. }, .. } => {
                Some("`strip --strip-debug` takes what no VM needs out of an ELF file".to_owned())
            }
            _ => None,
        }
    }
}

/// Makes the bundle of `ingredients` and publishes it as the directory `destination`, with the files of
/// [`file`]. Needs no root and installs nothing.
pub fn build(
    ingredients: &Ingredients,
    destination: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<KernelBundle, KernelError> {
    let staging = Staging::beside(destination)?;
    let bundle = match ingredients {
        Ingredients::Package(package) => {
            // Not inside of what is published, yet on the same file system and as short-lived.
            let scratch = Staging::beside(destination)?;
            build_package(package, &staging, scratch.path(), commands, work)?
        }
        Ingredients::Download(kernel) => files::build(kernel, files::Use::Copied, None, &staging, work)?,
        Ingredients::Files { kernel, initrd } => {
            files::build(kernel, files::Use::InPlace, initrd.as_deref(), &staging, work)?
        }
    };
    work.check()?;
    staging.publish()?;
    Ok(bundle)
}

fn build_package(
    package: &KernelPackage,
    staging: &Staging,
    scratch: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<KernelBundle, KernelError> {
    work.stage("kernel: unpack");
    let tree = scratch.join("tree");
    let unpacked = unpack::unpack(&package.path, &tree, staging.path(), work)?;
    let image = fs::read(staging.path().join(file::KERNEL)).map_err(KernelError::io("read the kernel"))?;
    fs::write(staging.path().join(file::VMLINUX), vmlinux::extract(&image)?)
        .map_err(KernelError::io("write the kernel's ELF file"))?;
    drop(image);
    work.stage("kernel: write modules");
    let depmod = program("depmod", "kmod", commands)?.argument("-b");
    let depmod = depmod.argument(text(&tree)?).argument(&unpacked.release);
    run(commands, &depmod, "list the kernel's modules", work)?;
    let modules = tree.join("lib/modules").join(&unpacked.release);
    modules::write_ext4(&modules, unpacked.modified, &staging.path().join(file::MODULES), work)?;
    let source = modules::Directory(&modules);
    let archive =
        modules::boot_archive(&source, &unpacked.release, &BOOT_MODULES, modules::Missing::Refused)?;
    fs::write(staging.path().join(file::MODULES_ARCHIVE), &archive)
        .map_err(KernelError::io("write the modules' archive"))?;
    let bundle = KernelBundle {
        release: unpacked.release,
        version: package.version.clone(),
        features: features::of_configuration(&unpacked.configuration, features::Modules::All),
        recipe: RECIPE,
        modules_key: key(&archive),
    };
    write_description(&bundle, staging.path())?;
    Ok(bundle)
}

fn write_description(bundle: &KernelBundle, directory: &Path) -> Result<(), KernelError> {
    let json = serde_json::to_vec_pretty(bundle).map_err(std::io::Error::from);
    let json = json.map_err(KernelError::io("describe the kernel"))?;
    fs::write(directory.join(file::DESCRIPTION), json)
        .map_err(KernelError::io("write the kernel's description"))
}

/// Reads the description of the bundle in `directory`.
pub fn describe(directory: &Path) -> Result<KernelBundle, KernelError> {
    let path = directory.join(file::DESCRIPTION);
    let json = fs::read(&path).map_err(KernelError::io("read the kernel's description"))?;
    serde_json::from_slice(&json).map_err(|source| KernelError::Description { path, source })
}

/// Returns whether the bundle in `directory` is one that this version makes; one that is not cannot be booted and
/// has to be made anew.
pub fn is_current(directory: &Path) -> Result<bool, KernelError> {
    Ok(describe(directory)?.recipe == RECIPE)
}

/// Returns the first 16 hexadecimal digits of the SHA-256 digest.
fn key(bytes: &[u8]) -> String {
    let digest =
        banger_types::digest::Digest::from_bytes(<sha2::Sha256 as sha2::Digest>::digest(bytes).into());
    digest.digits()[..16].to_owned()
}

/// Returns a command of this program, if it is installed.
fn program(
    program: &'static str,
    package: &'static str,
    commands: &dyn Commands,
) -> Result<HostCommand, KernelError> {
    let path = commands.find(program).ok_or(KernelError::Missing { program, package })?;
    Ok(HostCommand::new(text(&path)?))
}

fn run(
    commands: &dyn Commands,
    command: &HostCommand,
    doing: &'static str,
    work: &dyn Work,
) -> Result<Vec<u8>, KernelError> {
    commands.run(command, work).map_err(|source| KernelError::Command { doing, source })
}

/// Returns a path as text that can stand in a command.
fn text(path: &Path) -> Result<String, KernelError> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| KernelError::Directory(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_source_reads_back_as_it_prints() {
        assert_eq!(KernelSource::default().to_string(), "debian:bookworm");
        assert_eq!("debian:trixie".parse::<KernelSource>().unwrap().to_string(), "debian:trixie");
        let digits = "0123456789abcdef".repeat(4);
        for good in
            [format!("https://host/a%20b?c#sha256={digits}"), format!("http://127.0.0.1:1/x#sha256={digits}")]
        {
            assert_eq!(good.parse::<KernelSource>().unwrap().to_string(), good);
        }
        let short = format!("https://host/x#sha256={}", &digits[1..]);
        let insecure = format!("http://host/x#sha256={digits}");
        for bad in [
            "",
            "bookworm",
            "debian:",
            "debian:../x",
            "https://x",
            "debian:a b",
            "https:x",
            &short,
            &insecure,
        ] {
            assert!(bad.parse::<KernelSource>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_that_cannot_stand_in_a_command_are_refused() {
        assert!(text(Path::new("/home/ü b/x")).is_ok());
        assert!(text(Path::new("/a\nb")).is_err());
    }
}
