//! Entries of a tar archive, read in one pass and with bounded memory.
//!
//! The `tar` crate decodes the headers; how they follow each other is read here, because the
//! crate's own iterator puts no bound on long names and PAX data, and loses records after a binary
//! value. Formats: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".

use std::io::{self, Read, Seek};

use tar::{EntryType, Header};

use super::ArchiveError;
use super::pax::{self, Records};
use super::sparse::{Map, Piece};
use crate::rootfs::{ExtendedAttribute, Timestamp};

const BLOCK: usize = 512;
/// Most bytes of a long name, or of one file's PAX records.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// Most bytes of all the long names and PAX records of one file. Each may come in any number of headers.
const MOST_EXTENSIONS: u64 = 4 << 20;
/// How the PAX keywords of extended attributes begin.
const ATTRIBUTE_KEYWORD: &[u8] = b"SCHILY.xattr.";

/// An archive as a stream.
pub(crate) struct Archive<R> {
    reader: R,
    /// Bytes of the present entry, padding included, that were not read yet.
    left: u64,
    entries: u64,
    /// It may end after any entry, and before the first.
    may_just_end: bool,
    /// Passes over bytes that nobody wants; returns how many there were.
    pass: fn(&mut R, u64) -> io::Result<u64>,
}

/// An entry's header, with everything that its extensions said. Its data is next in the stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) modified: Timestamp,
    pub(super) attributes: Vec<ExtendedAttribute>,
    /// Bytes that the archive holds, without padding.
    pub(crate) stored: u64,
    pub(super) sparse: Option<Map>,
}

/// What extension headers said about the entry that comes after them.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    size: Option<u64>,
    modified: Option<Timestamp>,
    attributes: Vec<ExtendedAttribute>,
    sparse: SparseRecords,
}

/// `GNU.sparse.*` records.
#[derive(Debug, Default)]
struct SparseRecords {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    pieces: Vec<Piece>,
    offset: Option<u64>,
    before_data: bool,
    any: bool,
}

impl<R: Read + Seek> Archive<io::BufReader<R>> {
    /// Returns the archive that `reader` reads, which passes over data without reading it.
    pub(crate) fn seekable(reader: io::BufReader<R>) -> Self {
        let pass = |reader: &mut io::BufReader<R>, bytes: u64| {
            let ahead = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
            reader.seek_relative(ahead).map(|()| bytes)
        };
        Self { reader, left: 0, entries: 0, may_just_end: true, pass }
    }

    /// Returns where in the archive the next byte is.
    pub(crate) fn position(&mut self) -> Result<u64, ArchiveError> {
        Ok(self.reader.stream_position()?)
    }
}

impl<R: Read> Archive<R> {
    /// Returns the archive that `reader` reads.
    pub(super) fn new(reader: R) -> Self {
        let pass = |reader: &mut R, bytes: u64| io::copy(&mut reader.take(bytes), &mut io::sink());
        Self { reader, left: 0, entries: 0, may_just_end: false, pass }
    }

    /// Lets it end without the blocks of zeros that mark the end, as Go's reader does, so that there are such layers. That
    /// all of it is there has to be known otherwise.
    pub(super) fn may_just_end(mut self, may: bool) -> Self {
        self.may_just_end = may;
        self
    }

