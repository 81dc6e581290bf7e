//! How a path leads to its place: through directories and symbolic links, and never out of the root.

use super::{Kind, NodeId, Place, Tree, directory_node};
use crate::encoding::printable;
use crate::rootfs::path::LONGEST_NAME;
use crate::rootfs::{TreePath, WriteError};

/// Most symbolic links on the way to an entry (`path_resolution(7)`, "Path resolution in the kernel").
const MOST_LINKS_FOLLOWED: usize = 40;

/// What a name leads to.
enum Step {
    Directory(NodeId),
    Link(Box<[u8]>),
    Other,
    Nothing,
}

/// The names that are still to go through, the next one last.
struct Names(Vec<Box<[u8]>>);

impl Names {
    /// Adds the names of a path before all others.
    fn push(&mut self, path: &[u8]) {
        let names = path.split(|&byte| byte == b'/').rev();
        self.0.extend(names.filter(|name| !name.is_empty() && *name != b".").map(Box::from));
    }
}

/// Why a path leads nowhere.
enum Blocked {
    NoDirectory,
    Loop,
    Full(WriteError),
}

impl Tree {
    /// Makes the directories above `path` and returns where its entry goes. They count as the present layer's.
    pub(in super::super) fn place(&mut self, path: &TreePath) -> Result<Place, WriteError> {
        let (parent, name) = path.split_last().ok_or(WriteError::RootIsDirectory)?;
        let layer = self.layer;
        let directory = self.walk(parent, |tree, directory, name, step| match step {
            Step::Directory(_) | Step::Link(_) => {
                let entry = tree.entries_mut(directory).and_then(|entries| entries.get_mut(name));
                if let Some(entry) = entry {
                    entry.layer = layer;
                }
                Ok(step)
            }
            Step::Other => Ok(step),
            Step::Nothing => {
                let made = tree.add(path, directory_node(directory))?;
                tree.enter(directory, name.into(), made);
                Ok(Step::Directory(made))
            }
        });
        match directory {
            Ok(Some(directory)) => Ok(Place { directory, name: name.into() }),
            // There is nothing that is not made.
            Ok(None) | Err(Blocked::NoDirectory) => {
                let parent = format!("/{}", printable(parent));
                Err(WriteError::ParentIsNoDirectory { path: path.to_string(), parent })
            }
            Err(Blocked::Loop) => Err(WriteError::LinkLoop { path: path.to_string() }),
            Err(Blocked::Full(error)) => Err(error),
        }
    }

    /// Returns where the entry of `path` is or would be, if the directories above it are there.
    pub(super) fn look_up(&mut self, path: &TreePath) -> Result<Option<Place>, WriteError> {
        let (parent, name) = path.split_last().ok_or(WriteError::RootIsDirectory)?;
        match self.walk(parent, |_, _, _, step| Ok(step)) {
            Ok(directory) => Ok(directory.map(|directory| Place { directory, name: name.into() })),
            Err(Blocked::NoDirectory) => Ok(None),
            Err(Blocked::Loop) => Err(WriteError::LinkLoop { path: path.to_string() }),
            Err(Blocked::Full(error)) => Err(error),
        }
    }

    /// Returns the node of this path. The last name is not followed if it is a symbolic link's.
    pub(super) fn find(&mut self, path: &TreePath) -> Result<Option<NodeId>, WriteError> {
        if path.is_root() {
            return Ok(Some(NodeId::ROOT));
        }
        let Some(place) = self.look_up(path)? else { return Ok(None) };
        Ok(self.entries(place.directory).and_then(|entries| entries.get(&place.name)).map(|entry| entry.node))
    }

    /// Goes through `path` as a process would whose root this is: symbolic links lead within it, wherever they point.
    /// `visit` is told of each directory on the way, the next name, and what that leads to, and may make something of it.
    fn walk(
        &mut self,
        path: &[u8],
        mut visit: impl FnMut(&mut Self, NodeId, &[u8], Step) -> Result<Step, WriteError>,
    ) -> Result<Option<NodeId>, Blocked> {
        let mut names = Names(Vec::new());
        names.push(path);
        let (mut at, mut followed) = (NodeId::ROOT, 0);
        while let Some(name) = names.0.pop() {
            if *name == *b".." {
                at = self.parent(at);
                continue;
            }
            // One of a link's target: those of paths are short enough.
            if name.len() > LONGEST_NAME {
                return Err(Blocked::NoDirectory);
            }
            let step = self.step(at, &name);
            match visit(self, at, &name, step).map_err(Blocked::Full)? {
                Step::Directory(next) => at = next,
                Step::Link(target) => {
                    followed += 1;
                    if followed > MOST_LINKS_FOLLOWED {
                        return Err(Blocked::Loop);
                    }
                    if target.starts_with(b"/") {
                        at = NodeId::ROOT;
                    }
                    names.push(&target);
                }
                Step::Other => return Err(Blocked::NoDirectory),
                Step::Nothing => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn step(&self, directory: NodeId, name: &[u8]) -> Step {
        let entry = self.entries(directory).and_then(|entries| entries.get(name));
        let Some(next) = entry.map(|entry| entry.node) else { return Step::Nothing };
        match self.kind(next) {
            Some(Kind::Directory { .. }) => Step::Directory(next),
            Some(Kind::Link(target)) => Step::Link(target.clone()),
            _ => Step::Other,
        }
    }

    /// Returns the directory above one; the root's is itself.
    fn parent(&self, directory: NodeId) -> NodeId {
        match self.kind(directory) {
            Some(Kind::Directory { parent, .. }) => *parent,
            _ => NodeId::ROOT,
        }
    }
}
