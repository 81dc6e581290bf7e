//! Root file systems in tar archives: `ustar`, GNU and PAX.

mod archive;
mod pax;
mod sparse;

use std::io::{self, BufReader, Read};

use banger_core::work::{Cancelled, Work};
use banger_types::operation::Unit;
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::encoding::printable;
use crate::rootfs::{ExtendedAttribute, Metadata, PathError, RootfsWriter, Special, TreePath, WriteError};
use archive::{Archive, Entry};

/// Bytes read and hashed at once.
const BUFFER: usize = 256 << 10;
/// Namespaces of extended attributes that Linux has (xattr(7)).
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];

/// Why an archive could not be read into a root file system.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It is something else.
    #[error("this is not a tar archive")]
    NotATar,
    /// It is packed.
    #[error("the archive is compressed with {program}; unpack it first: {command}")]
    Compressed {
        /// The program that packed it.
        program: &'static str,
        /// What unpacks it.
        command: &'static str,
    },
    /// Its end is missing.
    #[error("the archive is truncated")]
    Truncated,
    /// It breaks the format's rules; a clause says where.
    #[error("the archive is damaged: {0}")]
    Malformed(&'static str),
    /// A path leads outside, or is not one.
    #[error("the archive has an entry that cannot be part of a root file system")]
    Path(#[from] PathError),
    /// An entry of a kind that a root file system has not.
    #[error("the archive has an entry '{path}' of the unknown type '{kind}'")]
    UnknownType {
        /// The entry.
        path: String,
        /// Its type flag, printable.
        kind: String,
    },
    /// An owner or group beyond 32 bits.
    #[error("the entry '{path}' has an owner or group beyond 32 bits")]
    Owner {
        /// The entry.
        path: String,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It could not be read.
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    /// Somebody cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `sha256:…` of all bytes of the archive.
    pub digest: String,
    /// Its length in bytes.
    pub length: u64,
}

/// Reads an archive to its end and hands each entry to `writer`. `total` is the archive's length in
/// bytes, where that is known, for the progress.
pub fn read(
    reader: impl Read,
    total: Option<u64>,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<Summary, TarError> {
    let mut source = Source { reader, hash: Sha256::new(), length: 0, total, work };
    let outcome = read_all(&mut source, writer, work);
    // What was cancelled shows up as a failed read, wherever that was.
    work.check()?;
    outcome?;
    let digest = format!("sha256:{}", hexadecimal(&source.hash.finalize()));
    Ok(Summary { digest, length: source.length })
}

fn read_all(source: &mut impl Read, writer: &mut dyn RootfsWriter, work: &dyn Work) -> Result<(), TarError> {
    let mut reader = BufReader::with_capacity(BUFFER, source);
    let mut start = Vec::with_capacity(512);
    (&mut reader).take(512).read_to_end(&mut start)?;
    refuse_compressed(&start)?;
    let mut archive = Archive::new(start.chain(reader));
    entries(&mut archive, writer, work)?;
    // To the end, for the digest, and so that the writer of a pipe is not killed.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Returns bytes in lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _: std::fmt::Result = write!(text, "{byte:02x}");
        text
    })
}

/// Recognises packed archives by the magic numbers of their formats.
fn refuse_compressed(start: &[u8]) -> Result<(), TarError> {
    const FORMATS: [(&[u8], &str, &str); 5] = [
        (b"\x1f\x8b", "gzip", "gunzip FILE"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd FILE"),
        (b"\xfd7zXZ\0", "xz", "unxz FILE"),
        (b"BZh", "bzip2", "bunzip2 FILE"),
        (b"\x04\x22\x4d\x18", "lz4", "unlz4 FILE"),
    ];
    // A tar whose first name begins like this has its magic at 257 all the same.
    let is_tar = start.get(257..262) == Some(b"ustar");
    match FORMATS.iter().find(|(magic, ..)| !is_tar && start.starts_with(magic)) {
        Some(&(_, program, command)) => Err(TarError::Compressed { program, command }),
        None => Ok(()),
    }
}

fn entries<R: Read>(
    archive: &mut Archive<R>,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<(), TarError> {
    let mut dropped = 0u64;
    while let Some(entry) = archive.next()? {
        work.check()?;
        dropped += add(archive, entry, writer, work)?;
    }
    if dropped > 0 {
        work.log(&format!("left out {dropped} extended attributes of namespaces that Linux has not"));
    }
    Ok(())
}

/// Adds one entry; returns how many attributes were left out.
fn add<R: Read>(
    archive: &mut Archive<R>,
    entry: Entry,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<u64, TarError> {
    let Entry { header, path: raw_path, link, uid, gid, modified, attributes, stored, sparse } = entry;
    let path = TreePath::parse(&raw_path)?;
    let owner = |id: u64| u32::try_from(id).map_err(|_| TarError::Owner { path: path.to_string() });
    let mode = archive::number(&header.as_old().mode, header.mode().map(u64::from))?;
    let mode =
        u32::try_from(mode).map_err(|_| TarError::Malformed("a header has a mode that is no number"))?;
    let before = attributes.len();
    let attributes: Vec<_> = attributes.into_iter().filter(is_for_linux).collect();
    let dropped = (before - attributes.len()) as u64;
    let metadata = Metadata {
        mode: crate::encoding::low_16(mode & 0o7777),
        uid: owner(uid)?,
        gid: owner(gid)?,
        modified,
        attributes,
    };
    let device = || -> Result<(u32, u32), TarError> {
        let malformed = || TarError::Malformed("a device has no number");
        let major = header.device_major().ok().flatten().ok_or_else(malformed)?;
        Ok((major, header.device_minor().ok().flatten().ok_or_else(malformed)?))
    };
    match header.entry_type() {
        EntryType::Directory => writer.directory(&path, metadata)?,
        // Before ustar a directory was a file whose name ends with a slash.
        EntryType::Regular if raw_path.ends_with(b"/") => writer.directory(&path, metadata)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let data = archive.data(stored);
            let written = match sparse {
                Some(map) => writer.sparse_file(&path, metadata, map.size, &mut map.expand(data, work)),
                None => writer.file(&path, metadata, stored, &mut { data }),
            };
            written.map_err(ends_too_soon)?;
        }
        EntryType::Symlink => writer.symbolic_link(&path, metadata, &link)?,
        EntryType::Link => writer.hard_link(&path, &TreePath::parse(&link)?)?,
        EntryType::Char => {
            let (major, minor) = device()?;
            writer.special(&path, metadata, Special::CharacterDevice { major, minor })?;
        }
        EntryType::Block => {
            let (major, minor) = device()?;
            writer.special(&path, metadata, Special::BlockDevice { major, minor })?;
        }
        EntryType::Fifo => writer.special(&path, metadata, Special::Fifo)?,
        other => {
            // GNU tar's volume label says nothing about the tree.
            if other.as_byte() != b'V' {
                let kind = printable(&[other.as_byte()]);
                return Err(TarError::UnknownType { path: path.to_string(), kind });
            }
        }
    }
    Ok(dropped)
}

/// A file that has less content than it should is one whose archive ends in its midst.
fn ends_too_soon(error: WriteError) -> TarError {
    match error {
        WriteError::ContentEnds { .. } => TarError::Truncated,
        other => other.into(),
    }
}

fn is_for_linux(attribute: &ExtendedAttribute) -> bool {
    NAMESPACES.iter().any(|namespace| attribute.name.starts_with(namespace))
}

/// Hashes and counts what is read, reports it, and fails once somebody has cancelled.
struct Source<'a, R> {
    reader: R,
    hash: Sha256,
    length: u64,
    total: Option<u64>,
    work: &'a dyn Work,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.check().map_err(io::Error::other)?;
        let got = self.reader.read(buffer)?;
        self.hash.update(&buffer[..got]);
        self.length += got as u64;
        self.work.progress(self.length, self.total, Unit::Bytes);
        Ok(got)
    }
}
