//! Releases of Firecracker, and where they are installed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use banger_core::engine::Release;
use flate2::read::GzDecoder;

use super::version::Version;

/// The processor that this is built for, as releases name it.
const ARCHITECTURE: &str = std::env::consts::ARCH;
/// The programs of a release that are installed. The first one must be in it.
const PROGRAMS: [&str; 2] = [super::PROGRAM, "jailer"];
/// Longest that a program may be, bytes: they have some 3 MiB.
const PROGRAM_LIMIT: u64 = 256 << 20;
/// Most entries that an archive may have: a release has some twenty.
const MOST_ENTRIES: usize = 1000;

/// A release that banger was tried with, and that can be had.
struct Known {
    /// For which processor.
    architecture: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "the address has it, too"))]
    version: &'static str,
    url: &'static str,
    /// `sha256:` in hexadecimal.
    digest: &'static str,
    /// Bytes.
    size: u64,
}

/// For each processor the newest that was tried.
const RELEASES: [Known; 1] = [Known {
    architecture: "x86_64",
    version: "1.16.1",
    url: "https://github.com/firecracker-microvm/firecracker/releases/download/v1.16.1/firecracker-v1.16.1-x86_64.tgz",
    digest: "sha256:382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6",
    size: 7_486_686,
}];

/// Why an archive is no release.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReleaseError {
    /// It cannot be read.
    #[error("cannot read {} as a gzip-compressed tar archive", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it to install.
    #[error("there is no program 'firecracker-vVERSION-{ARCHITECTURE}' in the archive")]
    NoProgram,
    /// A program in it is longer than any.
    #[error("'{0}' in the archive is longer than {PROGRAM_LIMIT} bytes")]
    TooLong(String),
    /// A program cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Returns the release for this processor, if there is one whose digest is known.
pub(super) fn official() -> Option<Release> {
    let known = RELEASES.iter().find(|known| known.architecture == ARCHITECTURE)?;
    Some(Release { url: known.url.to_owned(), digest: known.digest.parse().ok()?, size: known.size })
}

/// Unpacks the programs of an archive of a release into a directory, which must be there.
pub(super) fn unpack(archive: &Path, directory: &Path) -> Result<(), ReleaseError> {
    let unreadable = |source| ReleaseError::Archive { archive: archive.to_owned(), source };
    let file = File::open(archive).map_err(unreadable)?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    let mut is_there = false;
    for entry in tar.entries().map_err(unreadable)?.take(MOST_ENTRIES) {
        let mut entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.file_name().unwrap_or_default().to_owned();
        let program = name.to_str().and_then(program);
        let Some(program) = program.filter(|_| entry.header().entry_type().is_file()) else { continue };
        if entry.size() > PROGRAM_LIMIT {
            return Err(ReleaseError::TooLong(name.to_string_lossy().into_owned()));
        }
        write(&mut entry, &directory.join(program)).map_err(|fault| match fault {
            Fault::Read(source) => unreadable(source),
            Fault::Write(source) => ReleaseError::Write { path: directory.join(program), source },
        })?;
        is_there |= program == super::PROGRAM;
    }
    if is_there { Ok(()) } else { Err(ReleaseError::NoProgram) }
}

/// Returns every Firecracker in a directory of such directories, the newest first.
pub(super) fn all_in(directory: &Path) -> Vec<PathBuf> {
    let version = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Version::from_numbers(name.strip_prefix(super::PROGRAM)?.strip_prefix('-')?)
    };
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let installed = entries.map(|entry| entry.path()).filter_map(|path| Some((version(&path)?, path)));
    let mut installed: Vec<_> = installed.collect();
    installed.sort();
    installed.into_iter().rev().map(|(_, path)| path.join(super::PROGRAM)).collect()
}

/// Returns which program a file of a release is, such as `firecracker-v1.16.1-x86_64`.
fn program(name: &str) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| {
        let version = name.strip_prefix(program).and_then(|rest| rest.strip_prefix("-v"));
        let version = version.and_then(|rest| rest.strip_suffix(ARCHITECTURE)?.strip_suffix('-'));
        version.is_some_and(|version| !version.is_empty())
    })
}

enum Fault {
    Read(io::Error),
    Write(io::Error),
}

fn write(content: &mut impl io::Read, path: &Path) -> Result<(), Fault> {
    let mut file = File::create(path).map_err(Fault::Write)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer).map_err(Fault::Read)? {
            0 => break,
            read => file.write_all(&buffer[..read]).map_err(Fault::Write)?,
        }
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).map_err(Fault::Write)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(GzEncoder::new(file.reopen().unwrap(), Compression::fast()));
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Not `append_data`, which refuses what an attacker would not.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len() as u64);
            header.set_mode(0o4777);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        file
    }

    #[test]
    fn the_official_release_has_a_digest() {
        for release in RELEASES {
            assert!(release.digest.parse::<banger_types::digest::Digest>().is_ok());
            assert!(release.url.starts_with("https://") && release.url.contains(release.version));
            assert!(Version::from_numbers(release.version).unwrap().judge().is_ok());
        }
    }

    #[test]
    fn the_programs_are_unpacked_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let archive = archive(&[
            ("release-v1.16.1-x86_64/firecracker-v1.16.1-x86_64.debug", b"symbols"),
            ("release-v1.16.1-x86_64/firecracker-v1.16.1-x86_64", b"the program"),
            ("../../jailer-v1.16.1-x86_64", b"the jailer"),
            ("release-v1.16.1-x86_64/firecracker-v1.16.1-riscv64", b"for another"),
            ("/etc/passwd", b"root"),
        ]);
        unpack(archive.path(), place.path()).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["firecracker", "jailer"]);
        let program = place.path().join("firecracker");
        assert_eq!(std::fs::read(&program).unwrap(), b"the program");
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn what_is_no_release_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let empty = archive(&[("README", b"read me")]);
        assert!(matches!(unpack(empty.path(), place.path()), Err(ReleaseError::NoProgram)));
        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "<html>not found</html>").unwrap();
        assert!(matches!(unpack(text.path(), place.path()), Err(ReleaseError::Archive { .. })));
        let cut = archive(&[("firecracker-v1.16.1-x86_64", &vec![7; 100_000])]);
        let length = cut.as_file().metadata().unwrap().len();
        cut.as_file().set_len(length / 2).unwrap();
        assert!(matches!(unpack(cut.path(), place.path()), Err(ReleaseError::Archive { .. })));
    }

    #[test]
    fn the_newest_that_is_installed_comes_first() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(all_in(place.path()), [""; 0].map(PathBuf::from));
        assert_eq!(all_in(&place.path().join("none")), [""; 0].map(PathBuf::from));
        for name in ["firecracker-1.16.1", "firecracker-1.9.12", "firecracker-x", "qemu-9.9.9", ".partial-1"]
        {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        let program = |directory: &str| place.path().join(directory).join("firecracker");
        assert_eq!(all_in(place.path()), [program("firecracker-1.16.1"), program("firecracker-1.9.12")]);
    }
}
