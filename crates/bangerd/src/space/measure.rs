//! How much space things take: blocks, as du(1) counts them.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Counts every file once, however many names it has.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// Device and inode number of files with several names.
    seen: HashSet<(u64, u64)>,
}

impl Measure {
    /// Returns the blocks of what a path names and of everything beneath it that was not counted before, bytes. What goes away
    /// meanwhile takes none.
    pub(super) fn tree(&mut self, path: &Path) -> u64 {
        let Ok(metadata) = fs_err::symlink_metadata(path) else { return 0 };
        let mut bytes = self.file(&metadata);
        if metadata.is_dir() {
            let entries = fs_err::read_dir(path).into_iter().flatten().flatten();
            bytes += entries.map(|entry| self.tree(&entry.path())).sum::<u64>();
        }
        bytes
    }

    /// Returns the blocks of one file or directory, unless they were counted before.
    pub(super) fn file(&mut self, metadata: &std::fs::Metadata) -> u64 {
        let is_first =
            metadata.is_dir() || metadata.nlink() < 2 || self.seen.insert((metadata.dev(), metadata.ino()));
        // st_blocks counts 512 bytes, whatever the file system's blocks are (inode(7)).
        if is_first { metadata.blocks() * 512 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_a_hole_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::create_dir_all(at("a/b")).unwrap();
        fs_err::write(at("a/b/file"), vec![1; 100_000]).unwrap();
        fs_err::hard_link(at("a/b/file"), at("a/other")).unwrap();
        fs_err::File::create(at("sparse")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", at("link")).unwrap();
        let output = std::process::Command::new("du").args(["-s", "-B1"]).arg(directory.path()).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let said: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(Measure::default().tree(directory.path()), said);
        let mut measure = Measure::default();
        let (first, second) = (measure.tree(&at("a/b/file")), measure.tree(&at("a/other")));
        assert!(first >= 100_000 && second == 0, "{first} {second}");
        assert_eq!(measure.tree(&at("nowhere")), 0);
    }
}
