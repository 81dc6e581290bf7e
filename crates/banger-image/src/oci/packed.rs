//! The files in a tar archive, by name, to be read in any order.

use std::collections::HashMap;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use tar::EntryType;

use super::{OciError, open_file};
use crate::archive::{Archive, ArchiveError, Compression};
use crate::encoding::printable;
use crate::rootfs::TreePath;

/// Most files of an archive of an image: documents, layers, and a directory or two for each.
const MOST_FILES: usize = 10_000;
/// Most links on the way to a file.
const MOST_LINKS: usize = 8;

/// An archive that is not packed itself, and what is in it.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    path: PathBuf,
    file: Arc<std::fs::File>,
    files: Arc<HashMap<Vec<u8>, File>>,
}

#[derive(Debug, Clone)]
enum File {
    Data { offset: u64, length: u64 },
    Link(Vec<u8>),
}

impl Packed {
    /// Looks through the archive at `path`. If it is packed, it is unpacked into a file without a name in `scratch` first.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, OciError> {
        let failed = |source| OciError::Archive { path: path.to_owned(), source };
        let directory = path.parent().unwrap_or(Path::new("/"));
        let file = open_file(directory, Path::new(path.file_name().unwrap_or_default()), "archive")?;
        let file = plain(file, scratch).map_err(failed)?;
        let files = list(&file).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), files: Arc::new(files) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it. `docker save` of old has links between layers that are the same.
    pub(super) fn file(&self, name: &str) -> Result<Part, OciError> {
        let missing = || OciError::Missing { path: self.path.clone(), name: printable(name.as_bytes()) };
        let mut at = normal(name.as_bytes()).ok_or_else(missing)?;
        for _ in 0..MOST_LINKS {
            match self.files.get(&at).ok_or_else(missing)? {
                File::Data { offset, length } => {
                    return Ok(Part { file: Arc::clone(&self.file), offset: *offset, left: *length });
                }
                File::Link(target) => at = target.clone(),
            }
        }
        Err(missing())
    }
}

/// Returns the path of an entry, relative to the archive's root, without `..`.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

fn plain(mut file: fs::File, scratch: &Path) -> Result<std::fs::File, ArchiveError> {
    let mut start = Vec::with_capacity(512);
    (&mut file).take(512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let compression = Compression::of(&start)?;
    if compression == Compression::None {
        return Ok(file.into_parts().0);
    }
    let mut unpacked = tempfile::tempfile_in(scratch)?;
    io::copy(&mut compression.decoder(file)?, &mut unpacked).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ => ArchiveError::Packing(compression, error),
    })?;
    Ok(unpacked)
}

fn list(file: &std::fs::File) -> Result<HashMap<Vec<u8>, File>, ArchiveError> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    let mut archive = Archive::seekable(io::BufReader::new(reader));
    let mut files = HashMap::new();
    while let Some(entry) = archive.next()? {
        if files.len() >= MOST_FILES {
            return Err(ArchiveError::Malformed("an archive of an image has no more than 10000 files"));
        }
        // A name that leads out names nothing that is asked for.
        let Some(name) = normal(&entry.path) else { continue };
        let kind = match entry.header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                File::Data { offset: archive.position()?, length: entry.stored }
            }
            EntryType::Symlink => {
                let directory = TreePath::parse(&name)?;
                let directory = directory.split_last().map_or(&b""[..], |(directory, _)| directory);
                let Some(target) = normal(&[directory, b"/", &entry.link].concat()) else { continue };
                File::Link(target)
            }
            EntryType::Link => match normal(&entry.link) {
                Some(target) => File::Link(target),
                None => continue,
            },
            _ => continue,
        };
        files.insert(name, kind);
    }
    Ok(files)
}

/// A file in an archive, which reads at its own place, whoever else reads.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<std::fs::File>,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.file.read_at(&mut buffer[..most], self.offset)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}
