//! Layers of images, as data: what is in their archives, and what should come of each entry.

use std::io::Read;

use arbitrary::Arbitrary;
use banger_core::work::Unwatched;
use banger_image::archive::{self, Compression, Meaning, Reading};
use banger_image::rootfs::{ExtendedAttribute, Metadata, RootfsWriter as _, Special, TreePath};

use crate::calls::{Attributes, Target, Way};
use crate::content::{Blocks, Budget, Piece, Run, noise, runs, size};
use crate::pair::Pair;
use crate::tar::{self, Entry, Form, SparseForm};
use crate::witness::{Wanted, Witness};

/// Most layers of an input, and most entries of a layer.
const MOST_LAYERS: usize = 8;
const MOST_ENTRIES: usize = 40;

/// An archive.
#[derive(Debug, Clone, Arbitrary)]
pub struct Layer {
    /// Mostly it is a layer; else a whole tree.
    meaning: u8,
    packing: u8,
    /// Bytes that a read returns, about.
    chunk: u16,
    entries: Vec<Item>,
    ending: Ending,
}

/// How an archive ends.
#[derive(Debug, Clone, Arbitrary)]
enum Ending {
    /// With its mark.
    Marked,
    /// With half of it.
    Half,
    /// With nothing.
    Bare,
    /// With its mark and something after it.
    Trailing(u16),
    /// Before its end.
    Cut(u16),
}

/// An entry.
#[derive(Debug, Clone, Arbitrary)]
struct Item {
    name: Name,
    what: What,
    form: Form,
    attributes: Attributes,
}

/// The path of an entry.
#[derive(Debug, Clone, Arbitrary)]
enum Name {
    Plain(Way),
    FromHere(Way),
    FromRoot(Way),
    Upwards(Way, Way),
    Whiteout(Way, Way),
    Opaque(Way),
    Aufs(Way, Way),
}

/// What an entry is.
#[derive(Debug, Clone, Arbitrary)]
enum What {
    Directory,
    OldDirectory,
    File(Vec<Piece>),
    Continuous(Vec<u8>),
    Sparse(SparseForm, Vec<Piece>),
    Link(Target),
    HardLink(Name, u16),
    Device(bool, u32, u32),
    Fifo,
    Label,
    Unknown(u8),
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        let parts = |parts: &[&[u8]]| parts.concat();
        match self {
            Self::Plain(way) => way.bytes(),
            Self::FromHere(way) => parts(&[b"./", &way.bytes()]),
            Self::FromRoot(way) => parts(&[b"//", &way.bytes()]),
            Self::Upwards(way, rest) => parts(&[&way.bytes(), b"/../", &rest.bytes()]),
            Self::Whiteout(way, gone) => parts(&[&way.bytes(), b"/.wh.", &gone.bytes()]),
            Self::Opaque(way) => parts(&[&way.bytes(), b"/.wh..wh..opq"]),
            Self::Aufs(way, rest) => parts(&[&way.bytes(), b"/.wh..wh.", &rest.bytes()]),
        }
    }
}

/// Most bytes of a hole where holes have to be written out.
const LARGEST_FILE: u64 = 1 << 20;
/// Most bytes of an archive that is packed: it takes time.
const LARGEST_PACKED: usize = 32 << 10;

/// Merges layers into a root file system.
pub fn merge(layers: &[Layer], pair: &mut Pair) {
    let mut budget = Budget::default();
    for (number, layer) in layers.iter().take(MOST_LAYERS).enumerate() {
        if number > 0 && pair.next_layer().is_err() {
            return;
        }
        layer.read(pair, &mut budget);
        if pair.is_full() {
            return;
        }
    }
}

