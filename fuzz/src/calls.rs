//! Calls of a writer, as data.

use arbitrary::Arbitrary;
use banger_image::rootfs::{
    ExtendedAttribute, Metadata, RootfsWriter, Special, Timestamp, TreePath, WriteError,
};

use crate::content::{Budget, Piece, Runs, noise, runs, size};
use crate::pair::Pair;

/// Most calls of an input.
const MOST_CALLS: usize = 100;

/// A path. Few names, so that entries meet, and some that are anything.
#[derive(Debug, Clone, Hash, Arbitrary)]
pub struct Way(Vec<Name>);

/// A name of a path.
#[derive(Debug, Clone, Hash, Arbitrary)]
enum Name {
    /// One of few.
    Known(u8),
    /// Any.
    Any(Vec<u8>),
    /// A long one.
    Long(u8),
}

/// Most names of a path.
const MOST_NAMES: usize = 6;
const KNOWN: [&[u8]; 8] = [b"a", b"b", b"c", b"d", b"lost+found", b"...", b".wh.a", b"\xff\n"];

impl Name {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Known(which) => KNOWN[usize::from(*which) % KNOWN.len()].to_vec(),
            Self::Any(bytes) => bytes.clone(),
            Self::Long(which) => vec![b'l'; 256 - usize::from(*which % 4)],
        }
    }
}

impl Way {
    /// Returns its bytes; a path that is none, perhaps.
    pub fn bytes(&self) -> Vec<u8> {
        let names: Vec<_> = self.0.iter().take(MOST_NAMES).map(Name::bytes).collect();
        names.join(&b'/')
    }

    fn path(&self) -> Option<TreePath> {
        TreePath::parse(&self.bytes()).ok()
    }
}

/// The target of a symbolic link.
#[derive(Debug, Clone, Hash, Arbitrary)]
pub enum Target {
    /// One that leads somewhere, up, to itself, or nowhere.
    Way {
        /// It begins at the root.
        absolute: bool,
        /// Its steps: up, to where one is, or a name.
        steps: Vec<u8>,
    },
    /// Any.
    Any(Vec<u8>),
    /// A long one.
    Long(u16),
}

impl Target {
    /// Returns its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Way { absolute, steps } => {
                let step = |step: &u8| match step % 8 {
                    0 | 1 => &b".."[..],
                    2 => b".",
                    other => KNOWN[usize::from(other) - 3],
                };
                let steps = steps.iter().take(MOST_NAMES).map(step).collect::<Vec<_>>().join(&b'/');
                [if *absolute { &b"/"[..] } else { b"" }, &steps].concat()
            }
            Self::Any(bytes) => bytes.clone(),
            Self::Long(length) => vec![b't'; usize::from(length % 4100)],
        }
    }
}

/// What an entry has beside its content.
#[derive(Debug, Clone, Hash, Arbitrary)]
pub struct Attributes {
    mode: u16,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: u32,
    extended: Vec<Extended>,
}

/// An extended attribute.
#[derive(Debug, Clone, Hash, Arbitrary)]
struct Extended {
    namespace: u8,
    name: Name,
    value: Value,
}

#[derive(Debug, Clone, Hash, Arbitrary)]
enum Value {
    Any(Vec<u8>),
    Noise(u16, u8),
    AccessList(Vec<(u8, u16, u32)>),
}

/// Most extended attributes of an entry.
const MOST_ATTRIBUTES: usize = 12;

impl Extended {
    fn attribute(&self) -> ExtendedAttribute {
        let namespaces: [&[u8]; 8] = [
            b"user.",
            b"trusted.",
            b"security.",
            b"system.",
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"user.",
            b"apple.",
        ];
        let namespace = namespaces[usize::from(self.namespace % 8)];
        // Lists of access have no more of a name.
        let is_list = namespace.starts_with(b"system.posix");
        let name = if is_list { Vec::new() } else { self.name.bytes() };
        ExtendedAttribute { name: [namespace, &name].concat(), value: self.value.bytes() }
    }
}

impl Value {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Any(bytes) => bytes.clone(),
            Self::Noise(length, seed) => noise(usize::from(length % 4200), *seed),
            Self::AccessList(entries) => {
                let entry = |(tag, permissions, id): &(u8, u16, u32)| {
                    let tag = 1u16 << (tag % 6);
                    [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
                };
                let entries = entries.iter().flat_map(entry);
                2u32.to_le_bytes().into_iter().chain(entries).collect()
            }
        }
    }
}

