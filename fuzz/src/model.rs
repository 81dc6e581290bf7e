//! What a root file system should be after a sequence of calls: paths and what they lead to, with nothing of how a file
//! system keeps it.

use std::collections::BTreeMap;
use std::ops::Bound;

use banger_image::rootfs::{ExtendedAttribute, Metadata, Special, Timestamp, TreePath};

use crate::content::Blocks;

/// Most symbolic links on the way to an entry.
const MOST_LINKS_FOLLOWED: usize = 40;
/// Longest name.
const LONGEST_NAME: usize = 255;

/// Why the model says that a call must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something on the way is no directory.
    NoDirectory,
    /// Links lead round and round.
    Loop,
    /// It would make the root something else.
    Root,
    /// The target of a hard link is not there.
    Missing,
    /// It is a directory.
    LinkToDirectory,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size, bytes.
        size: u64,
        /// What is in it.
        blocks: Blocks,
    },
    /// A symbolic link.
    Link(Vec<u8>),
    /// A device, a pipe or a socket.
    Special(Special),
}

/// What names lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permissions.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// When it changed last.
    pub modified: Timestamp,
    /// Extended attributes by name.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    /// Returns a node with this metadata, as file systems can keep it.
    pub fn new(kind: Kind, metadata: &Metadata) -> Self {
        let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { metadata.mode & 0o7777 };
        let attribute = |it: &ExtendedAttribute| (it.name.clone(), value(it));
        Self {
            kind,
            mode,
            owner: (metadata.uid, metadata.gid),
            modified: kept(metadata.modified),
            attributes: metadata.attributes.iter().map(attribute).collect(),
        }
    }

    fn plain_directory() -> Self {
        Self::new(Kind::Directory, &Metadata { mode: 0o755, ..Metadata::default() })
    }
}

/// Returns an attribute's value, as the kernel would: an access control list has no id where its tag has none.
fn value(attribute: &ExtendedAttribute) -> Vec<u8> {
    let mut value = attribute.value.clone();
    if attribute.name.starts_with(b"system.posix_acl_") && value.len() >= 4 {
        for entry in value[4..].chunks_exact_mut(8) {
            // A named user or a named group.
            if !matches!(entry[0], 0x02 | 0x08) {
                entry[4..].fill(0xff);
            }
        }
    }
    value
}

/// Returns the nearest time that ext4 can keep: 34 bits of seconds.
fn kept(time: Timestamp) -> Timestamp {
    let seconds = time.seconds.clamp(-(1 << 31), (3 << 32) + (1 << 31) - 1);
    let nanoseconds = if seconds == time.seconds { time.nanoseconds.min(999_999_999) } else { 0 };
    Timestamp { seconds, nanoseconds }
}

/// A name, by the index of its node, and the last layer that has it or something beneath it.
#[derive(Debug, Clone, Copy)]
struct Name {
    node: usize,
    layer: u32,
}

/// The tree.
#[derive(Debug)]
pub struct Model {
    /// By path; the root's is empty.
    names: BTreeMap<Vec<u8>, Name>,
    nodes: Vec<Node>,
    layer: u32,
}