impl Layer {
    fn read(&self, pair: &mut Pair, budget: &mut Budget) {
        let meaning = if self.meaning % 8 == 7 { Meaning::Tree } else { Meaning::Layer };
        let (mut bytes, mut wanted) = (Vec::new(), Vec::new());
        for item in self.entries.iter().take(MOST_ENTRIES) {
            item.append(&mut bytes, meaning, &mut wanted, budget);
        }
        let is_whole = self.end(&mut bytes, meaning);
        let is_packed = self.packing % 16 == 15 && (1..LARGEST_PACKED).contains(&bytes.len());
        let stored = if is_packed { tar::packed(&bytes) } else { bytes.clone() };
        let reading = Reading { meaning, limit: bytes.len() as u64, ..Reading::default() };
        let is_refused = wanted.contains(&Wanted::Refused);
        let mut witness = Witness::new(pair, wanted);
        // Not so few that an archive takes thousands of them.
        let most = if self.chunk == 0 { usize::MAX } else { usize::from(self.chunk) + stored.len() / 1000 };
        let reader = Chunks { bytes: &stored, most };
        let outcome = if is_packed || self.chunk.is_multiple_of(2) {
            archive::read(reader, &reading, &mut witness, &Unwatched)
        } else {
            archive::read_unpacked(reader, &reading, &mut witness, &Unwatched)
        };
        match outcome {
            Ok(summary) => {
                assert!(!(witness.has_failed() || is_refused && is_whole), "it is taken for good");
                assert!(!is_whole || witness.missing().is_none(), "there is no {:?}", witness.missing());
                assert_eq!(
                    (summary.length, summary.unpacked_length),
                    (stored.len() as u64, bytes.len() as u64)
                );
                let compression = if is_packed { Compression::Gzip } else { Compression::None };
                assert_eq!(summary.compression, compression);
                assert_eq!(summary.digest == Some(summary.unpacked), !is_packed);
            }
            Err(error) => {
                let is_next = matches!(witness.missing(), Some(Wanted::Refused));
                assert!(witness.has_failed() || is_next || !is_whole, "{error}: {:?}", witness.missing());
            }
        }
    }

    /// Ends the archive; returns whether it is one that is whole.
    fn end(&self, bytes: &mut Vec<u8>, meaning: Meaning) -> bool {
        match self.ending {
            Ending::Marked => bytes.resize(bytes.len() + 1024, 0),
            Ending::Half => bytes.resize(bytes.len() + 512, 0),
            Ending::Bare => return meaning == Meaning::Layer,
            Ending::Trailing(length) => {
                bytes.resize(bytes.len() + 1024, 0);
                bytes.extend(noise(length.into(), 1));
            }
            Ending::Cut(at) => {
                bytes.truncate(bytes.len().saturating_sub(at.into()));
                return false;
            }
        }
        true
    }
}

/// A reader of a few bytes at once.
struct Chunks<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let part = self.most.min(buffer.len());
        self.bytes.read(&mut buffer[..part])
    }
}

impl Item {
    /// Appends the entry to an archive, and what should come of it to the calls.
    fn append(&self, archive: &mut Vec<u8>, meaning: Meaning, wanted: &mut Vec<Wanted>, budget: &mut Budget) {
        let mut metadata = self.attributes.metadata();
        metadata.modified.nanoseconds %= 1_000_000_000;
        // Its keyword would end there.
        metadata.attributes.retain(|it| !it.name.contains(&b'='));
        let mut entry = Entry {
            form: self.form,
            kind: b'0',
            path: self.name.bytes(),
            link: Vec::new(),
            mode: metadata.mode,
            owner: (metadata.uid, metadata.gid),
            modified: metadata.modified,
            records: Vec::new(),
            device: (0, 0),
            data: Vec::new(),
        };
        let sparse = self.fill(&mut entry, budget);
        let says_by_records = match &sparse {
            Some((form, _)) => *form != SparseForm::Old,
            None => self.form == Form::Pax,
        };
        if says_by_records {
            let keyword = |it: &ExtendedAttribute| [b"SCHILY.xattr.", &it.name[..]].concat();
            entry.records = metadata.attributes.iter().map(|it| (keyword(it), it.value.clone())).collect();
        } else {
            metadata.attributes.clear();
            metadata.modified.nanoseconds = 0;
            for text in [&mut entry.path, &mut entry.link] {
                let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
                text.truncate(end);
            }
        }
        tar::append(archive, &entry, sparse.as_ref().map(|(form, runs)| (*form, runs.as_slice())));
        if !wanted.contains(&Wanted::Refused) {
            metadata.mode &= 0o7777;
            let is_known = |it: &ExtendedAttribute| {
                let known = [&b"user."[..], b"trusted.", b"security.", b"system."];
                known.iter().any(|namespace| it.name.starts_with(namespace))
            };
            metadata.attributes.retain(is_known);
            let runs = sparse.map_or_else(|| vec![Run::Data(entry.data.clone())], |(_, runs)| runs);
            wanted.extend(self.wanted(&entry, metadata, &runs, meaning).unwrap_or(Some(Wanted::Refused)));
        }
    }

