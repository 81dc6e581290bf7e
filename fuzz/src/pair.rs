//! The writer of ext4 and the model beside it: each call goes to both, and both have to say the same.

use std::fmt::Debug;
use std::path::Path;

use banger_image::rootfs::ext4::Ext4Writer;
use banger_image::rootfs::{
    Content, ExtendedAttribute, HardLink, Metadata, RootfsWriter, Special, TreePath, WriteError,
};

use crate::content::Watched;
use crate::model::{Kind, Model, Node, Refusal};

/// Bytes of the largest file: as many blocks as 32 bits count, but for one.
const LARGEST_FILE: u64 = (1 << 44) - 4096;

/// The writer and the model.
#[derive(Debug)]
pub struct Pair {
    writer: Box<Ext4Writer>,
    model: Model,
    /// The writer has met a bound that the model does not know.
    is_full: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// What should be in it, if that is known.
    pub model: Option<Model>,
}

impl Pair {
    /// Returns a pair that writes to `path` and takes so many entries.
    pub fn create(path: &Path, entries: usize) -> Self {
        let writer = Ext4Writer::create(path, "fuzz").unwrap_or_else(|error| panic!("{error}"));
        Self { writer: Box::new(writer.with_most_entries(entries)), model: Model::default(), is_full: false }
    }

    /// Returns whether the writer has met a bound, so that the model knows no more.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Ends the file system; `None` if a bound lets it have no end.
    pub fn close(mut self) -> Option<Written> {
        self.model.finish();
        match self.writer.finish() {
            Ok(size) => Some(Written { size, model: (!self.is_full).then_some(self.model) }),
            Err(WriteError::TooManyEntries { .. } | WriteError::TooLarge { .. }) => None,
            Err(error) => panic!("the writer cannot finish: {error}"),
        }
    }

    /// Compares what both say; `expected` is asked only if the writer has met no bound.
    fn agree<T: Debug>(
        &mut self,
        outcome: Result<T, WriteError>,
        expected: impl FnOnce(&mut Model) -> Result<(), Refusal>,
    ) -> Result<T, WriteError> {
        if self.is_full {
            return outcome;
        }
        if matches!(outcome, Err(WriteError::TooManyEntries { .. } | WriteError::TooLarge { .. })) {
            self.is_full = true;
            return outcome;
        }
        let expected = expected(&mut self.model);
        let agreed = match (&outcome, &expected) {
            (Ok(_), Ok(())) => true,
            (Err(error), Err(refusal)) => matches!(
                (error, refusal),
                (WriteError::ParentIsNoDirectory { .. }, Refusal::NoDirectory)
                    | (WriteError::LinkLoop { .. }, Refusal::Loop)
                    | (WriteError::RootIsDirectory, Refusal::Root)
                    | (WriteError::LinkTargetMissing { .. }, Refusal::Missing)
                    | (WriteError::LinkToDirectory { .. }, Refusal::LinkToDirectory)
            ),
            _ => false,
        };
        assert!(agreed, "the writer says {outcome:?}, the model {expected:?}");
        outcome
    }

    /// The same for entries with attributes. What the writer says of those counts, unless they are plainly good.
    fn agree_on_entry(
        &mut self,
        outcome: Result<(), WriteError>,
        attributes: &[ExtendedAttribute],
        expected: impl FnOnce(&mut Model) -> Result<(), Refusal>,
    ) -> Result<(), WriteError> {
        if let Err(WriteError::Attribute { .. } | WriteError::AttributesTooLarge { .. }) = outcome {
            assert!(!are_plainly_good(attributes), "{attributes:?}: {outcome:?}");
            return outcome;
        }
        self.agree(outcome, expected)
    }
}

