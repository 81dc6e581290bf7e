//! Mounts: the kernel's file systems, the root made of image and private disk, and the way into it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use banger_types::guest::drive;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_move, unmount};

use super::root::{RootDirectory, descriptor_path};
use super::{BootError, base, growth, modules};
use crate::{log, path};

/// The image, read-only.
pub(super) const BASE: &str = "/base";
/// The private disk.
const PRIVATE: &str = "/private";
/// What the guest has changed of the image: the overlay's upper layer.
pub(super) const UPPER: &str = "/private/overlay/upper";
/// The overlay's scratch directory; on the same file system as the upper layer, and nowhere beneath it.
const WORK: &str = "/private/overlay/work";
/// The modules' drive, until it is where they belong.
const MODULES_DRIVE: &str = "/modules-drive";
/// The overlay: the image's root to be.
const ROOT: &str = "/root";

/// Directories that lie on the private disk itself, as their users cannot work on an overlay (or slowly).
pub(crate) const VOLUMES: [(&str, &str); 2] =
    [("/private/volumes/docker", "/var/lib/docker"), ("/private/volumes/containerd", "/var/lib/containerd")];

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

pub(super) fn mount_on(
    what: &str,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), BootError> {
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount(what, target, kind, flags, Some(options.as_c_str())).map_err(|error| BootError::Mount {
        what: format!("{what} ({kind})"),
        target: target.to_owned(),
        source: error.into(),
    })
}

pub(super) fn make(directory: impl AsRef<Path>) -> Result<(), BootError> {
    fs::create_dir_all(&directory).map_err(|source| BootError::File {
        action: "create",
        path: directory.as_ref().to_owned(),
        source,
    })
}

/// Mounts what the kernel offers, into the initramfs.
pub(super) fn mount_kernel() -> Result<(), BootError> {
    for (kind, target, flags, options) in [
        ("proc", "/proc", SAFE, ""),
        ("sysfs", "/sys", SAFE, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
        // Group 5 is tty on every distribution; ptmx has to be usable by all, or nobody could open a terminal.
        ("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "gid=5,mode=0620,ptmxmode=0666"),
        ("tmpfs", "/dev/shm", MountFlags::NOSUID.union(MountFlags::NODEV), "mode=1777"),
    ] {
        make(target)?;
        mount_on(kind, Path::new(target), kind, flags, options)?;
    }
    Ok(())
}

/// Mounts image and private disk, each by itself.
pub(super) fn mount_disks() -> Result<(), BootError> {
    for directory in [BASE, PRIVATE, ROOT] {
        make(directory)?;
    }
    base::mount(Path::new(BASE))?;
    mount_on(drive::PRIVATE, Path::new(PRIVATE), "ext4", MountFlags::NOATIME, &private_options())?;
    growth::grow(drive::PRIVATE, Path::new(PRIVATE));
    for directory in [UPPER, WORK] {
        make(directory)?;
    }
    copy_root_attributes()
}

/// Mounts the overlay of both, and returns it.
pub(super) fn mount_root() -> Result<RootDirectory, BootError> {
    // `redirect_dir`: without it a rename of an image's directory fails with EXDEV (overlayfs.rst, "renaming
    // directories"). `metacopy`: chown and chmod of an image's file copy no data. Both need the upper layer to be
    // ours alone, which it is: nobody else mounts it, and it is never combined with another image.
    let options = format!("lowerdir={BASE},upperdir={UPPER},workdir={WORK},redirect_dir=on,metacopy=on");
    mount_on("overlay", Path::new(ROOT), "overlay", MountFlags::NOATIME, &options)?;
    RootDirectory::open(ROOT).map_err(|source| BootError::File { action: "open", path: ROOT.into(), source })
}

/// Makes the root directory itself what it is in the image: an overlay shows the upper layer's.
fn copy_root_attributes() -> Result<(), BootError> {
    let wrap = |source| BootError::File { action: "set the mode of", path: UPPER.into(), source };
    let metadata = fs::metadata(BASE).map_err(wrap)?;
    fs::set_permissions(UPPER, fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777))
        .map_err(wrap)
}

/// Options of the private disk.
///
/// `noinit_itable`: inode tables that nobody uses stay holes in the host's file, instead of being zeroed in the
/// background. `discard`: what is deleted in the guest goes back to the host; the kernel collects the freed extents of a
/// whole transaction and discards them after its commit, which costs little on virtio-blk. Without support
/// in the drive the option would only earn a warning.
fn private_options() -> String {
    let limit = fs::read_to_string("/sys/class/block/vdb/queue/discard_max_bytes").unwrap_or_default();
    let discard = limit.trim().parse::<u64>().is_ok_and(|bytes| bytes > 0);
    if discard { "noinit_itable,discard".to_owned() } else { "noinit_itable".to_owned() }
}

/// Mounts what lies beneath the root: `/run`, the volumes and the kernel's modules.
pub(super) fn mount_beneath(root: &RootDirectory) -> Result<(), BootError> {
    let run = root.make_directories("/run").map_err(|source| BootError::File {
        action: "create",
        path: "/run".into(),
        source,
    })?;
    mount_on(
        "tmpfs",
        &descriptor_path(&run),
        "tmpfs",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        "mode=0755",
    )?;
    for (source, target) in VOLUMES {
        make(source)?;
        let _ = fs::set_permissions(source, fs::Permissions::from_mode(0o711));
        if let Err(error) = bind(root, source, target) {
            log!("{target} stays on the overlay: {error}");
        }
    }
    if let Err(error) = mount_modules(root) {
        log!("no kernel modules in the guest: {}", log::chain(&error));
    }
    Ok(())
}

/// Binds a directory of the initramfs to one of the root, which is made.
fn bind(root: &RootDirectory, source: &str, target: &str) -> io::Result<()> {
    let target = root.make_directories(target)?;
    Ok(mount_bind(source, descriptor_path(&target))?)
}

fn mount_modules(root: &RootDirectory) -> Result<(), BootError> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let target = Path::new("/lib/modules").join(release.as_ref());
    let directory = root.make_directories(&target).map_err(|source| BootError::File {
        action: "create",
        path: target.clone(),
        source,
    })?;
    // A kernel that is used in place has none here: what the image has of its modules stays to be seen.
    make(MODULES_DRIVE)?;
    mount_on(drive::MODULES, Path::new(MODULES_DRIVE), "ext4", MountFlags::RDONLY, "")?;
    if !Path::new(MODULES_DRIVE).join("modules.dep").exists() {
        let _ = unmount(MODULES_DRIVE, UnmountFlags::DETACH);
        return Ok(());
    }
    mount_move(MODULES_DRIVE, descriptor_path(&directory)).map_err(|error| BootError::Mount {
        what: MODULES_DRIVE.to_owned(),
        target,
        source: error.into(),
    })
}

