//! The host's directories, as the daemon's user sees them: names, kinds and sizes, and never what is in a file.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many entries a page has.
pub(crate) const PAGE: usize = 200;

/// File systems of the kernel's own, where nothing is a file of anybody's (`proc(5)`, `sysfs(5)`).
const KERNELS_OWN: [&str; 2] = ["/proc", "/sys"];

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any file.
    Any,
    /// Root file systems and disks.
    Disk,
    /// Kernels.
    Kernel,
    /// Initramfs archives.
    Initrd,
    /// Archives of images.
    Archive,
    /// Directories.
    Folder,
}

impl Wanted {
    /// All, with their names and what they are called.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Any, "any", "all files"),
        (Self::Disk, "disk", "file systems and disks"),
        (Self::Kernel, "kernel", "kernels"),
        (Self::Initrd, "initrd", "initramfs archives"),
        (Self::Archive, "archive", "archives"),
        (Self::Folder, "folder", "folders alone"),
    ];

    /// Returns the one of this name; any file if there is none.
    pub(crate) fn from_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map_or(Self::Any, |(wanted, _, _)| *wanted)
    }

    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(wanted, _, _)| *wanted == self).map_or("any", |(_, name, _)| name)
    }

    /// Returns whether a file is one of these, as far as its name says.
    fn is_named(self, name: &str) -> bool {
        let name = name.to_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let begins = |begins: &[&str]| begins.iter().any(|begin| name.starts_with(begin));
        match self {
            Self::Any => true,
            Self::Disk => {
                ends(&[".ext4", ".ext3", ".ext2", ".img", ".raw", ".squashfs", ".sqfs", ".erofs", ".rootfs"])
            }
            Self::Kernel => {
                begins(&["vmlinu", "bzimage", "linux", "kernel"]) || ends(&[".vmlinux", ".bzimage"])
            }
            Self::Initrd => begins(&["initr"]) || ends(&[".cpio", ".cpio.gz", ".cpio.zst", ".initrd"]),
            Self::Archive => ends(&[".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2", ".txz"]),
            Self::Folder => false,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A directory, or a link to one.
    Directory,
    /// A file, or a link to one.
    File,
    /// A device, a socket, a pipe, or a link that leads nowhere.
    Other,
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) kind: Kind,
    /// Where it leads, if it is a symbolic link.
    pub(crate) link: Option<PathBuf>,
    /// Its size, bytes, if it is a file.
    pub(crate) size: Option<u64>,
}

/// A part of a directory.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory, without `..` in it.
    pub(crate) directory: PathBuf,
    pub(crate) entries: Vec<Entry>,
    /// How many there are in all of what is looked for.
    pub(crate) count: usize,
    /// How many were left out because their names begin with a full stop.
    pub(crate) hidden: usize,
    /// What was typed is this file.
    pub(crate) file: Option<PathBuf>,
    /// What was typed is the beginning of names, and not one.
    pub(crate) beginning: Option<String>,
}

/// What to look at.
#[derive(Debug, Clone)]
pub(crate) struct Look<'a> {
    /// What was typed: a directory, a file, or the beginning of a name.
    pub(crate) path: &'a str,
    pub(crate) wanted: Wanted,
    /// Whether names that begin with a full stop are shown.
    pub(crate) hidden: bool,
    /// Which part, from 0.
    pub(crate) page: usize,
}

/// Returns what there is. Blocks.
///
/// # Errors
/// Those of reading the directory; [`io::ErrorKind::InvalidInput`] for what is no absolute path, and
/// [`io::ErrorKind::Unsupported`] for the kernel's own file systems.
pub(crate) fn look(look: &Look<'_>) -> io::Result<Listing> {
    let path = without_dots(Path::new(look.path))?;
    let (directory, file, beginning) = match fs_err::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => (path, None, None),
        Ok(_) => (parent(&path), Some(path), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !look.path.ends_with('/') => {
            let beginning = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (parent(&path), None, beginning)
        }
        Err(error) => return Err(error),
    };
    let real = fs_err::canonicalize(&directory)?;
    if KERNELS_OWN.iter().any(|own| real.starts_with(own)) || is_kernels(&real) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{} is the kernel's own: nothing there is a file of yours", real.display()),
        ));
    }
    let (mut found, hidden) = names(&directory, look, beginning.as_deref())?;
    found.sort_unstable();
    let count = found.len();
    let page = found.into_iter().skip(look.page.saturating_mul(PAGE)).take(PAGE);
    let entries = page.map(|(kind, name)| examine(&directory, kind, name)).collect();
    Ok(Listing { directory, entries, count, hidden, file, beginning })
}

