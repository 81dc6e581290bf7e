//! A kernel's modules: all of them as a file system, and those needed to mount as an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use banger_core::work::Work;
use banger_types::guest::ModulePurpose;
use fs_err as fs;

use super::KernelError;
use super::cpio::Archive;
use crate::rootfs::ext4::Ext4Writer;
use crate::rootfs::{Metadata, PathError, RootfsWriter, Timestamp, TreePath, WriteError};

/// Writes the tree `modules` as the root of a file system: everything root's, all of one time.
pub(super) fn write_ext4(
    modules: &Path,
    modified: Timestamp,
    image: &Path,
    work: &dyn Work,
) -> Result<(), KernelError> {
    let io = KernelError::io("write the file system of the modules");
    let mut writer = Box::new(Ext4Writer::create(image, "banger-modules").map_err(&io)?);
    let metadata = |mode| Metadata { mode, modified, ..Metadata::default() };
    writer.directory(&TreePath::default(), metadata(0o755)).map_err(KernelError::Modules)?;
    let mut pending = vec![modules.to_owned()];
    while let Some(directory) = pending.pop() {
        for path in sorted(&directory).map_err(&io)? {
            work.check()?;
            let kind = fs::symlink_metadata(&path).map_err(&io)?;
            let name = tree_path(modules, &path).map_err(|error| io(std::io::Error::other(error)))?;
            let written: Result<(), WriteError> = if kind.is_dir() {
                pending.push(path);
                writer.directory(&name, metadata(0o755))
            } else if kind.is_file() {
                let mut file = fs::File::open(&path).map_err(&io)?;
                writer.file(&name, metadata(0o644), kind.len(), &mut file)
            } else {
                Ok(())
            };
            written.map_err(KernelError::Modules)?;
        }
    }
    writer.finish().map(drop).map_err(KernelError::Modules)
}

fn sorted(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn tree_path(root: &Path, path: &Path) -> Result<TreePath, PathError> {
    TreePath::parse(path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes())
}

/// Where a kernel's modules are read from.
pub(super) trait ModuleSource {
    /// Returns whether there is a file of this path: lists may name more than there is.
    fn has(&self, path: &str) -> bool;

    /// Returns a file's content by its path beneath `lib/modules/RELEASE`; a module's as it is loaded.
    fn read(&self, path: &str) -> Result<Vec<u8>, KernelError>;
}

/// Modules in a directory, none of them compressed.
pub(super) struct Directory<'a>(pub(super) &'a Path);

impl ModuleSource for Directory<'_> {
    fn has(&self, path: &str) -> bool {
        self.0.join(path).is_file()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, KernelError> {
        fs::read(self.0.join(path)).map_err(KernelError::io("read a kernel's modules"))
    }
}

/// Most modules that an initramfs has: a kernel needs about 15.
const MOST: usize = 128;
/// How deep modules may need each other: a kernel's do five deep.
const DEEPEST: usize = 32;
/// Most bytes that the modules of an initramfs have together.
const MOST_BYTES: usize = 256 << 20;

/// What becomes of a module that is wanted and not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The kernel is of no use.
    Refused,
    /// It may be built in, though nothing says so: the kernel itself is asked later.
    Ignored,
}

/// Returns the first half of the initramfs: `/modules/NN-NAME.ko`, `/modules/list` (see [`ModulePurpose`]), and the
/// directories and the console that init starts with.
pub(super) fn boot_archive(
    modules: &dyn ModuleSource,
    release: &str,
    wanted: &[(&str, ModulePurpose)],
    missing: Missing,
) -> Result<Vec<u8>, KernelError> {
    let list = |name| modules.read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let built_in = match list("modules.builtin") {
        Err(_) if missing == Missing::Ignored => String::new(),
        result => result?,
    };
    let dependencies = list("modules.dep")?;
    let mut graph = Graph::parse(&dependencies, &built_in);
    graph.loadable.retain(|_, (path, _)| modules.has(path));
    let order = graph.load_order(wanted, missing).map_err(|module| {
        let release = release.to_owned();
        KernelError::NoModule { release, module }
    })?;
    let mut files = Vec::with_capacity(order.len());
    let mut bytes = 0;
    for (path, purpose) in order {
        let content = modules.read(path)?;
        bytes += content.len();
        if bytes > MOST_BYTES {
            return Err(KernelError::TooManyModules { release: release.to_owned(), most: MOST_BYTES });
        }
        files.push((module_name(path), purpose, content));
    }
    Ok(archive_of(&files))
}

