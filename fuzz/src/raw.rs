//! Archives as a fuzzer's bytes: what keeps such bytes from being one, a wrong checksum, is mended.

use std::io::Read;

use banger_core::work::Unwatched;
use banger_image::archive::{self, ArchiveError, Meaning, Reading, Summary};
use banger_image::rootfs::{RootfsWriter as _, Timestamp};

use crate::content::{Run, noise};
use crate::pair::Pair;
use crate::tar::{self, Entry, Form, SparseForm};

const BLOCK: usize = 512;
/// Where in a header its size is.
const SIZE: std::ops::Range<usize> = 124..136;
/// Most bytes that an archive may unpack to.
const LIMIT: u64 = 4 << 20;

/// Signs what is a header where all others are true, so that a fuzzer can change them.
pub fn sign(archive: &mut [u8]) {
    let mut rest = archive;
    while rest.len() >= BLOCK && rest[..BLOCK].iter().any(|&byte| byte != 0) {
        tar::sign(&mut rest[..BLOCK]);
        let digits: String =
            rest[SIZE].iter().filter(|byte| byte.is_ascii_digit()).map(|&b| char::from(b)).collect();
        let size = usize::from_str_radix(&digits, 8).unwrap_or_default();
        let next = size.next_multiple_of(BLOCK).saturating_add(BLOCK).min(rest.len());
        rest = &mut rest[next..];
    }
}

/// Reads an archive that is two layers, the second as the first. However it comes, the same comes of it.
pub fn merge(archive: &[u8], pair: &mut Pair) {
    let first = read(archive, archive, pair);
    if pair.is_full() || pair.next_layer().is_err() {
        return;
    }
    let second = read(archive, Halting { bytes: archive, step: 0 }, pair);
    if pair.is_full() {
        return;
    }
    // A layer over itself can fail where it did not before: what it made is in the way, or links lead elsewhere.
    if let (Ok(first), Ok(second)) = (&first, &second) {
        assert_eq!(first, second, "an archive is the same however it is read");
    }
}

fn read(archive: &[u8], reader: impl Read + Send, pair: &mut Pair) -> Result<Summary, ArchiveError> {
    let reading = Reading { meaning: Meaning::Layer, limit: LIMIT, ..Reading::default() };
    let outcome = archive::read(reader, &reading, pair, &Unwatched);
    if let Ok(summary) = &outcome {
        assert_eq!(summary.length, archive.len() as u64, "it is read to its end");
        assert!(summary.unpacked_length <= LIMIT);
    }
    outcome
}

/// A reader of a few bytes at once, which is interrupted now and then.
struct Halting<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.step += 1;
        if self.step.is_multiple_of(5) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let most = 1 + (self.step * 37) % 700;
        let part = most.min(buffer.len());
        self.bytes.read(&mut buffer[..part])
    }
}

/// Returns archives to begin with, of all forms.
pub fn seeds() -> Vec<Vec<u8>> {
    let forms = [SparseForm::Old, SparseForm::Pax00, SparseForm::Pax01, SparseForm::Pax10];
    let mut seeds: Vec<_> = forms.map(|form| archive(&[(file(b"s"), Some(form))])).into();
    for form in [Form::Gnu, Form::Pax] {
        let long = Entry { form, path: vec![b'p'; 150], link: vec![b'l'; 150], kind: b'2', ..file(b"") };
        let entry = |kind: u8, path: &[u8], link: &[u8]| {
            (Entry { form, kind, link: link.to_vec(), ..file(path) }, None)
        };
        seeds.push(archive(&[(long, None)]));
        seeds.push(archive(&[
            entry(b'5', b"a/", b""),
            entry(b'0', b"a/f", b""),
            entry(b'1', b"h", b"a/f"),
            entry(b'2', b"l", b"/a/.."),
            entry(b'3', b"l/c", b""),
        ]));
        seeds.push(archive(&[
            entry(b'0', b"a/.wh.f", b""),
            entry(b'0', b"a/.wh..wh..opq", b""),
            entry(b'6', b".wh..wh.plnk/x", b""),
            entry(b'0', b"a/d/", b""),
        ]));
    }
    let packed = seeds.iter().take(1).map(|seed| tar::packed(seed)).collect::<Vec<_>>();
    seeds.extend(packed);
    seeds
}

fn file(path: &[u8]) -> Entry {
    Entry {
        form: Form::Pax,
        kind: b'0',
        path: path.to_vec(),
        link: Vec::new(),
        mode: 0o644,
        owner: (1, 2),
        modified: Timestamp { seconds: -3, nanoseconds: 5 },
        records: vec![(b"SCHILY.xattr.user.x".to_vec(), b"value".to_vec())],
        device: (1, 3),
        data: Vec::new(),
    }
}

fn archive(entries: &[(Entry, Option<SparseForm>)]) -> Vec<u8> {
    let runs: Vec<Run> = (0..6)
        .flat_map(|seed| [Run::Hole(70_000), Run::Data(noise(90, seed))])
        .chain([Run::Hole(9)])
        .collect();
    let mut bytes = Vec::new();
    for (entry, sparse) in entries {
        let mut entry = entry.clone();
        if entry.form == Form::Gnu || *sparse == Some(SparseForm::Old) {
            entry.records.clear();
        }
        tar::append(&mut bytes, &entry, sparse.map(|form| (form, &runs[..])));
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
