//! What a copy comes to: counts, failures as they come, and the line on a terminal.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use banger_types::{ApiError, ErrorKind};
use indicatif::ProgressBar;
use serde::Serialize;

use super::FileError;
use crate::printer::{Printer, printable};
use crate::progress;

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Summary {
    /// Files that were copied.
    pub(crate) files: u64,
    /// Directories that were made, or were there.
    pub(crate) directories: u64,
    /// Links that were made.
    pub(crate) links: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// What could not be copied.
    pub(crate) failed: u64,
}

/// Takes down what a copy does. Used by one task at a time.
#[derive(Debug)]
pub(crate) struct Ledger {
    printer: Printer,
    bar: Option<ProgressBar>,
    summary: Cell<Summary>,
    /// Temporary names in the guest, of files that are not complete.
    unfinished: RefCell<BTreeSet<Vec<u8>>>,
}

impl Ledger {
    /// Returns an empty one, and shows it if there is a terminal to show it on.
    pub(crate) fn new(printer: Printer) -> Self {
        let line = "{spinner} {bytes} {bytes_per_sec} {wide_msg}";
        let bar = printer.shows_progress().then(|| progress::bar(line));
        Self { printer, bar, summary: Cell::default(), unfinished: RefCell::default() }
    }

    /// Returns what it came to so far.
    pub(crate) fn summary(&self) -> Summary {
        self.summary.get()
    }

    /// Takes the line from the terminal.
    pub(crate) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn count(&self, change: impl FnOnce(&mut Summary)) {
        let mut summary = self.summary.get();
        change(&mut summary);
        self.summary.set(summary);
    }

    pub(super) fn begin(&self, path: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(path));
        }
    }

    pub(super) fn bytes(&self, count: usize) {
        self.count(|summary| summary.bytes += count as u64);
        if let Some(bar) = &self.bar {
            bar.inc(count as u64);
        }
    }

    pub(super) fn file(&self) {
        self.count(|summary| summary.files += 1);
    }

    pub(super) fn directory(&self) {
        self.count(|summary| summary.directories += 1);
    }

    pub(super) fn link(&self) {
        self.count(|summary| summary.links += 1);
    }

    /// Tells that something is not copied, and why.
    pub(super) fn failed(&self, vm: &str, path: &str, error: &FileError) {
        self.count(|summary| summary.failed += 1);
        let mut told = ApiError::caused_by(ErrorKind::Failed, format!("cannot copy {path}"), error);
        if matches!(error, FileError::Guest(error) if error.is_permission_denied()) {
            told = told.fix(format!("as a user of '{vm}' who may: banger cp -u root ..."));
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| self.printer.error(&told)),
            None => self.printer.error(&told),
        }
    }

    /// Remembers a temporary name in the guest, until [`Self::finished`].
    pub(super) fn unfinished(&self, path: &[u8]) {
        self.unfinished.borrow_mut().insert(path.to_vec());
    }

    pub(super) fn finished(&self, path: &[u8]) {
        self.unfinished.borrow_mut().remove(path);
    }

    /// Returns the temporary names that are left in the guest.
    pub(crate) fn left_over(&self) -> Vec<Vec<u8>> {
        self.unfinished.borrow().iter().cloned().collect()
    }
}
