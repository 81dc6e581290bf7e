//! Where images are written, and what is done with each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ext4_view::Ext4;

use crate::check;
use crate::disk::Disk;
use crate::model::{Kind, Model, Node};
use crate::pair::{Pair, Written};

/// Memory that looks like files, if there is some.
const MEMORY: &str = "/dev/shm";
/// One of so many inputs is written a second time.
const AGAIN_EVERY: u64 = 8;
/// One of so many is read by the crate `ext4-view`, too.
const VIEW_EVERY: u64 = 4;
/// One of so many is looked at by e2fsck(8), if that is there: it takes longer than all else together.
const E2FSCK_EVERY: u64 = 1024;
/// Bytes of the largest file, and the largest image, that are read whole.
const LARGEST_READ: u64 = 4 << 20;
/// Most names, and longest path, of what the crate `ext4-view` reads: it begins each at the root.
const MOST_VIEWED: usize = 400;
const LONGEST_VIEWED: usize = 400;

/// How all names of ours begin; what this process is follows.
const PREFIX: &str = "banger-fuzz-";

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from(MEMORY);
    let directory = if memory.is_dir() { memory } else { std::env::temp_dir() };
    take_away_of_ended(&directory);
    directory
});

/// Takes away what processes have left behind that found something.
fn take_away_of_ended(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.ok();
        }
    }
}

/// A directory that is gone when this is.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Makes one; a process has one at a time.
    pub fn new() -> Self {
        let path = DIRECTORY.join(format!("{PREFIX}{}-place", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self(path)
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Writes an image by `fill`, looks through it, and compares it with the model. `input` decides what of the slow checks is
/// done, so that the same input has the same ones.
pub fn check(input: &impl Hash, entries: usize, fill: impl Fn(&mut Pair)) {
    let image = Image::new("image");
    let mut pair = Pair::create(&image.0, entries);
    fill(&mut pair);
    let Some(written) = pair.close() else { return };
    let disk = Disk::open(&image.0, written.size);
    let found = check::find(&disk);
    check::accounts(&disk, &found);
    if let Some(model) = &written.model {
        check::compare(&disk, &found, model);
    }
    let mut hash = DefaultHasher::new();
    input.hash(&mut hash);
    let lot = hash.finish();
    if lot.is_multiple_of(AGAIN_EVERY) {
        writes_the_same_again(&image, &written, entries, &fill);
    }
    if (lot >> 16).is_multiple_of(VIEW_EVERY)
        && let Some(model) = &written.model
    {
        view(&image.0, model);
    }
    if (lot >> 32).is_multiple_of(E2FSCK_EVERY) {
        e2fsck(&image.0);
    }
}

/// A file that is gone when this is.
struct Image(PathBuf);

impl Image {
    fn new(name: &str) -> Self {
        Self(DIRECTORY.join(format!("{PREFIX}{}-{name}", std::process::id())))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn writes_the_same_again(image: &Image, written: &Written, entries: usize, fill: &impl Fn(&mut Pair)) {
    if written.size > LARGEST_READ {
        return;
    }
    let again = Image::new("again");
    let mut pair = Pair::create(&again.0, entries);
    fill(&mut pair);
    assert_eq!(pair.close().map(|written| written.size), Some(written.size), "the same size again");
    let read = |image: &Image| std::fs::read(&image.0).unwrap_or_else(|error| panic!("{error}"));
    assert!(read(image) == read(&again), "the same calls give the same bytes");
}

/// Reads an image by the crate `ext4-view`, which nobody here has written.
fn view(path: &Path, model: &Model) {
    // It refuses times whose low word is negative: those before 1970, and from 2038 on.
    let is_known =
        |node: &Node| u32::try_from(node.modified.seconds & 0xffff_ffff).is_ok_and(|it| it < 1 << 31);
    let is_short = |path: &[u8]| path.len() <= LONGEST_VIEWED;
    if model.len() > MOST_VIEWED || !model.iter().all(|(path, _, node)| is_short(path) && is_known(node)) {
        return;
    }
    let view = Ext4::load_from_path(path).unwrap_or_else(|error| panic!("ext4-view: {error}"));
    for (path, _, node) in model.iter() {
        let whole = [b"/", path].concat();
        let whole =
            ext4_view::Path::try_from(&whole[..]).unwrap_or_else(|error| panic!("ext4-view: {error:?}"));
        let fail = |error| -> ! { panic!("ext4-view: {}: {error}", whole.display()) };
        let metadata = view.symlink_metadata(whole).unwrap_or_else(|error| fail(error));
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
            (node.mode, node.owner.0, node.owner.1)
        );
        let modified = (metadata.modified().seconds(), metadata.modified().nanoseconds());
        assert_eq!(modified, (node.modified.seconds, node.modified.nanoseconds), "{}", whole.display());
        match &node.kind {
            Kind::Directory => {
                let entries = view.read_dir(whole).unwrap_or_else(|error| fail(error));
                assert!(entries.into_iter().all(|entry| entry.is_ok()), "{}", whole.display());
            }
            // It refuses targets with names that are too long; where they lead is not asked here.
            Kind::Link(target) if ext4_view::Path::try_from(&target[..]).is_ok() => {
                let read = view.read_link(whole).unwrap_or_else(|error| fail(error));
                assert!(read.as_ref() as &[u8] == target, "{}", whole.display());
            }
            Kind::File { size, blocks } if *size <= LARGEST_READ => {
                let read = view.read(whole).unwrap_or_else(|error| fail(error));
                let mut found = crate::content::Blocks::default();
                found.note(0, &read);
                assert!(read.len() as u64 == *size && found == *blocks, "{}", whole.display());
            }
            Kind::File { size, .. } => assert_eq!(metadata.len(), *size, "{}", whole.display()),
            Kind::Special(_) | Kind::Link(_) => {}
        }
    }
}

/// Fails unless e2fsck(8) finds nothing wrong, or is not there.
fn e2fsck(path: &Path) {
    let Ok(output) = Command::new("e2fsck").arg("-fn").arg(path).output() else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "e2fsck: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