impl Default for Model {
    fn default() -> Self {
        let root = Name { node: 0, layer: 0 };
        Self { names: BTreeMap::from([(Vec::new(), root)]), nodes: vec![Node::plain_directory()], layer: 0 }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn split(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    bytes.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

impl Model {
    /// Returns every path with the index of its node, and the node.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], usize, &Node)> {
        self.names.iter().map(|(path, name)| (path.as_slice(), name.node, &self.nodes[name.node]))
    }

    /// Returns how many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether there is nothing, which never is: the root stays.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Begins the next layer.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Adds a directory, or gives one that is there other metadata.
    pub fn directory(&mut self, path: &TreePath, metadata: &Metadata) -> Result<(), Refusal> {
        let at = self.open(path)?;
        let node = self.names[&at].node;
        self.nodes[node] = Node::new(Kind::Directory, metadata);
        Ok(())
    }

    /// Adds anything else but a hard link.
    pub fn put(&mut self, path: &TreePath, node: Node) -> Result<(), Refusal> {
        let at = self.place(path)?;
        self.nodes.push(node);
        self.enter(at, self.nodes.len() - 1);
        Ok(())
    }

    /// Makes the way to something that then fails.
    pub fn attempt(&mut self, path: &TreePath) -> Result<(), Refusal> {
        self.place(path).map(drop)
    }

    /// Adds a further name.
    pub fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), Refusal> {
        let target = match self.look_up(target) {
            Err(Refusal::Root) => return Err(Refusal::LinkToDirectory),
            found => found?.and_then(|at| self.names.get(&at)).map(|name| name.node),
        };
        let target = target.ok_or(Refusal::Missing)?;
        if self.nodes[target].kind == Kind::Directory {
            return Err(Refusal::LinkToDirectory);
        }
        let at = self.place(path)?;
        self.enter(at, target);
        Ok(())
    }

    /// Takes away what earlier layers have at a path.
    pub fn whiteout(&mut self, path: &TreePath) -> Result<(), Refusal> {
        if let Some(at) = self.look_up(path)? {
            self.take_away(&at, true);
        }
        Ok(())
    }

    /// Takes away what earlier layers have in a directory.
    pub fn opaque(&mut self, path: &TreePath) -> Result<(), Refusal> {
        let at = self.open(path)?;
        self.take_away(&at, false);
        Ok(())
    }

    /// Makes what there always is at the end.
    pub fn finish(&mut self) {
        let name = b"lost+found".to_vec();
        if !self.names.contains_key(&name) {
            let metadata = Metadata { mode: 0o700, ..Metadata::default() };
            self.nodes.push(Node::new(Kind::Directory, &metadata));
            self.enter(name, self.nodes.len() - 1);
        }
    }

    /// Returns where a path leads, with a directory there.
    fn open(&mut self, path: &TreePath) -> Result<Vec<u8>, Refusal> {
        if path.is_root() {
            return Ok(Vec::new());
        }
        let at = self.place(path)?;
        match self.names.get_mut(&at) {
            Some(name) if self.nodes[name.node].kind == Kind::Directory => name.layer = self.layer,
            _ => {
                self.nodes.push(Node::plain_directory());
                self.enter(at.clone(), self.nodes.len() - 1);
            }
        }
        Ok(at)
    }

    fn enter(&mut self, at: Vec<u8>, node: usize) {
        self.take_away_all(&at);
        self.names.insert(at, Name { node, layer: self.layer });
    }

    fn beneath(at: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        if at.is_empty() {
            return (Bound::Excluded(Vec::new()), Bound::Unbounded);
        }
        // The byte after a slash ends what begins with one.
        (Bound::Included([at, b"/"].concat()), Bound::Excluded([at, b"0"].concat()))
    }

    fn take_away_all(&mut self, at: &[u8]) {
        let gone: Vec<_> = self.names.range(Self::beneath(at)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.names.remove(&path);
        }
    }

    /// Takes away what is of earlier layers beneath a place, or there, too. Something of this layer has nothing above it
    /// that is not.
    fn take_away(&mut self, at: &[u8], itself: bool) {
        let layer = self.layer;
        let beneath = self.names.range(Self::beneath(at)).map(|(path, name)| (path.clone(), *name));
        let mut meant: Vec<_> = beneath.collect();
        if itself && let Some(name) = self.names.get(at) {
            meant.push((at.to_vec(), *name));
        }
        for (path, _) in meant.into_iter().filter(|(_, name)| name.layer != layer) {
            self.names.remove(&path);
        }
    }

    /// Returns where a path leads; what is missing on the way is made.
    fn place(&mut self, path: &TreePath) -> Result<Vec<u8>, Refusal> {
        self.walk(path, true)?.ok_or(Refusal::NoDirectory)
    }

    /// Returns where a path leads, if what is on the way is there.
    fn look_up(&mut self, path: &TreePath) -> Result<Option<Vec<u8>>, Refusal> {
        match self.walk(path, false) {
            Err(Refusal::NoDirectory) => Ok(None),
            other => other,
        }
    }

    fn walk(&mut self, path: &TreePath, make: bool) -> Result<Option<Vec<u8>>, Refusal> {
        let (parent, last) = path.split_last().ok_or(Refusal::Root)?;
        // The next name last.
        let mut ahead: Vec<_> = split(parent).rev().collect();
        let (mut at, mut followed) = (Vec::new(), 0);
        while let Some(name) = ahead.pop() {
            if name == b".." {
                at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                continue;
            }
            if name.len() > LONGEST_NAME {
                return Err(Refusal::NoDirectory);
            }
            let next = join(&at, &name);
            let layer = self.layer;
            let Some(found) = self.names.get_mut(&next) else {
                if !make {
                    return Ok(None);
                }
                self.nodes.push(Node::plain_directory());
                self.enter(next.clone(), self.nodes.len() - 1);
                at = next;
                continue;
            };
            let kind = &self.nodes[found.node].kind;
            // What is gone through has something beneath it, or is what that took.
            if make && matches!(kind, Kind::Directory | Kind::Link(_)) {
                found.layer = layer;
            }
            match kind {
                Kind::Directory => at = next,
                Kind::Link(target) => {
                    followed += 1;
                    if followed > MOST_LINKS_FOLLOWED {
                        return Err(Refusal::Loop);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    ahead.extend(split(target).rev());
                }
                _ => return Err(Refusal::NoDirectory),
            }
        }
        Ok(Some(join(&at, last)))
    }
}
