//! Entries of tar archives as bytes: `ustar`, GNU and PAX, as their writers write them and as nobody does.

use std::io::Write as _;

use banger_image::rootfs::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::content::Run;

const BLOCK: usize = 512;
/// The kinds of headers that carry what does not fit into one.
const LONG_NAME: u8 = b'L';
const LONG_LINK: u8 = b'K';
const PAX: u8 = b'x';

/// How an entry says what does not fit into a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, arbitrary::Arbitrary)]
pub enum Form {
    /// By GNU tar's headers and numbers.
    Gnu,
    /// By PAX records.
    Pax,
}

/// How a sparse file's map is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, arbitrary::Arbitrary)]
pub enum SparseForm {
    /// In the header and in blocks after it.
    Old,
    /// In a record for each number.
    Pax00,
    /// In one record.
    Pax01,
    /// Before the data.
    Pax10,
}

/// An entry to be.
#[derive(Debug, Clone)]
pub struct Entry {
    /// How it says what does not fit.
    pub form: Form,
    /// Its type flag.
    pub kind: u8,
    /// Its path; with a NUL only by PAX.
    pub path: Vec<u8>,
    /// Its target; the same holds.
    pub link: Vec<u8>,
    /// Permissions.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// When it changed last.
    pub modified: Timestamp,
    /// Records of PAX beside those of the above.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Its data.
    pub data: Vec<u8>,
}

/// Appends an entry to an archive.
pub fn append(archive: &mut Vec<u8>, entry: &Entry, sparse: Option<(SparseForm, &[Run])>) {
    let mut entry = entry.clone();
    let mut header = [0; BLOCK];
    header[257..265].copy_from_slice(if entry.form == Form::Gnu { b"ustar  \0" } else { b"ustar\x0000" });
    let mut map_blocks = Vec::new();
    if let Some((form, runs)) = sparse {
        map_blocks = sparse_map(&mut entry, &mut header, form, runs);
    }
    let mut records = entry.records.clone();
    let mut fits = |keyword: &[u8], value: &[u8], room: usize| {
        let fits = value.len() <= room && !value.contains(&0);
        if !fits && entry.form == Form::Pax {
            records.push((keyword.to_vec(), value.to_vec()));
        }
        fits || entry.form == Form::Pax
    };
    if !fits(b"path", &entry.path, 100) {
        append_extension(archive, LONG_NAME, &[&entry.path[..], b"\0"].concat());
    }
    if !fits(b"linkpath", &entry.link, 100) {
        append_extension(archive, LONG_LINK, &[&entry.link[..], b"\0"].concat());
    }
    if entry.form == Form::Pax {
        let number = |it: u32| it.to_string().into_bytes();
        records.push((b"uid".to_vec(), number(entry.owner.0)));
        records.push((b"gid".to_vec(), number(entry.owner.1)));
        records.push((b"mtime".to_vec(), pax_time(entry.modified)));
    } else {
        put_number(&mut header[108..116], entry.owner.0.into());
        put_number(&mut header[116..124], entry.owner.1.into());
        put_number(&mut header[136..148], entry.modified.seconds.into());
    }
    if !records.is_empty() {
        let records: Vec<u8> = records.iter().flat_map(|(keyword, value)| record(keyword, value)).collect();
        append_extension(archive, PAX, &records);
    }
    put(&mut header[..100], &entry.path);
    put_number(&mut header[100..108], entry.mode.into());
    put_number(&mut header[124..136], entry.data.len() as i128);
    header[156] = entry.kind;
    put(&mut header[157..257], &entry.link);
    put_number(&mut header[329..337], entry.device.0.into());
    put_number(&mut header[337..345], entry.device.1.into());
    sign(&mut header);
    archive.extend_from_slice(&header);
    archive.extend_from_slice(&map_blocks);
    append_padded(archive, &entry.data);
}

/// Appends an extension header with its data.
fn append_extension(archive: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let mut header = [0; BLOCK];
    put(&mut header[..100], b"extension");
    put_number(&mut header[124..136], data.len() as i128);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar  \0");
    sign(&mut header);
    archive.extend_from_slice(&header);
    append_padded(archive, data);
}

