//! Paths inside a root file system.

use std::fmt;

use crate::encoding::printable;

/// Longest name of an entry, bytes (`NAME_MAX`; also ext4's limit).
pub(super) const LONGEST_NAME: usize = 255;
/// Longest path, bytes (`PATH_MAX` without its NUL).
const LONGEST_PATH: usize = 4095;

/// A path relative to the root, in normal form: names joined by single slashes, none of them empty,
/// `.` or `..`. The root is the empty path. Names are bytes, any but NUL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TreePath(Vec<u8>);

/// Why bytes are not a path inside a root file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path '{path}' {rule}")]
pub struct PathError {
    /// The path, printable.
    pub path: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl TreePath {
    /// Reads a path. It is relative to the root with or without a slash in front; `.` and repeated
    /// slashes count for nothing; `..` is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        let error = |rule| PathError { path: printable(bytes), rule };
        let mut normal = Vec::with_capacity(bytes.len());
        for name in bytes.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".") {
            if name == b".." {
                return Err(error("contains '..'"));
            }
            if name.len() > LONGEST_NAME {
                return Err(error("has a name of more than 255 bytes"));
            }
            if name.contains(&0) {
                return Err(error("contains a NUL byte"));
            }
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(name);
        }
        if normal.len() > LONGEST_PATH {
            return Err(error("has more than 4095 bytes"));
        }
        Ok(Self(normal))
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the path's bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the names on the way, the last one included.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// Returns the directory's path and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        })
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", printable(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (bytes, normal) in [
            (&b"./a//b/."[..], &b"a/b"[..]),
            (b"/etc/passwd", b"etc/passwd"),
            (b".", b""),
            (b"/", b""),
            (b"", b""),
            (b"a\xff\n/...", b"a\xff\n/..."),
        ] {
            assert_eq!(TreePath::parse(bytes).unwrap().as_bytes(), normal);
        }
    }

    #[test]
    fn what_leads_out_or_is_too_long_is_refused() {
        let long_name = vec![b'a'; 256];
        let long_path = b"abc/".repeat(1100);
        for bad in [b"..", &b"a/../../b"[..], b"/../x", b"a\0b", &long_name, &long_path] {
            assert!(TreePath::parse(bad).is_err(), "{}", printable(bad));
        }
        assert!(TreePath::parse(&[b'a'; 255]).is_ok());
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(TreePath::parse(b"a/b/c").unwrap().split_last(), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(TreePath::parse(b"a").unwrap().split_last(), Some((&b""[..], &b"a"[..])));
        assert_eq!(TreePath::default().split_last(), None);
    }
}
