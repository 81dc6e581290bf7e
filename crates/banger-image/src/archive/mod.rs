//! Root file systems and layers of images in tar archives: `ustar`, GNU and PAX, packed or not.

mod compression;
mod entries;
mod pax;
mod sparse;
mod stored;

use std::io::{self, BufReader, Read};

use banger_core::work::{Cancelled, Work};
use banger_types::digest::Digest;
use tar::EntryType;

use crate::encoding::printable;
use crate::rootfs::{
    ExtendedAttribute, HardLink, Metadata, PathError, RootfsWriter, Special, TreePath, WriteError,
};
pub use compression::Compression;
pub(crate) use entries::Archive;
use entries::Entry;
use stored::{Stored, Unpacked};

/// Bytes read and hashed at once.
const BUFFER: usize = 256 << 10;
/// What the names of entries begin with that take something away (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// The name that takes away everything in its directory (layer.md, "Opaque Whiteout").
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the names of AUFS's own files begin with, which old versions of Docker left in layers.
const AUFS: &[u8] = b".wh..wh.";
/// Namespaces of extended attributes that Linux has (xattr(7)).
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];

/// Why an archive could not be read into a root file system.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error("this is not a tar archive")]
    NotATar,
    /// It is packed with something that we cannot unpack.
    #[error("the archive is compressed with {program}; unpack it first: {command}")]
    Compressed {
        /// The program that packed it.
        program: &'static str,
        /// What unpacks it.
        command: &'static str,
    },
    /// It is damaged where it is packed.
    #[error("the archive is damaged: it does not unpack as {0}")]
    Packing(Compression, #[source] io::Error),
    /// It is larger than it may be.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// Most bytes.
        limit: u64,
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

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A whole tree.
    Tree,
    /// What a layer changes in the tree of those before it (OCI image-spec, layer.md).
    Layer,
}

/// How an archive is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What it is.
    pub meaning: Meaning,
    /// Its length in bytes as it is stored, where that is known, for the progress.
    pub total: Option<u64>,
    /// Most bytes that it may unpack to.
    pub limit: u64,
    /// Whether its bytes are hashed as they are stored. Those of one that is downloaded are, where they come.
    pub hash_stored: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { meaning: Meaning::Tree, total: None, limit: u64::MAX, hash_stored: true }
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Digest of all bytes of the archive as it is stored, if they were to be hashed.
    pub digest: Option<Digest>,
    /// Its length in bytes as it is stored.
    pub length: u64,
    /// Digest of all bytes unpacked: of a layer its `DiffID` (OCI image-spec, config.md, "Layer `DiffID`").
    pub unpacked: Digest,
    /// How many these are.
    pub unpacked_length: u64,
    /// What it was packed with.
    pub compression: Compression,
}

