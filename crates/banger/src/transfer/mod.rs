//! Copies of files and directories between this host and a guest, both ways.
//!
//! What goes wrong with one file is told and counted, and the rest goes on. A file is written under a
//! temporary name in the directory that it belongs in, and renamed when it is complete. On the host
//! nothing is ever done by a path that a guest has a word in: each directory is opened once, and what is
//! in it is reached from there, by single names and without following links.

mod download;
mod host;
mod ledger;
mod upload;

use std::io;

use crate::sftp::{Sftp, SftpError};

pub(crate) use ledger::Ledger;

/// Files of one directory that are under way at once: most are small, and each takes a few round trips.
const FILES_AT_ONCE: usize = 16;

/// Deepest directory that is copied: each level is an open directory, and a hostile guest's has no end.
const DEPTH_LIMIT: usize = 256;

/// Copies between this host and one guest.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    sftp: &'a Sftp,
    ledger: &'a Ledger,
    /// The VM's name, for messages.
    vm: &'a str,
    /// Whether what links lead to is copied, not the links.
    follow_links: bool,
}

/// Why one file is not copied.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Guest(#[from] SftpError),
    #[error(transparent)]
    Host(#[from] io::Error),
    #[error("{0}")]
    Refused(&'static str),
}

impl From<rustix::io::Errno> for FileError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Host(error.into())
    }
}

/// What stops a whole copy.
type Fatal = SftpError;

impl<'a> Transfer<'a> {
    /// Returns what copies from and to the VM of this name. What it comes to is in `ledger`.
    pub(crate) fn new(sftp: &'a Sftp, ledger: &'a Ledger, vm: &'a str, follow_links: bool) -> Self {
        Self { sftp, ledger, vm, follow_links }
    }

    /// Notes a failure with a path, and returns the value if there was none. Fails when no other file
    /// can fare better.
    fn settle<T>(&self, path: &str, result: Result<T, FileError>) -> Result<Option<T>, Fatal> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(FileError::Guest(error)) if error.is_fatal() => Err(error),
            Err(error) => {
                self.ledger.failed(self.vm, path, &error);
                Ok(None)
            }
        }
    }

    /// Returns how a path in the guest is shown.
    fn guest_path(&self, path: &[u8]) -> String {
        format!("{}:{}", self.vm, String::from_utf8_lossy(path))
    }
}

/// Returns the last name of a path that a user gave, by which its copy is called; `None` when the path
/// stands for what is in a directory: `.`, `a/..`, `/`, and nothing at all.
fn last_name(path: &[u8]) -> Option<&[u8]> {
    let name = trimmed(path).rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    is_component(name).then_some(name)
}

/// Returns the directory of which a path stands for what is in it.
fn inside(path: &[u8]) -> &[u8] {
    let path = trimmed(path);
    match path {
        b"." => b"",
        _ => path.strip_suffix(b"/.").map_or(path, inside),
    }
}

/// Returns whether a name is one of a directory's own, and leads nowhere else.
fn is_component(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

/// Returns a path without the slashes at its end; the root keeps its own.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(1, |at| at + 1);
    &path[..end.min(path.len())]
}

/// Returns the path of `name` in the guest's `directory`; an empty directory is the user's home.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.last() {
        None => name.to_vec(),
        Some(b'/') => [directory, name].concat(),
        Some(_) => [directory, b"/", name].concat(),
    }
}

/// Returns a path as the guest is asked for it: an empty one is the user's home.
fn asked(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_called_by_its_sources_last_name() {
        for (path, name) in [
            (&b"/etc/hosts"[..], Some(&b"hosts"[..])),
            (b"a/", Some(b"a")),
            (b"a//", Some(b"a")),
            (b"\xff", Some(b"\xff")),
            (b"a/.", None),
            (b"..", None),
            (b"/", None),
            (b"", None),
        ] {
            assert_eq!(last_name(path), name, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn what_is_in_a_directory_is_called_after_it() {
        for (path, directory) in [
            (&b"a/."[..], &b"a"[..]),
            (b"a/././/", b"a"),
            (b"./", b""),
            (b"", b""),
            (b"/", b"/"),
            (b"a/..", b"a/.."),
        ] {
            assert_eq!(inside(path), directory, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn only_a_name_of_a_directory_is_a_component() {
        for name in [&b"a"[..], b"...", b"-", b"\xff", b"a\nb"] {
            assert!(is_component(name));
        }
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../x", b"a\0"] {
            assert!(!is_component(name));
        }
    }

    #[test]
    fn paths_in_the_guest_are_joined_with_one_slash() {
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"d", b"a"), b"d/a");
    }
}