fn append_padded(archive: &mut Vec<u8>, data: &[u8]) {
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// Puts a checksum into a header.
pub fn sign(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let part = bytes.len().min(field.len());
    field[..part].copy_from_slice(&bytes[..part]);
}

/// Puts a number into a field: in octal, or in base 256 where that has no room for it.
fn put_number(field: &mut [u8], number: i128) {
    let digits = field.len() - 1;
    let octal = format!("{:0digits$o}", number.max(0));
    if number >= 0 && octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        return;
    }
    let bytes = number.to_be_bytes();
    field.copy_from_slice(&bytes[bytes.len() - field.len()..]);
    field[0] |= 0x80;
}

/// Returns a PAX record, whose length counts itself.
fn record(keyword: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() + rest != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", keyword, b"=", value, b"\n"].concat()
}

fn pax_time(time: Timestamp) -> Vec<u8> {
    let Timestamp { seconds, nanoseconds } = time;
    // A fraction of a time before the epoch counts downwards.
    let text = match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    };
    text.into_bytes()
}

/// Says where the data of a sparse file is. Returns blocks that come after the header.
fn sparse_map(entry: &mut Entry, header: &mut [u8], form: SparseForm, runs: &[Run]) -> Vec<u8> {
    let (mut pieces, mut at, mut data) = (Vec::new(), 0u64, Vec::new());
    for run in runs {
        match run {
            Run::Data(bytes) => {
                pieces.push((at, bytes.len() as u64));
                data.extend_from_slice(bytes);
                at += bytes.len() as u64;
            }
            Run::Hole(length) => at += length,
        }
    }
    // The end of the map, as GNU tar writes it.
    pieces.push((at, 0));
    entry.data = data;
    if form == SparseForm::Old {
        entry.form = Form::Gnu;
        entry.kind = b'S';
        header[257..265].copy_from_slice(b"ustar  \0");
        return old_map(header, &pieces, at);
    }
    entry.form = Form::Pax;
    let mut say = |keyword: &[u8], value: String| entry.records.push((keyword.to_vec(), value.into_bytes()));
    let numbers = || pieces.iter().flat_map(|&(offset, length)| [offset, length]);
    match form {
        SparseForm::Old | SparseForm::Pax00 => {
            say(b"GNU.sparse.size", at.to_string());
            say(b"GNU.sparse.numblocks", pieces.len().to_string());
            for (offset, length) in &pieces {
                say(b"GNU.sparse.offset", offset.to_string());
                say(b"GNU.sparse.numbytes", length.to_string());
            }
        }
        SparseForm::Pax01 => {
            say(b"GNU.sparse.size", at.to_string());
            say(b"GNU.sparse.map", numbers().map(|it| it.to_string()).collect::<Vec<_>>().join(","));
        }
        SparseForm::Pax10 => {
            say(b"GNU.sparse.major", "1".to_owned());
            say(b"GNU.sparse.minor", "0".to_owned());
            say(b"GNU.sparse.realsize", at.to_string());
            let lines = [pieces.len() as u64].into_iter().chain(numbers());
            let lines: Vec<_> = lines.map(|it| it.to_string()).collect();
            let mut front = [lines.join("\n").as_bytes(), b"\n"].concat();
            front.resize(front.len().next_multiple_of(BLOCK), 0);
            entry.data.splice(..0, front);
            if !entry.path.is_empty() {
                entry.records.push((b"GNU.sparse.name".to_vec(), std::mem::take(&mut entry.path)));
                entry.path = b"./GNUSparseFile.1/name".to_vec();
            }
        }
    }
    Vec::new()
}

fn old_map(header: &mut [u8], pieces: &[(u64, u64)], size: u64) -> Vec<u8> {
    let put_pieces = |area: &mut [u8], pieces: &[(u64, u64)]| {
        for (place, (offset, length)) in area.chunks_mut(24).zip(pieces) {
            put_number(&mut place[..12], (*offset).into());
            put_number(&mut place[12..], (*length).into());
        }
    };
    let (first, rest) = pieces.split_at(pieces.len().min(4));
    put_pieces(&mut header[386..482], first);
    header[482] = u8::from(!rest.is_empty());
    put_number(&mut header[483..495], size.into());
    let mut blocks = Vec::new();
    let mut more = rest.chunks(21).peekable();
    while let Some(pieces) = more.next() {
        let mut block = [0; BLOCK];
        put_pieces(&mut block[..504], pieces);
        block[504] = u8::from(more.peek().is_some());
        blocks.extend_from_slice(&block);
    }
    blocks
}

/// Returns what unpacks to these bytes.
pub fn packed(archive: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(archive).and_then(|()| encoder.finish()).unwrap_or_else(|error| panic!("{error}"))
}
