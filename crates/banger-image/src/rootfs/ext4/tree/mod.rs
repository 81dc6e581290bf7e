//! The tree of entries, held in memory until the end. Contents are in the image already.

use std::collections::BTreeMap;

use super::attribute::Attributes;
use super::extent::Extent;
use super::layout::MOST_LINKS;
use crate::encoding::printable;
use crate::rootfs::{Special, Timestamp, TreePath, WriteError};

/// Most entries of one file system.
const MOST_ENTRIES: usize = 4_000_000;

/// Index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The root directory.
    pub(super) const ROOT: Self = Self(0);

    /// Returns the index, for tables beside the tree.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An inode to be.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Timestamp,
    pub(super) attributes: Option<Box<Attributes>>,
    pub(super) kind: Kind,
    /// Names that lead here; for a directory its one name.
    pub(super) names: u32,
}

/// What an inode is.
#[derive(Debug)]
pub(super) enum Kind {
    Directory { parent: NodeId, entries: BTreeMap<Box<[u8]>, NodeId> },
    File { size: u64, extents: Box<[Extent]> },
    Link(Box<[u8]>),
    Special(Special),
}

/// Where an entry goes: a directory that is there, and a name in it.
#[derive(Debug)]
pub(super) struct Place {
    directory: NodeId,
    name: Box<[u8]>,
}

/// All entries.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    /// Blocks of files that are no longer there.
    freed: Vec<Extent>,
}

fn directory_node(parent: NodeId) -> Node {
    Node {
        mode: 0o755,
        uid: 0,
        gid: 0,
        modified: Timestamp::default(),
        attributes: None,
        kind: Kind::Directory { parent, entries: BTreeMap::new() },
        names: 1,
    }
}

impl Tree {
    /// Returns a tree of nothing but a root directory.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Some(directory_node(NodeId::ROOT))], freed: Vec::new() }
    }

    /// Returns every node that is there, in the order of their making.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().zip(0u32..).filter_map(|(node, id)| Some((NodeId(id), node.as_ref()?)))
    }

    /// Returns how many node ids were given out.
    pub(super) fn ids(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the blocks that nothing uses any more.
    pub(super) fn freed(&self) -> &[Extent] {
        &self.freed
    }

    /// Notes that nothing uses these blocks.
    pub(super) fn free(&mut self, extents: &[Extent]) {
        self.freed.extend_from_slice(extents);
    }

    /// Returns a directory's entries; `None` for what is no directory.
    fn entries(&self, id: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.nodes.get(id.index())?.as_ref()?.kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, id: NodeId) -> Option<&mut BTreeMap<Box<[u8]>, NodeId>> {
        match &mut self.nodes.get_mut(id.index())?.as_mut()?.kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    /// Returns what a node is.
    pub(super) fn kind(&self, id: NodeId) -> Option<&Kind> {
        self.nodes.get(id.index())?.as_ref().map(|node| &node.kind)
    }

    /// Returns the node of this path, through directories alone.
    fn find(&self, path: &TreePath) -> Option<NodeId> {
        path.names().try_fold(NodeId::ROOT, |at, name| self.entries(at)?.get(name).copied())
    }

    fn add(&mut self, path: &TreePath, node: Node) -> Result<NodeId, WriteError> {
        let limit =
            || WriteError::Limit { path: path.to_string(), limit: "there are 4000000 entries already" };
        if self.nodes.len() >= MOST_ENTRIES {
            return Err(limit());
        }
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| limit())?);
        self.nodes.push(Some(node));
        Ok(id)
    }

    /// Makes the directories above `path` and returns where its entry goes.
    pub(super) fn place(&mut self, path: &TreePath) -> Result<Place, WriteError> {
        let (parent, name) = path.split_last().ok_or(WriteError::RootIsDirectory)?;
        let mut directory = NodeId::ROOT;
        for part in parent.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
            let next = self.entries(directory).and_then(|entries| entries.get(part).copied());
            directory = match next {
                Some(next) if self.entries(next).is_some() => next,
                Some(_) => {
                    let parent = format!("/{}", printable(parent));
                    return Err(WriteError::ParentIsNoDirectory { path: path.to_string(), parent });
                }
                None => {
                    let made = self.add(path, directory_node(directory))?;
                    self.enter(directory, part.into(), made);
                    made
                }
            };
        }
        Ok(Place { directory, name: name.into() })
    }

    /// Puts a node into its place; what was there goes, with everything beneath it.
    pub(super) fn put(&mut self, path: &TreePath, place: Place, node: Node) -> Result<NodeId, WriteError> {
        let id = self.add(path, node)?;
        self.enter(place.directory, place.name, id);
        Ok(id)
    }

    fn enter(&mut self, directory: NodeId, name: Box<[u8]>, id: NodeId) {
        let replaced = self.entries_mut(directory).and_then(|entries| entries.insert(name, id));
        if let Some(replaced) = replaced {
            self.drop_name(replaced);
        }
    }

    /// Takes one name from a node. Without names it goes, with everything beneath it.
    fn drop_name(&mut self, id: NodeId) {
        // A list, not recursion: the depth is the archive's choice.
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            let Some(slot) = self.nodes.get_mut(id.index()) else { continue };
            let Some(node) = slot else { continue };
            node.names -= 1;
            if node.names > 0 {
                continue;
            }
            match slot.take().map(|node| node.kind) {
                Some(Kind::Directory { entries, .. }) => doomed.extend(entries.into_values()),
                Some(Kind::File { extents, .. }) => self.freed.extend_from_slice(&extents),
                _ => {}
            }
        }
    }

    /// Makes a directory, or gives one that is there the metadata of `describe`.
    pub(super) fn directory(
        &mut self,
        path: &TreePath,
        describe: impl FnOnce(&mut Node),
    ) -> Result<(), WriteError> {
        let there = self.find(path).filter(|&id| self.entries(id).is_some());
        let id = if let Some(id) = there {
            id
        } else {
            let place = self.place(path)?;
            let parent = place.directory;
            self.put(path, place, directory_node(parent))?
        };
        if let Some(Some(node)) = self.nodes.get_mut(id.index()) {
            describe(node);
        }
        Ok(())
    }

    /// Gives `target` a further name.
    pub(super) fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), WriteError> {
        let texts = || (path.to_string(), target.to_string());
        let Some(id) = self.find(target) else {
            let (path, target) = texts();
            return Err(WriteError::LinkTargetMissing { path, target });
        };
        if self.entries(id).is_some() {
            let (path, target) = texts();
            return Err(WriteError::LinkToDirectory { path, target });
        }
        let place = self.place(path)?;
        if let Some(Some(node)) = self.nodes.get_mut(id.index()) {
            if node.names >= MOST_LINKS {
                let (path, target) = texts();
                return Err(WriteError::TooManyLinks { path, target });
            }
            // Counted first: what the new name replaces may be the target's only other name.
            node.names += 1;
        }
        self.enter(place.directory, place.name, id);
        Ok(())
    }

    /// Makes the directory that e2fsck(8) puts lost files into, unless there is something of that
    /// name. Without it `e2fsck -n` fails.
    pub(super) fn add_lost_and_found(&mut self) -> Result<(), WriteError> {
        const NAME: &[u8] = b"lost+found";
        if self.entries(NodeId::ROOT).is_some_and(|entries| entries.contains_key(NAME)) {
            return Ok(());
        }
        let mut node = directory_node(NodeId::ROOT);
        node.mode = 0o700;
        let id = self.add(&TreePath::default(), node)?;
        self.enter(NodeId::ROOT, NAME.into(), id);
        Ok(())
    }
}