/// Puts this binary and the configuration where the running guest finds them. `/run` must be mounted.
pub(super) fn publish(root: &RootDirectory, config: &[u8]) -> Result<(), BootError> {
    let wrap = |path: &'static str| {
        move |source: io::Error| BootError::File { action: "write", path: path.into(), source }
    };
    root.write(path::CONFIG, config, 0o600).map_err(wrap(path::CONFIG))?;
    root.resolve(path::DIRECTORY, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|directory| Ok(rustix::fs::fchmod(directory, Mode::from_raw_mode(0o700))?))
        .map_err(wrap(path::DIRECTORY))?;
    root.write(path::BINARY, b"", 0o755).map_err(wrap(path::BINARY))?;
    let binary = root.resolve(path::BINARY, OFlags::PATH).map_err(wrap(path::BINARY))?;
    mount_bind("/init", descriptor_path(&binary)).map_err(|error| BootError::Mount {
        what: "/init".to_owned(),
        target: path::BINARY.into(),
        source: error.into(),
    })?;
    Ok(())
}

/// Makes the root the file system's root, and frees what the initramfs still holds.
///
/// Returns the private disk's directory, which nobody else can reach from then on; `None` when `leave` says that
/// this program goes: the disk is then mounted by the overlay alone.
pub(super) fn enter(root: RootDirectory, leave: bool) -> Result<Option<OwnedFd>, BootError> {
    let private = if leave {
        None
    } else {
        // Not with O_PATH: syncfs needs a file that is really open.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(PRIVATE, flags, Mode::empty()).ok()
    };
    if leave {
        for target in [BASE, PRIVATE] {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
    }
    // What can't be removed costs memory, nothing else.
    let _ = fs::remove_dir_all(modules::DIRECTORY);
    move_kernel(&root)?;
    let wrap =
        |error: Errno| BootError::Mount { what: ROOT.to_owned(), target: "/".into(), source: error.into() };
    rustix::process::fchdir(root.into_directory()).map_err(wrap)?;
    mount_move(".", "/").map_err(wrap)?;
    rustix::process::chroot(".").map_err(wrap)?;
    rustix::process::chdir("/").map_err(wrap)?;
    Ok(private)
}

/// Moves the kernel's file systems into the root. `/proc` comes last: it leads to the others' targets.
fn move_kernel(root: &RootDirectory) -> Result<(), BootError> {
    for source in ["/dev", "/sys", "/proc"] {
        let wrap = |error: io::Error| BootError::Mount {
            what: source.to_owned(),
            target: Path::new(ROOT).join(&source[1..]),
            source: error,
        };
        let target = root.make_directories(source).map_err(wrap)?;
        mount_move(source, descriptor_path(&target)).map_err(|error| wrap(error.into()))?;
    }
    Ok(())
}

/// Mounts and links that systemd would make: for a guest that has none. Called inside the root.
pub(crate) fn complete_without_systemd() {
    let cgroup = Path::new("/sys/fs/cgroup");
    if let Err(error) = mount_on("cgroup2", cgroup, "cgroup2", SAFE, "nsdelegate") {
        log!("no control groups: {}", log::chain(&error));
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, PathBuf::from("/dev").join(name));
    }
    // A directory that all may write to, should the image have none.
    if !Path::new("/tmp").exists() && fs::create_dir("/tmp").is_ok() {
        let _ = fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777));
    }
}

/// Makes a mounted file system read-only; everything on it is on the disk then.
pub(crate) fn make_read_only(directory: &OwnedFd) -> io::Result<()> {
    rustix::fs::syncfs(directory.as_fd())?;
    Ok(rustix::mount::mount_remount(descriptor_path(directory), MountFlags::RDONLY, "")?)
}