    /// Puts what the entry is into it; returns a sparse file's map.
    fn fill(&self, entry: &mut Entry, budget: &mut Budget) -> Option<(SparseForm, Vec<Run>)> {
        let data = |pieces: &[Piece], budget: &mut Budget| {
            let mut data = Vec::new();
            for run in runs(pieces, budget) {
                match run {
                    Run::Data(bytes) => data.extend(bytes),
                    Run::Hole(length) => {
                        let length = budget.take(length.min(LARGEST_FILE));
                        data.resize(data.len() + usize::try_from(length).unwrap_or_default(), 0);
                    }
                }
            }
            data
        };
        match &self.what {
            What::Directory => entry.kind = b'5',
            What::OldDirectory => {
                entry.kind = 0;
                entry.path.push(b'/');
            }
            What::File(pieces) => entry.data = data(pieces, budget),
            What::Continuous(bytes) => (entry.kind, entry.data) = (b'7', bytes.clone()),
            What::Sparse(form, pieces) => {
                let mut runs = runs(pieces, budget);
                // The oldest form's numbers end at 64 bits all the same.
                runs.retain(|run| !matches!(run, Run::Data(bytes) if bytes.is_empty()));
                return Some((*form, runs));
            }
            What::Link(target) => (entry.kind, entry.link) = (b'2', target.bytes()),
            What::HardLink(target, length) => {
                (entry.kind, entry.link) = (b'1', target.bytes());
                entry.data = noise(usize::from(length % 1500), 7);
            }
            What::Device(is_block, major, minor) => {
                entry.kind = if *is_block { b'4' } else { b'3' };
                entry.device = (major % (1 << 21), minor % (1 << 21));
            }
            What::Fifo => entry.kind = b'6',
            What::Label => entry.kind = b'V',
            What::Unknown(kind) => {
                let is_known = kind.is_ascii_digit() || *kind == 0 || b"xgLKSV".contains(kind);
                entry.kind = if is_known { b'Z' } else { *kind };
            }
        }
        None
    }

    /// Returns the call that should come of the entry, if one should; `Err` if it should be refused.
    fn wanted(
        &self,
        entry: &Entry,
        metadata: Metadata,
        runs: &[Run],
        meaning: Meaning,
    ) -> Result<Option<Wanted>, ()> {
        let parse = |bytes: &[u8]| TreePath::parse(bytes).map_err(drop);
        let path = parse(&entry.path)?;
        if meaning == Meaning::Layer
            && let Some(change) = change(&path)?
        {
            return Ok(change);
        }
        let is_directory = entry.path.ends_with(b"/");
        Ok(Some(match &self.what {
            What::Directory => Wanted::Directory(path, metadata),
            What::File(_) | What::OldDirectory if is_directory => Wanted::Directory(path, metadata),
            What::File(_) | What::OldDirectory | What::Continuous(_) => {
                Wanted::File(path, metadata, entry.data.len() as u64, Blocks::of(runs))
            }
            What::Sparse(form, _) if *form != SparseForm::Old && is_directory => {
                Wanted::Directory(path, metadata)
            }
            What::Sparse(..) => Wanted::File(path, metadata, size(runs), Blocks::of(runs)),
            What::Link(_) => Wanted::Link(path, metadata, entry.link.clone()),
            What::HardLink(..) => Wanted::HardLink(path, parse(&entry.link)?),
            What::Device(is_block, ..) => {
                let (major, minor) = entry.device;
                let of = if *is_block {
                    Special::BlockDevice { major, minor }
                } else {
                    Special::CharacterDevice { major, minor }
                };
                Wanted::Special(path, metadata, of)
            }
            What::Fifo => Wanted::Special(path, metadata, Special::Fifo),
            What::Label => return Ok(None),
            What::Unknown(_) => return Err(()),
        }))
    }
}

/// Returns what an entry of a layer takes away: `None` for one that is no such, `Some(None)` for AUFS's own.
#[expect(clippy::option_option, reason = "three answers, once")]
fn change(path: &TreePath) -> Result<Option<Option<Wanted>>, ()> {
    let names: Vec<&[u8]> = path.names().collect();
    let Some((last, above)) = names.split_last() else { return Ok(None) };
    let parse = |bytes: &[u8]| TreePath::parse(bytes).map_err(drop);
    let directory = above.join(&b'/');
    if *last == b".wh..wh..opq" {
        return Ok(Some(Some(Wanted::Opaque(parse(&directory)?))));
    }
    let is_aufs = |name: &&[u8]| name.starts_with(b".wh..wh.");
    if let Some(gone) = last.strip_prefix(b".wh.").filter(|_| !is_aufs(last)) {
        return whiteout(&directory, gone).map(|it| Some(Some(it)));
    }
    Ok(names.iter().any(is_aufs).then_some(None))
}

fn whiteout(directory: &[u8], gone: &[u8]) -> Result<Wanted, ()> {
    if matches!(gone, b"" | b"." | b"..") {
        return Err(());
    }
    TreePath::parse(&[directory, b"/", gone].concat()).map(Wanted::Whiteout).map_err(drop)
}
