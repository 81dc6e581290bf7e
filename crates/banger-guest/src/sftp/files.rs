//! Files and directories that a client has open.

use std::collections::BTreeMap;
use std::fs::File;

use rustix::fs::Dir;

/// Most files that one client may have open; a process may have 1024.
const MOST: usize = 512;

/// What a client has open.
#[derive(Debug)]
pub(super) enum Open {
    /// A file.
    File {
        /// It.
        file: File,
        /// Writes go to its end, whatever offset they name.
        append: bool,
    },
    /// A directory that is being read.
    Directory(Dir),
}

/// Everything that a client has open, by its number.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: BTreeMap<u32, Open>,
    last: u32,
}

impl Files {
    /// Takes something in, and returns its handle; `None` when there is too much already.
    pub(super) fn add(&mut self, open: Open) -> Option<[u8; 4]> {
        if self.open.len() >= MOST {
            return None;
        }
        // Numbers come round only after 4 billion files, of which at most a few are still open.
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.open.contains_key(&self.last) {
                break;
            }
        }
        self.open.insert(self.last, open);
        Some(self.last.to_be_bytes())
    }

    /// Returns what a handle stands for.
    pub(super) fn get(&mut self, handle: &[u8]) -> Option<&mut Open> {
        self.open.get_mut(&u32::from_be_bytes(handle.try_into().ok()?))
    }

    /// Returns the file that a handle stands for.
    pub(super) fn file(&mut self, handle: &[u8]) -> Option<(&File, bool)> {
        match self.get(handle)? {
            Open::File { file, append } => Some((file, *append)),
            Open::Directory(_) => None,
        }
    }

    /// Closes what a handle stands for; returns whether there was anything.
    pub(super) fn close(&mut self, handle: &[u8]) -> bool {
        let number = handle.try_into().map(u32::from_be_bytes).ok();
        number.is_some_and(|number| self.open.remove(&number).is_some())
    }
}
