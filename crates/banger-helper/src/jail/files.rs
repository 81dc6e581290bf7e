//! Files of the caller's, shown in a jail: opened with the caller's rights, and mounted so that what is the caller's there is the
//! jail's user's (idmapped mounts, `mount_setattr(2)`). Their owners and modes stay what they are.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{Gid, Uid, UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use banger_types::helper::RUN_VMM;

use crate::error::Refusal;

/// Largest program that is copied, bytes.
const LARGEST_PROGRAM: u64 = 64 << 20;

/// Who asks, as the kernel knows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What may be done with what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Reading.
    Read,
    /// Running it.
    Run,
    /// Writing it, too.
    Write,
    /// Making sockets in it, a directory.
    Fill,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Shown {
    name: &'static str,
    path: PathBuf,
    file: OwnedFd,
    usage: Use,
}

/// Does something with the rights of the caller, and no others; root's own come back with its end. There must be one thread.
pub(super) fn as_owner<T>(owner: Owner, act: impl FnOnce() -> T) -> io::Result<T> {
    let (uid, gid, root) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid), Uid::ROOT);
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, gid, Gid::ROOT)?;
    set_thread_res_uid(root, uid, root)?;
    let done = act();
    set_thread_res_uid(root, root, root)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(done)
}

impl Shown {
    /// Opens what has this name in the caller's directory, with whatever rights this process has at the moment.
    pub(super) fn open(directory: &OwnedFd, name: &'static str, usage: Use) -> Result<Self, Refusal> {
        let path = Path::new(banger_types::helper::JAIL).join(name);
        let flags = match usage {
            Use::Read | Use::Run => OFlags::RDONLY,
            Use::Write => OFlags::RDWR,
            // Links lead to files of others; the directory is to be the caller's own.
            Use::Fill => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        };
        // Not for ever, if it is a pipe.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty());
        let file = opened.map_err(|error| Refusal::file("cannot open", &path)(error.into()))?;
        let status = fstat(&file).map_err(|error| Refusal::file("cannot look at", &path)(error.into()))?;
        let expected = if usage == Use::Fill { FileType::Directory } else { FileType::RegularFile };
        if FileType::from_raw_mode(status.st_mode) != expected {
            return Err(Refusal::Planted { path, why: "is neither a file nor a link to one" });
        }
        Ok(Self { name, path, file, usage })
    }

    /// Shows it below `root`, under its name. A program on a file system that takes no part in that is copied.
    pub(super) fn mount(&self, root: &Path, identities: &OwnedFd) -> Result<(), Refusal> {
        let failed = |error: io::Error| Refusal::file("cannot show", &self.path)(error);
        let place = root.join(self.name);
        match self.usage {
            Use::Fill => std::fs::create_dir(&place).map_err(failed)?,
            _ => std::fs::write(&place, "").map_err(failed)?,
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&self.file, "", flags).map_err(|error| failed(error.into()))?;
        match set_attributes(&tree, self.usage, identities) {
            Err(error) if self.usage == Use::Run && error.kind() == io::ErrorKind::InvalidInput => {
                return self.copy(&place).map_err(failed);
            }
            other => other.map_err(failed)?,
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", rustix::fs::CWD, &place, flags).map_err(|error| failed(error.into()))
    }
}

impl Shown {
    /// Puts a copy of a program there, for everybody in the jail to run.
    fn copy(&self, place: &Path) -> io::Result<()> {
        let mut program = std::fs::File::from(self.file.try_clone()?);
        let mut copy = std::fs::File::create(place)?;
        let length = io::copy(&mut io::Read::by_ref(&mut program).take(LARGEST_PROGRAM + 1), &mut copy)?;
        if length > LARGEST_PROGRAM {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        copy.set_permissions(std::fs::Permissions::from_mode(0o755))
    }
}

/// Says what a mount that is nowhere yet is for, and whom it shows as the owner of what is the caller's.
fn set_attributes(tree: &OwnedFd, usage: Use, identities: &OwnedFd) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if usage != Use::Run {
        set |= libc::MOUNT_ATTR_NOEXEC;
    }
    if matches!(usage, Use::Read | Use::Run) {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let descriptor = u64::try_from(identities.as_raw_fd()).unwrap_or(u64::MAX);
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: descriptor };
    // SAFETY: the descriptors are open, the path is a string that ends, and the kernel reads as many bytes of the attributes as are
    // said.
    #[expect(unsafe_code, reason = "no library has this system call")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What this program is told to be a process with a user namespace of its own, until its standard input ends.
pub(super) const HOLD: &str = "hold-identities";

/// Returns a user namespace in which the caller's numbers are those of the jail's user: what a mount is told by.
pub(super) fn identities(owner: Owner, jail: u32) -> io::Result<OwnedFd> {
    let mut holder = Command::new("/proc/self/exe")
        .args([RUN_VMM, HOLD])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = [0; 1];
    let output = holder.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    io::Read::read_exact(output, &mut said)?;
    let process = PathBuf::from(format!("/proc/{}", holder.id()));
    std::fs::write(process.join("uid_map"), format!("{} {jail} 1", owner.uid))?;
    std::fs::write(process.join("gid_map"), format!("{} {jail} 1", owner.gid))?;
    let namespace = std::fs::File::open(process.join("ns/user"))?;
    drop(holder.stdin.take());
    holder.wait()?;
    Ok(namespace.into())
}

/// Is that process.
pub(super) fn hold() -> io::Result<()> {
    // SAFETY: this process has one thread and shares its table of descriptors with nobody.
    #[expect(unsafe_code, reason = "unsharing is unsafe for programs that go on as they were")]
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?;
    }
    io::Write::write_all(&mut io::stdout(), b".")?;
    io::Write::flush(&mut io::stdout())?;
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// Whether a descriptor is of a directory that belongs to the caller, where nobody else may write.
pub(super) fn is_owners_directory(directory: impl AsFd, owner: Owner) -> bool {
    fstat(directory).is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode) == FileType::Directory
            && status.st_uid == owner.uid
            && status.st_mode & 0o022 == 0
    })
}