/// Returns the archive with these modules, in the order in which they must be loaded.
pub(super) fn archive_of(modules: &[(String, ModulePurpose, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::new()
        .directory("dev", 0o755)
        .character_device("dev/console", 0o600, 5, 1)
        .directory("proc", 0o755)
        .directory("sys", 0o755)
        .directory("newroot", 0o755)
        .directory("modules", 0o755);
    let mut list = String::new();
    for (index, (name, purpose, content)) in modules.iter().enumerate() {
        let name = format!("{index:02}-{name}.ko");
        archive = archive.file(&format!("modules/{name}"), 0o644, content);
        list.extend([name.as_str(), " ", purpose.name(), "\n"]);
    }
    archive.file("modules/list", 0o644, list.as_bytes()).finish()
}

/// Which module needs which: depmod's `modules.dep` and the kernel's `modules.builtin`.
struct Graph<'a> {
    /// By name: its path and the paths that it needs.
    loadable: BTreeMap<String, (&'a str, Vec<&'a str>)>,
    built_in: BTreeSet<String>,
}

/// Returns a module's name from its path; `-` and `_` are the same (modprobe(8)).
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    // `.ko`, `.ko.xz`: no module's name has a dot in it.
    file.split_once(".ko").map_or(file, |(name, _)| name).replace('-', "_")
}

impl<'a> Graph<'a> {
    fn parse(dependencies: &'a str, built_in: &str) -> Self {
        let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let loadable =
            lines.map(|(path, needs)| (module_name(path), (path, needs.split_whitespace().collect())));
        Self { loadable: loadable.collect(), built_in: built_in.lines().map(module_name).collect() }
    }

    /// Returns the paths of the modules and of all that they need, each after what it needs itself and with the purpose for
    /// which it is needed first. Fails with the name of one that is not there.
    fn load_order(
        &self,
        wanted: &[(&str, ModulePurpose)],
        missing: Missing,
    ) -> Result<Vec<(&'a str, ModulePurpose)>, String> {
        let mut order = Vec::new();
        for (name, purpose) in wanted {
            let before = order.len();
            let mut walk = Walk { purpose: *purpose, under_way: BTreeSet::new(), order: &mut order };
            if let Err(module) = self.visit(&module_name(name), DEEPEST, &mut walk) {
                if missing == Missing::Refused {
                    return Err(module);
                }
                // Half of what it needs is of no use either.
                order.truncate(before);
            }
        }
        Ok(order)
    }

    /// Adds a module to the order, after what it needs. Fails with the name of one that is not there, or beyond all that a
    /// kernel's modules need.
    fn visit(&self, name: &str, depth: usize, walk: &mut Walk<'a, '_>) -> Result<(), String> {
        let Some((path, needs)) = self.loadable.get(name) else {
            return if self.built_in.contains(name) { Ok(()) } else { Err(name.to_owned()) };
        };
        // The kernel has no circles; a damaged list must not make an endless one.
        if walk.order.iter().any(|(known, _)| known == path) || !walk.under_way.insert(name.to_owned()) {
            return Ok(());
        }
        if depth == 0 || walk.under_way.len() > MOST {
            return Err(name.to_owned());
        }
        needs.iter().try_for_each(|need| self.visit(&module_name(need), depth - 1, walk))?;
        walk.order.push((path, walk.purpose));
        Ok(())
    }
}

/// A walk from a module to all that it needs.
struct Walk<'a, 'b> {
    purpose: ModulePurpose,
    /// What was met on it.
    under_way: BTreeSet<String>,
    /// What is to be loaded, from this walk and those before.
    order: &'b mut Vec<(&'a str, ModulePurpose)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        use ModulePurpose::{Image, Network, Root};
        let dependencies = "a/net.ko: a/failover.ko a/ring.ko a/bus.ko\na/failover.ko.xz:\n\
                            a/ring.ko: a/bus.ko\na/bus.ko:\na/o-v.ko:\n";
        let graph = Graph::parse(dependencies, "kernel/fs/ext4/ext4.ko\n");
        let wanted = [("ring", Root), ("net", Network), ("o_v", Image), ("ext4", Root), ("net", Root)];
        let order = graph.load_order(&wanted, Missing::Refused).unwrap();
        let expected = [
            ("a/bus.ko", Root),
            ("a/ring.ko", Root),
            ("a/failover.ko.xz", Network),
            ("a/net.ko", Network),
            ("a/o-v.ko", Image),
        ];
        assert_eq!(order, expected);
        let none = [("none", Root), ("ring", Root)];
        assert_eq!(graph.load_order(&none, Missing::Refused), Err("none".to_owned()));
        assert_eq!(graph.load_order(&none, Missing::Ignored).unwrap().len(), 2);
        let half = Graph::parse("a.ko: b.ko c.ko\nb.ko:\n", "");
        assert_eq!(half.load_order(&[("a", Root)], Missing::Ignored).unwrap(), []);
        // What no kernel has, and somebody may have written.
        let lines = |line: &dyn Fn(u32) -> String| (0..200_000).map(line).collect::<Vec<_>>().concat();
        let long = lines(&|n| format!("m{n}.ko: m{}.ko\n", n + 1));
        let long = Graph::parse(&long, "m200000\n");
        assert!(long.load_order(&[("m0", Root)], Missing::Refused).is_err());
        let wide = format!("a.ko:{}\n{}", lines(&|n| format!(" m{n}.ko")), lines(&|n| format!("m{n}.ko:\n")));
        assert!(Graph::parse(&wide, "").load_order(&[("a", Root)], Missing::Refused).is_err());
        let circle = Graph::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
        assert_eq!(circle.load_order(&[("a", Root)], Missing::Refused).unwrap()[0].0, "b.ko");
    }
}