/// Whether a directory is on a file system of the kernel's own, wherever that is mounted (statfs(2)).
fn is_kernels(directory: &Path) -> bool {
    const PROC: i64 = 0x9fa0;
    const SYSFS: i64 = 0x6265_6572;
    rustix::fs::statfs(directory).is_ok_and(|file_system| [PROC, SYSFS].contains(&file_system.f_type))
}

/// Returns the names in a directory that are looked for, and how many were left out because they are hidden. Asks of none
/// what it is beyond what the directory itself says but of links, so that 100,000 of them are no work.
fn names(
    directory: &Path,
    look: &Look<'_>,
    beginning: Option<&str>,
) -> io::Result<(Vec<(Kind, OsString)>, usize)> {
    let mut found = Vec::new();
    let mut hidden = 0;
    for entry in fs_err::read_dir(directory)? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if beginning.is_some_and(|beginning| !shown.starts_with(beginning)) {
            continue;
        }
        if shown.starts_with('.')
            && !look.hidden
            && beginning.is_none_or(|beginning| !beginning.starts_with('.'))
        {
            hidden += 1;
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_dir() => Kind::Directory,
            Ok(kind) if kind.is_file() => Kind::File,
            Ok(kind) if kind.is_symlink() => kind_of(&directory.join(&name)),
            _ => Kind::Other,
        };
        if kind == Kind::Directory
            || look.wanted == Wanted::Any
            || kind == Kind::File && look.wanted.is_named(&shown)
        {
            found.push((kind, name));
        }
    }
    Ok((found, hidden))
}

fn kind_of(path: &Path) -> Kind {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Kind::Directory,
        Ok(metadata) if metadata.is_file() => Kind::File,
        _ => Kind::Other,
    }
}

fn examine(directory: &Path, kind: Kind, name: OsString) -> Entry {
    let path = directory.join(&name);
    let size = std::fs::metadata(&path).ok().filter(|_| kind == Kind::File).map(|metadata| metadata.len());
    Entry { link: std::fs::read_link(&path).ok(), name, kind, size }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Returns an absolute path without `.` and `..`, as its text says and whatever links it goes through: where a browser's reader
/// thinks to go.
fn without_dots(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        let why = format!("'{}' is not an absolute path: it has to begin with /", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path, wanted: Wanted, hidden: bool) -> io::Result<Listing> {
        look(&Look { path: path.to_str().unwrap(), wanted, hidden, page: 0 })
    }

    fn shown(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| entry.name.to_str().unwrap()).collect()
    }

    fn sample() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in ["root.ext4", "vmlinuz", "notes.txt", ".secret.ext4"] {
            std::fs::write(directory.path().join(name), "12345").unwrap();
        }
        std::fs::create_dir(directory.path().join("z")).unwrap();
        std::os::unix::fs::symlink("z", directory.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("dangling")).unwrap();
        directory
    }

    #[test]
    fn what_is_looked_for_is_shown_with_its_size_and_where_links_lead() {
        let directory = sample();
        let listing = at(directory.path(), Wanted::Disk, false).unwrap();
        assert_eq!(shown(&listing), ["link", "z", "root.ext4"]);
        assert_eq!((listing.count, listing.hidden), (3, 1));
        assert_eq!(listing.entries[0].link.as_deref(), Some(Path::new("z")));
        assert_eq!(listing.entries[2].size, Some(5));
        assert_eq!(shown(&at(directory.path(), Wanted::Disk, true).unwrap())[2], ".secret.ext4");
        let all = at(directory.path(), Wanted::Any, false).unwrap();
        assert_eq!(all.entries.last().unwrap().kind, Kind::Other);
        assert_eq!(shown(&at(directory.path(), Wanted::Folder, false).unwrap()), ["link", "z"]);
    }

    #[test]
    fn what_is_typed_may_be_a_file_the_beginning_of_one_or_have_dots() {
        let directory = sample();
        let file = directory.path().join("vmlinuz");
        assert_eq!(at(&file, Wanted::Any, false).unwrap().file.as_deref(), Some(file.as_path()));
        let listing = at(&directory.path().join("no"), Wanted::Any, false).unwrap();
        assert_eq!((shown(&listing), listing.beginning.as_deref()), (vec!["notes.txt"], Some("no")));
        let listing = at(&directory.path().join("z/../z/./.."), Wanted::Any, false).unwrap();
        assert_eq!(listing.directory, directory.path());
        assert_eq!(at(Path::new("/.././.."), Wanted::Any, false).unwrap().directory, Path::new("/"));
    }

    #[test]
    fn what_is_nobodys_is_refused() {
        for path in ["/proc", "/proc/self/fd", "/sys/kernel", "/dev/fd"] {
            let error = at(Path::new(path), Wanted::Any, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{path}: {error}");
        }
        assert_eq!(at(Path::new("etc"), Wanted::Any, false).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            at(Path::new("/nowhere/at/all"), Wanted::Any, false).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