    /// Returns the next entry, or `None` at the archive's end marker. Data of the one before that
    /// was not read is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        let mut collected = 0;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extended { Err(ArchiveError::Truncated) } else { Ok(None) };
            };
            extended = true;
            if let EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader = header.entry_type()
            {
                collected += header.entry_size().unwrap_or(0).min(LONGEST_EXTENSION);
            }
            if collected > MOST_EXTENSIONS {
                return Err(ArchiveError::Malformed(
                    "the names and PAX records of a file have more than 4 MiB",
                ));
            }
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.long_name(&header)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(&header)?),
                EntryType::XHeader => {
                    let data = self.extension(&header)?;
                    extensions.records(&data)?;
                }
                // Global headers carry comments (git writes one); values for all files are unheard of.
                EntryType::XGlobalHeader => {
                    self.extension(&header)?;
                }
                _ => return self.entry(header, extensions).map(Some),
            }
        }
    }

    /// Returns a reader of the present entry's stored bytes, of which there are `stored`.
    pub(super) fn data(&mut self, stored: u64) -> Data<'_, R> {
        Data { archive: self, left: stored }
    }

    /// Returns the reader, from which what follows the end marker may be read.
    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    fn entry(&mut self, header: Header, extensions: Extensions) -> Result<Entry, ArchiveError> {
        let fields = header.as_old();
        let mut stored = match extensions.size {
            Some(size) => size,
            None => number(&fields.size, header.entry_size())?,
        };
        self.begin(stored)?;
        let kind = header.entry_type();
        if kind.is_hard_link() || kind.is_symlink() || kind.is_dir() {
            // POSIX lets a hard link carry the file's data; the link says it all.
            stored = 0;
        }
        let mut path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let sparse = if header.entry_type().is_gnu_sparse() {
            Some(self.old_sparse(&header, stored)?)
        } else if extensions.sparse.any {
            let SparseRecords { name, size, mut pieces, before_data, .. } = extensions.sparse;
            if before_data {
                let (front, taken) = Map::read_front(&mut self.data(stored))?;
                pieces = front;
                stored -= taken;
            }
            if let Some(name) = name {
                path = name;
            }
            let size = size.ok_or(ArchiveError::Malformed("a sparse file has no size"))?;
            Some(Map::new(pieces, size, stored)?)
        } else {
            None
        };
        let modified = match extensions.modified {
            Some(modified) => modified,
            None => Timestamp { seconds: seconds(&header)?, nanoseconds: 0 },
        };
        Ok(Entry {
            path,
            link: extensions
                .link
                .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            uid: extensions.uid.map_or_else(|| number(&fields.uid, header.uid()), Ok)?,
            gid: extensions.gid.map_or_else(|| number(&fields.gid, header.gid()), Ok)?,
            modified,
            attributes: extensions.attributes,
            stored,
            sparse,
            header,
        })
    }

    /// Reads a header block, or `None` for a block of zeros: the end marker.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let got = self.fill(block)?;
        if got == 0 && self.may_just_end {
            return Ok(None);
        }
        if got < BLOCK {
            return Err(match self.entries {
                0 => ArchiveError::NotATar,
                _ => ArchiveError::Truncated,
            });
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        // The checksum field counts as spaces; some old writers summed signed bytes.
        let field = 148..156;
        let bytes = || block.iter().enumerate().map(|(at, &b)| if field.contains(&at) { b' ' } else { b });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        let stated = header.cksum().map_or(-1, i64::from);
        if stated != unsigned && stated != signed {
            return Err(match self.entries {
                0 => ArchiveError::NotATar,
                _ => ArchiveError::Malformed("a header's checksum is wrong"),
            });
        }
        self.entries += 1;
        Ok(Some(header))
    }

    /// Reads the data of an extension header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = header.entry_size().map_err(|_| ArchiveError::Malformed("a header has no size"))?;
        if size > LONGEST_EXTENSION {
            return Err(ArchiveError::Malformed("a name or the PAX records of a file have more than 1 MiB"));
        }
        self.begin(size)?;
        let mut data = Vec::new();
        self.data(size).read_to_end(&mut data)?;
        if data.len() as u64 != size {
            return Err(ArchiveError::Truncated);
        }
        Ok(data)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.extension(header)?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// The map of an entry of type `S`: four pieces in the header, 21 in each block after it.
    fn old_sparse(&mut self, header: &Header, stored: u64) -> Result<Map, ArchiveError> {
        let malformed = || ArchiveError::Malformed("the map of a sparse file is malformed");
        let gnu = header.as_gnu().ok_or_else(malformed)?;
        let mut pieces = Vec::new();
        let mut add = |piece: &tar::GnuSparseHeader| -> Result<(), ArchiveError> {
            if !piece.is_empty() {
                let offset = piece.offset().map_err(|_| malformed())?;
                pieces.push(Piece { offset, length: piece.length().map_err(|_| malformed())? });
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut more = gnu.is_extended();
        let mut blocks = 0;
        while more {
            let mut extension = tar::GnuExtSparseHeader::new();
            if self.fill(extension.as_mut_bytes())? < BLOCK {
                return Err(ArchiveError::Truncated);
            }
            blocks += 1;
            if blocks > 8192 {
                return Err(ArchiveError::Malformed("a sparse file has too many pieces"));
            }
            extension.sparse.iter().try_for_each(&mut add)?;
            more = extension.is_extended();
        }
        let size = gnu.real_size().map_err(|_| malformed())?;
        Map::new(pieces, size, stored)
    }

    /// Notes that `size` bytes and their padding come next.
    fn begin(&mut self, size: u64) -> Result<(), ArchiveError> {
        let block = BLOCK as u64;
        self.left = size
            .checked_next_multiple_of(block)
            .ok_or(ArchiveError::Malformed("an entry has no possible size"))?;
        Ok(())
    }

    /// Reads what is left of the present entry.
    fn skip(&mut self) -> Result<(), ArchiveError> {
        let skipped = (self.pass)(&mut self.reader, self.left)?;
        if skipped < self.left {
            return Err(ArchiveError::Truncated);
        }
        self.left = 0;
        Ok(())
    }

    fn fill(&mut self, block: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut got = 0;
        while got < block.len() {
            match self.reader.read(&mut block[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(got)
    }
}

/// Reads the bytes that the archive holds of one entry.
pub(super) struct Data<'a, R> {
    archive: &'a mut Archive<R>,
    left: u64,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.archive.reader.read(&mut buffer[..most])?;
        self.left -= got as u64;
        self.archive.left -= got as u64;
        Ok(got)
    }
}

impl Extensions {
    /// Takes the records of a PAX header; unknown keywords are ignored, as POSIX asks for.
    fn records(&mut self, data: &[u8]) -> Result<(), ArchiveError> {
        for record in Records::new(data) {
            let (keyword, value) = record?;
            let bad = || ArchiveError::Malformed("a PAX record has a malformed value");
            let number = || pax::decimal(value).ok_or_else(bad);
            match keyword {
                // An empty value takes the keyword back.
                _ if value.is_empty() && !keyword.starts_with(ATTRIBUTE_KEYWORD) => {}
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"size" => self.size = Some(number()?),
                b"mtime" => self.modified = Some(pax::time(value).ok_or_else(bad)?),
                _ => {
                    if let Some(name) = keyword.strip_prefix(ATTRIBUTE_KEYWORD) {
                        self.attributes
                            .push(ExtendedAttribute { name: name.to_vec(), value: value.to_vec() });
                    } else if let Some(keyword) = keyword.strip_prefix(b"GNU.sparse.") {
                        self.sparse.record(keyword, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    /// Versions 0.0 (`offset`, `numbytes` repeated), 0.1 (`map`) and 1.0 (`major`, `realsize`).
    fn record(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let number =
            || pax::decimal(value).ok_or(ArchiveError::Malformed("the map of a sparse file is malformed"));
        self.any = true;
        match keyword {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"map" => self.pieces = Map::pieces(value.split(|&b| b == b','))?,
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take();
                let offset =
                    offset.ok_or(ArchiveError::Malformed("the map of a sparse file is malformed"))?;
                self.pieces.push(Piece { offset, length: number()? });
            }
            b"major" => self.before_data = number()? == 1,
            _ => {}
        }
        Ok(())
    }
}

/// Returns what was read from a field; one that is left blank is zero. Some writers leave those blank
/// that they have nothing to say in, and every reader takes them so.
pub(super) fn number(field: &[u8], read: io::Result<u64>) -> Result<u64, ArchiveError> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(0);
    }
    read.map_err(|_| ArchiveError::Malformed("a header has a field that is no number"))
}

/// Returns the header's time. GNU tar writes times before the epoch in base 256, as two's complement.
fn seconds(header: &Header) -> Result<i64, ArchiveError> {
    let field = header.as_old().mtime;
    if field[0] & 0x80 == 0 {
        let seconds = number(&field, header.mtime())?;
        return Ok(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
    // 96 bits, of which the first only says which form it is; the sign is in the one after it.
    let (_, low) = field.split_at(4);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(low);
    Ok(i64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_left_blank_is_zero_and_one_with_rubbish_is_refused() {
        let mut header = Header::new_gnu();
        assert_eq!(number(&header.as_old().uid, header.uid()).unwrap(), 0);
        header.as_old_mut().uid = *b"nonsense";
        assert!(number(&header.as_old().uid, header.uid()).is_err());
    }
}
