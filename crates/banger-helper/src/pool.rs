//! Out of which addresses networks are taken: that is root's to say, and not theirs who ask, for what a user's network has is taken
//! from the way of everybody on this host.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use banger_types::helper::Ipv4Block;
use rustix::fs::{Mode, OFlags, open};

use crate::directory::check_owner;
use crate::error::Refusal;

/// Where root says another block, on its first line.
pub(crate) const FILE: &str = "/etc/banger/pool";
/// What is taken when root says nothing: sixteen bits of RFC 1918's largest block, where few have anything.
const DEFAULT: &str = "10.213.0.0/16";
/// Longest file, bytes.
const LONGEST: u64 = 4096;

/// Returns the block.
pub(crate) fn read() -> Result<Ipv4Block, Refusal> {
    read_at(Path::new(FILE))
}

fn read_at(path: &Path) -> Result<Ipv4Block, Refusal> {
    let text = match open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => read_line(&file, path)?,
        Err(rustix::io::Errno::NOENT) => DEFAULT.to_owned(),
        Err(error) => return Err(Refusal::file("cannot read", path)(error.into())),
    };
    let block: Ipv4Block = text.parse().map_err(|_| Refusal::Planted {
        path: path.to_owned(),
        why: "does not begin with a block of addresses, as 10.213.0.0/16",
    })?;
    if block.is_private() {
        Ok(block)
    } else {
        let why = "names addresses that are not set aside for private networks (RFC 1918, RFC 6598)";
        Err(Refusal::Planted { path: path.to_owned(), why })
    }
}

fn read_line(file: &OwnedFd, path: &Path) -> Result<String, Refusal> {
    check_owner(file, path)?;
    let mut text = String::new();
    let file = file.try_clone().map_err(Refusal::file("cannot read", path))?;
    let file = std::fs::File::from(file);
    file.take(LONGEST).read_to_string(&mut text).map_err(Refusal::file("cannot read", path))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_name_another_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool");
        assert_eq!(read_at(&path).unwrap().to_string(), DEFAULT);
        std::fs::write(&path, "172.20.0.0/16\n# for the laboratory\n").unwrap();
        assert_eq!(read_at(&path).unwrap().to_string(), "172.20.0.0/16");
        for text in
            ["", "8.8.8.0/24", "0.0.0.0/0", "127.0.0.0/8", "169.254.0.0/16", "10.0.0.0/8; reboot", "\u{0}"]
        {
            std::fs::write(&path, text).unwrap();
            assert!(read_at(&path).is_err(), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read_at(&path).is_err(), "a link");
    }
}
