//! What the adapter tests share: the real e2fsck, the real kernel's mount, and trees as data.
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "tests; each binary uses a part"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banger_core::command::{CommandError, Commands, Consumer, HostCommand};
use banger_core::work::Work;
use banger_image::rootfs::ext4::Ext4Writer;
use banger_image::rootfs::{ExtendedAttribute, Metadata, RootfsWriter, Timestamp, TreePath};
pub(crate) use banger_testkit::layers::noise;
use sha2::{Digest, Sha256};

/// Runs programs with `std::process`, as `banger-host` does in the daemon.
#[derive(Debug, Default)]
pub(crate) struct StdCommands;

impl StdCommands {
    fn start(command: &HostCommand) -> Result<std::process::Child, CommandError> {
        let mut process = Command::new(&command.program);
        process.args(&command.arguments).envs(command.environment.iter().cloned());
        process.current_dir(command.directory.as_deref().unwrap_or(Path::new("/")));
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CommandError::NotInstalled { program: command.program.clone() },
            _ => CommandError::Io { command: command.to_string(), source },
        })
    }
}

impl Commands for StdCommands {
    fn run(&self, command: &HostCommand, work: &dyn Work) -> Result<Vec<u8>, CommandError> {
        let mut output = Vec::new();
        self.stream(command, work, &mut |reader| {
            reader.read_to_end(&mut output)?;
            Ok(())
        })?;
        Ok(output)
    }

    fn stream(
        &self,
        command: &HostCommand,
        _work: &dyn Work,
        consume: Consumer<'_>,
    ) -> Result<(), CommandError> {
        let mut child = Self::start(command)?;
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let consumed = consume(&mut stdout);
        drop(stdout);
        let status = child.wait().unwrap();
        let stderr = errors.join().unwrap().unwrap_or_default().trim().to_owned();
        let command = command.to_string();
        if !status.success() {
            return Err(CommandError::Failed { command, status: status.to_string(), stderr });
        }
        consumed.map_err(|source| CommandError::Consumer { command, stderr: String::new(), source })
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.exists())
    }
}

/// A directory of the test's own and an image in it.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Image {
    /// Writes an image with `fill`.
    pub(crate) fn write(fill: impl FnOnce(&mut dyn RootfsWriter)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.ext4");
        let mut writer = Box::new(Ext4Writer::create(&path, "test").unwrap());
        fill(writer.as_mut());
        let size = writer.finish().unwrap();
        assert_eq!(size, std::fs::metadata(&path).unwrap().len());
        Self { directory, path }
    }

    /// Fails unless e2fsck(8) finds nothing wrong.
    pub(crate) fn check(&self) -> &Self {
        let output = Command::new("e2fsck").arg("-fn").arg(&self.path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "e2fsck: {}\n{text}{errors}", output.status);
        self
    }

    /// Returns the bytes that the image takes on the disk.
    pub(crate) fn disk_usage(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().blocks() * 512
    }

    /// Mounts the image with the real kernel. `None`, loudly, where that is not allowed.
    pub(crate) fn mount(&self, test: &str) -> Option<Mounted> {
        let at = self.directory.path().join("mounted");
        std::fs::create_dir_all(&at).unwrap();
        let output = Command::new("mount").args(["-o", "loop,ro"]).arg(&self.path).arg(&at).output().unwrap();
        if output.status.success() {
            return Some(Mounted { at });
        }
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let may_mount = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
        assert!(!may_mount, "the kernel refuses the image: {reason}");
        banger_testkit::not_run(test, &format!("in part: only root with loop devices can mount: {reason}"));
        None
    }
}

/// A mounted image; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test beside this one that is just starting a program has, between fork and exec, copies of this
        // test's descriptors, and a mount that something is open in is busy.
        let status = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", self.at.display());
    }
}

/// What there is to see of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: SeenKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, i64),
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) links: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeenKind {
    Directory,
    /// Size and digest.
    File(u64, [u8; 32]),
    Link(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

/// Returns what a file with this content looks like.
pub(crate) fn file(content: &[u8]) -> SeenKind {
    SeenKind::File(content.len() as u64, Sha256::digest(content).into())
}

/// Returns everything beneath `root` by its path, the root itself being the empty one. The entry
/// that every ext4 has is left out.
pub(crate) fn look(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        if relative == b"lost+found" {
            continue;
        }
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let entry = Seen {
            kind: kind(&path, &metadata),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            attributes: attributes(&path),
            links: metadata.nlink(),
        };
        seen.insert(relative, entry);
    }
    seen
}

fn kind(path: &Path, metadata: &std::fs::Metadata) -> SeenKind {
    let kind = metadata.file_type();
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if kind.is_dir() {
        SeenKind::Directory
    } else if kind.is_symlink() {
        SeenKind::Link(std::fs::read_link(path).unwrap().into_os_string().into_vec())
    } else if kind.is_char_device() {
        SeenKind::Character(major, minor)
    } else if kind.is_block_device() {
        SeenKind::Block(major, minor)
    } else if kind.is_fifo() {
        SeenKind::Fifo
    } else if kind.is_socket() {
        SeenKind::Socket
    } else {
        let mut hash = Sha256::new();
        let size = std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hash).unwrap();
        assert_eq!(size, metadata.len());
        SeenKind::File(size, hash.finalize().into())
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// Returns a path.
pub(crate) fn path(bytes: impl AsRef<[u8]>) -> TreePath {
    TreePath::parse(bytes.as_ref()).unwrap()
}

/// Returns metadata with this mode and a few telling values.
pub(crate) fn metadata(mode: u16) -> Metadata {
    Metadata {
        mode,
        uid: 70_000,
        gid: 1_000_000_007,
        modified: Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        attributes: Vec::new(),
    }
}

/// Returns an attribute.
pub(crate) fn attribute(name: &str, value: &[u8]) -> ExtendedAttribute {
    ExtendedAttribute { name: name.into(), value: value.to_vec() }
}