/// Returns whether attributes are such that every file system takes them.
fn are_plainly_good(attributes: &[ExtendedAttribute]) -> bool {
    /// Bytes of a block less its header and the zeros at its end.
    const ROOM: usize = 4096 - 32 - 4;
    let size =
        |it: &ExtendedAttribute| 16 + it.name.len().next_multiple_of(4) + it.value.len().next_multiple_of(4);
    let is_good = |it: &ExtendedAttribute| {
        let rest =
            [&b"user."[..], b"trusted.", b"security."].iter().find_map(|it_is| it.name.strip_prefix(*it_is));
        rest.is_some_and(|rest| (1..=255).contains(&rest.len()) && !rest.contains(&0))
    };
    attributes.iter().all(is_good) && attributes.iter().map(size).sum::<usize>() <= ROOM
}

impl RootfsWriter for Pair {
    fn next_layer(&mut self) -> Result<(), WriteError> {
        let outcome = self.writer.next_layer();
        self.agree(outcome, |model| {
            model.next_layer();
            Ok(())
        })
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), WriteError> {
        let outcome = self.writer.whiteout(path);
        self.agree(outcome, |model| model.whiteout(path))
    }

    fn opaque(&mut self, path: &TreePath) -> Result<(), WriteError> {
        let outcome = self.writer.opaque(path);
        self.agree(outcome, |model| model.opaque(path))
    }

    fn directory(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), WriteError> {
        let outcome = self.writer.directory(path, metadata.clone());
        self.agree_on_entry(outcome, &metadata.attributes, |model| model.directory(path, &metadata))
    }

    fn sparse_file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<(), WriteError> {
        let mut content = Watched::new(content);
        let outcome = self.writer.sparse_file(path, metadata.clone(), size, &mut content);
        let Watched { at, blocks, .. } = content;
        match outcome {
            // Nothing is looked at of what is too large from the start.
            Err(WriteError::Limit { .. }) if size > LARGEST_FILE => return outcome,
            Err(WriteError::ContentEnds { missing, .. }) => {
                assert!(
                    missing > 0 && at + missing == size,
                    "{at} bytes of {size} are there, {missing} are missing"
                );
                // The way to it is made before its content is read.
                let made = self.agree(Ok(()), |model| model.attempt(path));
                return made.and(outcome);
            }
            // The first is the archive's, and says why itself.
            Err(WriteError::Content { .. } | WriteError::Limit { .. }) => {
                let made = self.agree(Ok(()), |model| model.attempt(path));
                return made.and(outcome);
            }
            Ok(()) => assert_eq!(at, size, "a file is read to its end, and no further"),
            Err(_) => {}
        }
        let node = Node::new(Kind::File { size, blocks }, &metadata);
        self.agree_on_entry(outcome, &metadata.attributes, |model| model.put(path, node))
    }

    fn symbolic_link(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        target: &[u8],
    ) -> Result<(), WriteError> {
        let outcome = self.writer.symbolic_link(path, metadata.clone(), target);
        let is_good = (1..4096).contains(&target.len()) && !target.contains(&0);
        assert_eq!(matches!(outcome, Err(WriteError::LinkTarget { .. })), !is_good, "{outcome:?}");
        if !is_good {
            return outcome;
        }
        let node = Node::new(Kind::Link(target.to_vec()), &metadata);
        self.agree_on_entry(outcome, &metadata.attributes, |model| model.put(path, node))
    }

    fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<HardLink, WriteError> {
        let outcome = self.writer.hard_link(path, target);
        self.agree(outcome, |model| model.hard_link(path, target))
    }

    fn special(&mut self, path: &TreePath, metadata: Metadata, special: Special) -> Result<(), WriteError> {
        let outcome = self.writer.special(path, metadata.clone(), special);
        let is_good = match special {
            Special::CharacterDevice { major, minor } | Special::BlockDevice { major, minor } => {
                major < 1 << 12 && minor < 1 << 20
            }
            Special::Fifo | Special::Socket => true,
        };
        assert_eq!(matches!(outcome, Err(WriteError::DeviceNumber { .. })), !is_good, "{outcome:?}");
        if !is_good {
            return outcome;
        }
        let node = Node::new(Kind::Special(special), &metadata);
        self.agree_on_entry(outcome, &metadata.attributes, |model| model.put(path, node))
    }

    fn finish(self: Box<Self>) -> Result<u64, WriteError> {
        Ok(self.close().map(|written| written.size).unwrap_or_default())
    }
}
