//! A writer that compares each call with the one that is wanted, and passes it on.

use std::collections::VecDeque;

use banger_image::rootfs::{Content, HardLink, Metadata, RootfsWriter, Special, TreePath, WriteError};

use crate::content::{Blocks, Watched};
use crate::pair::Pair;

/// A call that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Of `directory`.
    Directory(TreePath, Metadata),
    /// Of `file` or `sparse_file`: of this size, with this in it.
    File(TreePath, Metadata, u64, Blocks),
    /// Of `symbolic_link`.
    Link(TreePath, Metadata, Vec<u8>),
    /// Of `hard_link`.
    HardLink(TreePath, TreePath),
    /// Of `special`.
    Special(TreePath, Metadata, Special),
    /// Of `whiteout`.
    Whiteout(TreePath),
    /// Of `opaque`.
    Opaque(TreePath),
    /// None any more: the archive is refused here.
    Refused,
}

/// The writer.
#[derive(Debug)]
pub struct Witness<'a> {
    pair: &'a mut Pair,
    wanted: VecDeque<Wanted>,
    has_failed: bool,
}

impl<'a> Witness<'a> {
    /// Returns a writer that passes these calls on to `pair`.
    pub fn new(pair: &'a mut Pair, wanted: Vec<Wanted>) -> Self {
        Self { pair, wanted: wanted.into(), has_failed: false }
    }

    /// Returns whether the writer itself has refused something.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Returns what was wanted and has not come.
    pub fn missing(&self) -> Option<&Wanted> {
        self.wanted.front()
    }

    fn came(&mut self, call: &Wanted) {
        assert!(!self.has_failed, "after an error there is {call:?}");
        let wanted = self.wanted.pop_front();
        assert_eq!(Some(call), wanted.as_ref(), "what came, and what was wanted");
    }

    fn note<T>(&mut self, outcome: Result<T, WriteError>) -> Result<T, WriteError> {
        self.has_failed |= outcome.is_err();
        outcome
    }
}

impl RootfsWriter for Witness<'_> {
    fn next_layer(&mut self) -> Result<(), WriteError> {
        panic!("an archive begins no layers");
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), WriteError> {
        self.came(&Wanted::Whiteout(path.clone()));
        let outcome = self.pair.whiteout(path);
        self.note(outcome)
    }

    fn opaque(&mut self, path: &TreePath) -> Result<(), WriteError> {
        self.came(&Wanted::Opaque(path.clone()));
        let outcome = self.pair.opaque(path);
        self.note(outcome)
    }

    fn directory(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), WriteError> {
        self.came(&Wanted::Directory(path.clone(), metadata.clone()));
        let outcome = self.pair.directory(path, metadata);
        self.note(outcome)
    }

    fn sparse_file(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        size: u64,
        content: &mut dyn Content,
    ) -> Result<(), WriteError> {
        let mut content = Watched::new(content);
        let outcome = self.pair.sparse_file(path, metadata.clone(), size, &mut content);
        let read = if outcome.is_ok() {
            content.blocks
        } else {
            // How far it came is the writer's business.
            match self.wanted.front() {
                Some(Wanted::File(_, _, _, blocks)) => blocks.clone(),
                _ => Blocks::default(),
            }
        };
        self.came(&Wanted::File(path.clone(), metadata, size, read));
        self.note(outcome)
    }

    fn symbolic_link(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        target: &[u8],
    ) -> Result<(), WriteError> {
        self.came(&Wanted::Link(path.clone(), metadata.clone(), target.to_vec()));
        let outcome = self.pair.symbolic_link(path, metadata, target);
        self.note(outcome)
    }

    fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<HardLink, WriteError> {
        self.came(&Wanted::HardLink(path.clone(), target.clone()));
        let outcome = self.pair.hard_link(path, target);
        self.note(outcome)
    }

    fn special(&mut self, path: &TreePath, metadata: Metadata, special: Special) -> Result<(), WriteError> {
        self.came(&Wanted::Special(path.clone(), metadata.clone(), special));
        let outcome = self.pair.special(path, metadata, special);
        self.note(outcome)
    }

    fn finish(self: Box<Self>) -> Result<u64, WriteError> {
        panic!("an archive does not end the file system");
    }
}