/// Reads an archive to its end and hands each entry to `writer`. What is packed is unpacked by a thread beside this one.
pub fn read(
    reader: impl Read + Send,
    reading: &Reading,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<Summary, ArchiveError> {
    let mut stored = Stored::new(reader, reading, work);
    let outcome = begin(&mut stored).and_then(|(start, compression)| {
        let rest = start.chain(&mut stored);
        let unpacked = match compression {
            Compression::None => entries_of(rest, !reading.hash_stored, reading, writer, work)?,
            _ => {
                compression::unpack(rest, compression, |rest| entries_of(rest, true, reading, writer, work))?
            }
        };
        Ok((compression, unpacked))
    });
    summary(stored, outcome, work)
}

/// The same with an archive that is not packed.
pub fn read_unpacked(
    reader: impl Read,
    reading: &Reading,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<Summary, ArchiveError> {
    let mut stored = Stored::new(reader, reading, work);
    let outcome = begin(&mut stored).and_then(|(start, compression)| {
        compression.refuse()?;
        let rest = start.chain(&mut stored);
        Ok((compression, entries_of(rest, !reading.hash_stored, reading, writer, work)?))
    });
    summary(stored, outcome, work)
}

/// Reads as much as it takes to see what the archive is packed with.
fn begin<R: Read>(stored: &mut Stored<'_, R>) -> Result<(io::Cursor<Vec<u8>>, Compression), ArchiveError> {
    let mut start = Vec::with_capacity(512);
    stored.take(512).read_to_end(&mut start)?;
    let compression = Compression::of(&start)?;
    Ok((io::Cursor::new(start), compression))
}

fn summary<R>(
    stored: Stored<'_, R>,
    outcome: Result<(Compression, (Option<Digest>, u64)), ArchiveError>,
    work: &dyn Work,
) -> Result<Summary, ArchiveError> {
    // What was cancelled shows up as a failed read, wherever that was.
    work.check()?;
    let (compression, (unpacked, unpacked_length)) = outcome?;
    let (digest, length) = stored.finish();
    // One of the two is hashed, and they are the same where nothing is packed.
    let unpacked = unpacked.or(digest).ok_or(ArchiveError::Malformed("nothing of it was hashed"))?;
    Ok(Summary { digest, length, unpacked, unpacked_length, compression })
}

/// Reads all entries, and what follows them: for the digest, and so that the writer of a pipe is not killed. Returns the
/// digest of all bytes, if they are to be hashed, and how many they are.
fn entries_of(
    reader: impl Read,
    hash: bool,
    reading: &Reading,
    writer: &mut dyn RootfsWriter,
    work: &dyn Work,
) -> Result<(Option<Digest>, u64), ArchiveError> {
    let mut unpacked = Unpacked::new(reader, reading.limit, hash);
    let mut left_out = LeftOut::default();
    let mut all = || -> Result<(), ArchiveError> {
        let archive = Archive::new(BufReader::with_capacity(BUFFER, &mut unpacked));
        // A layer's digest says whether all of it is there.
        let mut archive = archive.may_just_end(reading.meaning == Meaning::Layer);
        while let Some(entry) = archive.next()? {
            work.check()?;
            add(&mut archive, entry, reading.meaning, writer, &mut left_out, work)?;
        }
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    };
    let outcome = all();
    let finished = unpacked.finish()?;
    outcome?;
    left_out.log(work);
    Ok(finished)
}

/// What of an archive has no place in a root file system.
#[derive(Debug, Default)]
struct LeftOut {
    attributes: u64,
    links: u64,
}

impl LeftOut {
    fn log(&self, work: &dyn Work) {
        let Self { attributes, links } = self;
        if *attributes > 0 {
            work.log(&format!("left out {attributes} extended attributes of namespaces that Linux has not"));
        }
        if *links > 0 {
            work.log(&format!("copied files with more names than a file can have, {links} times"));
        }
    }
}

/// Adds one entry.
fn add<R: Read>(
    archive: &mut Archive<R>,
    entry: Entry,
    meaning: Meaning,
    writer: &mut dyn RootfsWriter,
    left_out: &mut LeftOut,
    work: &dyn Work,
) -> Result<(), ArchiveError> {
    let path = TreePath::parse(&entry.path)?;
    if meaning == Meaning::Layer && take_away(&path, writer)? {
        return Ok(());
    }
    let metadata = metadata(&entry, &path, left_out)?;
    let Entry { header, path: raw_path, link, stored, sparse, .. } = entry;
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
        EntryType::Link => {
            let made = writer.hard_link(&path, &TreePath::parse(&link)?)?;
            left_out.links += u64::from(made == HardLink::Copied);
        }
        EntryType::Char => {
            let (major, minor) = device(&header)?;
            writer.special(&path, metadata, Special::CharacterDevice { major, minor })?;
        }
        EntryType::Block => {
            let (major, minor) = device(&header)?;
            writer.special(&path, metadata, Special::BlockDevice { major, minor })?;
        }
        EntryType::Fifo => writer.special(&path, metadata, Special::Fifo)?,
        // GNU tar's volume label says nothing about the tree.
        other if other.as_byte() == b'V' => {}
        other => {
            let kind = printable(&[other.as_byte()]);
            return Err(ArchiveError::UnknownType { path: path.to_string(), kind });
        }
    }
    Ok(())
}

/// Takes away what a layer's entry says is to go. Returns whether it is such an entry, or one of AUFS's own.
fn take_away(path: &TreePath, writer: &mut dyn RootfsWriter) -> Result<bool, ArchiveError> {
    let Some((directory, name)) = path.split_last() else { return Ok(false) };
    let is_aufs = |name: &[u8]| name.starts_with(AUFS);
    if name == OPAQUE {
        writer.opaque(&TreePath::parse(directory)?)?;
    } else if let Some(gone) = name.strip_prefix(WHITEOUT).filter(|_| !is_aufs(name)) {
        if matches!(gone, b"" | b"." | b"..") {
            return Err(ArchiveError::Malformed("a whiteout names nothing that could be taken away"));
        }
        writer.whiteout(&TreePath::parse(&[directory, b"/", gone].concat())?)?;
    } else {
        return Ok(path.names().any(is_aufs));
    }
    Ok(true)
}

fn metadata(entry: &Entry, path: &TreePath, left_out: &mut LeftOut) -> Result<Metadata, ArchiveError> {
    let owner = |id: u64| u32::try_from(id).map_err(|_| ArchiveError::Owner { path: path.to_string() });
    let mode = entries::number(&entry.header.as_old().mode, entry.header.mode().map(u64::from))?;
    let mode =
        u32::try_from(mode).map_err(|_| ArchiveError::Malformed("a header has a mode that is no number"))?;
    let attributes: Vec<_> = entry.attributes.iter().filter(|it| is_for_linux(it)).cloned().collect();
    left_out.attributes += (entry.attributes.len() - attributes.len()) as u64;
    Ok(Metadata {
        mode: crate::encoding::low_16(mode & 0o7777),
        uid: owner(entry.uid)?,
        gid: owner(entry.gid)?,
        modified: entry.modified,
        attributes,
    })
}

fn device(header: &tar::Header) -> Result<(u32, u32), ArchiveError> {
    let malformed = || ArchiveError::Malformed("a device has no number");
    let major = header.device_major().ok().flatten().ok_or_else(malformed)?;
    Ok((major, header.device_minor().ok().flatten().ok_or_else(malformed)?))
}

/// A file that has less content than it should is one whose archive ends in its midst.
fn ends_too_soon(error: WriteError) -> ArchiveError {
    match error {
        WriteError::ContentEnds { .. } => ArchiveError::Truncated,
        other => other.into(),
    }
}

fn is_for_linux(attribute: &ExtendedAttribute) -> bool {
    NAMESPACES.iter().any(|namespace| attribute.name.starts_with(namespace))
}