impl Attributes {
    /// Returns the metadata.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            modified: Timestamp { seconds: self.seconds, nanoseconds: self.nanoseconds },
            attributes: self.extended.iter().take(MOST_ATTRIBUTES).map(Extended::attribute).collect(),
        }
    }
}

/// One call.
#[derive(Debug, Clone, Arbitrary)]
pub enum Call {
    /// Of `directory`.
    Directory(Way, Attributes),
    /// Of `sparse_file`.
    File(Way, Attributes, Vec<Piece>),
    /// Of `file`.
    DenseFile(Way, Vec<Piece>),
    /// Of `file`, with less content than it should have.
    ShortFile(Way, Vec<Piece>, u16),
    /// Of `symbolic_link`.
    Link(Way, Target),
    /// Of `hard_link`.
    HardLink(Way, Way),
    /// Of `special`.
    Special(Way, Attributes, u8, u32, u32),
    /// Of `whiteout`.
    Whiteout(Way),
    /// Of `opaque`.
    Opaque(Way),
    /// Of `next_layer`.
    NextLayer,
}

/// Most bytes of a file that has no known holes.
const LARGEST_DENSE: u64 = 1 << 20;

/// Makes calls.
pub fn make(calls: &[Call], pair: &mut Pair) {
    let mut budget = Budget::default();
    for call in calls.iter().take(MOST_CALLS) {
        // What fails for good reasons, the pair knows.
        call.make(pair, &mut budget).ok();
        if pair.is_full() {
            return;
        }
    }
}

fn plain() -> Metadata {
    Metadata { mode: 0o640, ..Metadata::default() }
}

impl Call {
    fn make(&self, pair: &mut Pair, budget: &mut Budget) -> Result<(), WriteError> {
        let (Self::Directory(way, ..)
        | Self::File(way, ..)
        | Self::DenseFile(way, ..)
        | Self::ShortFile(way, ..)
        | Self::Link(way, ..)
        | Self::HardLink(way, ..)
        | Self::Special(way, ..)
        | Self::Whiteout(way)
        | Self::Opaque(way)) = self
        else {
            return pair.next_layer();
        };
        let Some(path) = way.path() else { return Ok(()) };
        match self {
            Self::Directory(_, attributes) => pair.directory(&path, attributes.metadata()),
            Self::File(_, attributes, pieces) => {
                let runs = runs(pieces, budget);
                pair.sparse_file(&path, attributes.metadata(), size(&runs), &mut Runs::new(runs))
            }
            Self::DenseFile(_, pieces) => {
                let runs = runs(pieces, budget);
                // Its holes have to be read.
                let size = budget.take(size(&runs).min(LARGEST_DENSE));
                pair.file(&path, plain(), size, &mut Runs::new(runs))
            }
            Self::ShortFile(_, pieces, missing) => {
                let runs = runs(pieces, budget);
                let size = size(&runs).min(LARGEST_DENSE);
                let mut content = std::io::Read::take(Runs::new(runs), size);
                pair.file(&path, plain(), size + u64::from(*missing), &mut content)
            }
            Self::Link(_, target) => pair.symbolic_link(&path, plain(), &target.bytes()),
            Self::HardLink(_, target) => match target.path() {
                Some(target) => pair.hard_link(&path, &target).map(drop),
                None => Ok(()),
            },
            Self::Special(_, attributes, which, major, minor) => {
                let (major, minor) = (*major, *minor);
                let special = match which % 6 {
                    0 => Special::Fifo,
                    1 => Special::Socket,
                    2 => Special::CharacterDevice { major, minor },
                    3 => Special::CharacterDevice { major: major % 4096, minor: minor % (1 << 20) },
                    4 => Special::BlockDevice { major: major % 300, minor: minor % 300 },
                    _ => Special::BlockDevice { major, minor },
                };
                pair.special(&path, attributes.metadata(), special)
            }
            Self::Whiteout(_) => pair.whiteout(&path),
            Self::Opaque(_) => pair.opaque(&path),
            Self::NextLayer => Ok(()),
        }
    }
}
