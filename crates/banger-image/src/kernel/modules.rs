//! A kernel's modules: all of them as a file system, and those needed to mount as an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use banger_core::work::Work;
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

/// Returns the first half of the initramfs: `/modules/NN-NAME.ko`, `/modules/list` with their file
/// names in the order of loading, and the directories and the console that init starts with.
pub(super) fn boot_archive(modules: &Path, release: &str, wanted: &[&str]) -> Result<Vec<u8>, KernelError> {
    let read = |name: &str| {
        fs::read_to_string(modules.join(name)).map_err(KernelError::io("read the list of modules"))
    };
    let (dependencies, built_in) = (read("modules.dep")?, read("modules.builtin")?);
    let graph = Graph::parse(&dependencies, &built_in);
    let order = graph.load_order(wanted).map_err(|module| {
        let release = release.to_owned();
        KernelError::NoModule { release, module }
    })?;
    let mut archive = Archive::new()
        .directory("dev", 0o755)
        .character_device("dev/console", 0o600, 5, 1)
        .directory("proc", 0o755)
        .directory("sys", 0o755)
        .directory("newroot", 0o755)
        .directory("modules", 0o755);
    let mut list = String::new();
    for (index, path) in order.iter().enumerate() {
        let content = fs::read(modules.join(path)).map_err(KernelError::io("read a module"))?;
        let name = format!("{index:02}-{}.ko", module_name(path));
        archive = archive.file(&format!("modules/{name}"), 0o644, &content);
        list.push_str(&name);
        list.push('\n');
    }
    Ok(archive.file("modules/list", 0o644, list.as_bytes()).finish())
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
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

impl<'a> Graph<'a> {
    fn parse(dependencies: &'a str, built_in: &str) -> Self {
        let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let loadable =
            lines.map(|(path, needs)| (module_name(path), (path, needs.split_whitespace().collect())));
        Self { loadable: loadable.collect(), built_in: built_in.lines().map(module_name).collect() }
    }

    /// Returns the paths of the modules and of all that they need, each after what it needs itself.
    /// Fails with the name of one that is not there.
    fn load_order(&self, wanted: &[&str]) -> Result<Vec<&'a str>, String> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(&module_name(name), &mut BTreeSet::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        under_way: &mut BTreeSet<String>,
        order: &mut Vec<&'a str>,
    ) -> Result<(), String> {
        let Some((path, needs)) = self.loadable.get(name) else {
            return if self.built_in.contains(name) { Ok(()) } else { Err(name.to_owned()) };
        };
        // The kernel has no circles; a damaged list must not make an endless one.
        if order.contains(path) || !under_way.insert(name.to_owned()) {
            return Ok(());
        }
        needs.iter().try_for_each(|need| self.visit(&module_name(need), under_way, order))?;
        order.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let dependencies = "a/net.ko: a/failover.ko a/ring.ko a/bus.ko\na/failover.ko:\n\
                            a/ring.ko: a/bus.ko\na/bus.ko:\na/o-v.ko:\n";
        let graph = Graph::parse(dependencies, "kernel/fs/ext4/ext4.ko\n");
        let order = graph.load_order(&["ring", "net", "o_v", "ext4", "net"]).unwrap();
        assert_eq!(order, ["a/bus.ko", "a/ring.ko", "a/failover.ko", "a/net.ko", "a/o-v.ko"]);
        assert_eq!(graph.load_order(&["none"]), Err("none".to_owned()));
        let circle = Graph::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
        assert_eq!(circle.load_order(&["a"]).unwrap(), ["b.ko", "a.ko"]);
    }
}
