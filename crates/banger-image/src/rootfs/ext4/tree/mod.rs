//! The tree of entries, held in memory until the end. Contents are in the image already.

mod layer;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::attribute::Attributes;
use super::extent::Extent;
use super::layout::MOST_LINKS;
use crate::rootfs::{Special, Timestamp, TreePath, WriteError};

/// Index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone)]
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

/// A directory's entries by name.
pub(super) type Entries = BTreeMap<Box<[u8]>, Entry>;

/// What a name in a directory leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) node: NodeId,
    /// The last layer that has the name or something beneath it.
    layer: u16,
}

/// What an inode is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Directory { parent: NodeId, entries: Entries },
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
    /// What takes the further names of nodes that have as many as an inode may have.
    continued: HashMap<NodeId, NodeId>,
    /// The layer that entries are of now.
    layer: u16,
    /// Directories of which this layer has taken away what earlier ones have in them.
    cleared: HashSet<NodeId>,
    /// Most nodes.
    limit: usize,
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
    /// Returns a tree of nothing but a root directory. Over all layers it takes at most `limit` entries.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            nodes: vec![Some(directory_node(NodeId::ROOT))],
            freed: Vec::new(),
            continued: HashMap::new(),
            layer: 0,
            cleared: HashSet::new(),
            limit,
        }
    }

    /// Takes at most `entries` entries from now on.
    pub(super) fn limit(&mut self, entries: usize) {
        self.limit = entries;
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
    fn entries(&self, id: NodeId) -> Option<&Entries> {
        match self.kind(id)? {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, id: NodeId) -> Option<&mut Entries> {
        match &mut self.node_mut(id)?.kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    /// Returns what a node is.
    pub(super) fn kind(&self, id: NodeId) -> Option<&Kind> {
        self.nodes.get(id.index())?.as_ref().map(|node| &node.kind)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())?.as_mut()
    }

    fn add(&mut self, path: &TreePath, node: Node) -> Result<NodeId, WriteError> {
        let too_many = || WriteError::TooManyEntries { path: path.to_string(), limit: self.limit };
        if self.nodes.len() >= self.limit {
            return Err(too_many());
        }
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| too_many())?);
        self.nodes.push(Some(node));
        Ok(id)
    }

    /// Puts a node into its place; what was there goes, with everything beneath it.
    pub(super) fn put(&mut self, path: &TreePath, place: Place, node: Node) -> Result<NodeId, WriteError> {
        let id = self.add(path, node)?;
        self.enter(place.directory, place.name, id);
        Ok(id)
    }

    fn enter(&mut self, directory: NodeId, name: Box<[u8]>, node: NodeId) {
        let entry = Entry { node, layer: self.layer };
        let replaced = self.entries_mut(directory).and_then(|entries| entries.insert(name, entry));
        if let Some(replaced) = replaced {
            self.drop_name(replaced.node);
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
                Some(Kind::Directory { entries, .. }) => {
                    doomed.extend(entries.into_values().map(|entry| entry.node));
                }
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
        let id = if path.is_root() { NodeId::ROOT } else { self.open_directory(path)? };
        if let Some(node) = self.node_mut(id) {
            describe(node);
        }
        Ok(())
    }

    /// Returns the directory of this path, which is made if it is not there.
    fn open_directory(&mut self, path: &TreePath) -> Result<NodeId, WriteError> {
        let place = self.place(path)?;
        let layer = self.layer;
        let there = self.entries_mut(place.directory).and_then(|entries| entries.get_mut(&place.name));
        if let Some(entry) = there {
            let node = entry.node;
            entry.layer = layer;
            if self.entries(node).is_some() {
                return Ok(node);
            }
        }
        let parent = place.directory;
        self.put(path, place, directory_node(parent))
    }

    /// Gives `target` a further name. Returns the node that the name must lead to a copy of, because `target` can have
    /// no more: what [`Tree::carry_on`] is to be called with.
    pub(super) fn hard_link(
        &mut self,
        path: &TreePath,
        target: &TreePath,
    ) -> Result<Option<NodeId>, WriteError> {
        let texts = || (path.to_string(), target.to_string());
        let Some(found) = self.find(target)? else {
            let (path, target) = texts();
            return Err(WriteError::LinkTargetMissing { path, target });
        };
        if self.entries(found).is_some() {
            let (path, target) = texts();
            return Err(WriteError::LinkToDirectory { path, target });
        }
        let place = self.place(path)?;
        let id = self.last_of(found);
        let Some(node) = self.node_mut(id) else { return Ok(None) };
        if node.names >= MOST_LINKS {
            return Ok(Some(id));
        }
        // Counted first: what the new name replaces may be the target's only other name.
        node.names += 1;
        self.enter(place.directory, place.name, id);
        Ok(None)
    }

    /// Returns the node that takes further names of `id`.
    fn last_of(&self, mut id: NodeId) -> NodeId {
        while let Some(&next) = self.continued.get(&id) {
            if self.kind(next).is_none() {
                break;
            }
            id = next;
        }
        id
    }

    /// Puts a copy of `full` into the place of `path`. It takes the further names that are given to `full`.
    pub(super) fn carry_on(&mut self, path: &TreePath, full: NodeId, kind: Kind) -> Result<(), WriteError> {
        let Some(node) = self.nodes.get(full.index()).and_then(Option::as_ref) else { return Ok(()) };
        let copy = Node { kind, names: 1, attributes: node.attributes.clone(), ..*node };
        let place = self.place(path)?;
        let id = self.put(path, place, copy)?;
        self.continued.insert(full, id);
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
