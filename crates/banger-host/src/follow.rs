//! Reading a log that grows and is rotated (`NAME` becomes `NAME.1`, then there is a new `NAME`), by events alone.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::File;
use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How much is read at a time, bytes.
const PIECE: usize = 64 << 10;

/// A log, read from some point on.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// What is read before the present file: the older one.
    before: Option<File>,
    file: Option<File>,
    /// Tells of changes in the directory; `None` when only what is there now is wanted.
    changes: Option<AsyncFd<OwnedFd>>,
}

impl LogReader {
    /// Returns a reader of the log at `path` with what was rotated away before it, from its beginning or from its last
    /// `lines` on. With `follow` it goes on with what is written later, until its directory is gone. A log that is not
    /// there is empty.
    pub fn open(path: &Path, lines: Option<u64>, follow: bool) -> io::Result<Self> {
        // Watched before it is read, so that nothing slips between.
        let changes = if follow { path.parent().map(watch).transpose()? } else { None };
        let mut file = existing(path)?;
        let mut before = existing(&older(path))?;
        if let Some(lines) = lines {
            let missing = match &mut file {
                Some(file) => skip_to_last(file, lines)?,
                None => lines,
            };
            match &mut before {
                Some(older) if missing > 0 => drop(skip_to_last(older, missing)?),
                _ => before = None,
            }
        }
        Ok(Self { path: path.to_owned(), before, file, changes })
    }

    /// Returns the next piece, or `None` at the end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(piece) = self.read()? {
                return Ok(Some(piece));
            }
            let Some(changes) = &self.changes else { return Ok(None) };
            let mut guard = changes.readable().await?;
            // Taken before the log is read again, so that no change is lost in between.
            guard.clear_ready();
            drop(guard);
            if drain(changes.get_ref())? == Directory::Gone {
                // What there is is read to its end, and then nothing more comes.
                self.changes = None;
            }
        }
    }

    /// Reads what is there now; `None` when nothing is.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(before) = &mut self.before {
            if let Some(piece) = piece(before)? {
                return Ok(Some(piece));
            }
            self.before = None;
        }
        if let Some(file) = &mut self.file {
            if let Some(piece) = piece(file)? {
                return Ok(Some(piece));
            }
            if !self.is_replaced()? {
                return Ok(None);
            }
            // What was written between the look at it and its rotation.
            self.before = self.file.take();
            self.file = existing(&self.path)?;
            return self.read();
        }
        self.file = existing(&self.path)?;
        if self.file.is_some() { self.read() } else { Ok(None) }
    }

    fn is_replaced(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let (own, present) = (file.metadata()?, fs_err::metadata(&self.path));
        // A file that was cut short was begun anew.
        Ok(present.is_ok_and(|present| (present.dev(), present.ino()) != (own.dev(), own.ino())))
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn piece(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    // A log that was truncated is read from its new beginning.
    if file.stream_position()? > file.metadata()?.len() {
        file.seek(SeekFrom::Start(0))?;
    }
    let mut buffer = vec![0; PIECE];
    let read = file.read(&mut buffer)?;
    buffer.truncate(read);
    Ok((read > 0).then_some(buffer))
}

/// Goes to the beginning of the last `lines` lines. Returns how many more the file would have to have.
fn skip_to_last(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(length))?;
        return Ok(0);
    }
    let mut count = 0;
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(PIECE as u64);
        let mut block = vec![0; usize::try_from(end - begin).unwrap_or(PIECE)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block)?;
        for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let start = begin + offset as u64 + 1;
            // The newline that ends the file begins no line.
            if start == length {
                continue;
            }
            count += 1;
            if count == lines {
                file.seek(SeekFrom::Start(start))?;
                return Ok(0);
            }
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(lines - count - u64::from(length > 0))
}

fn watch(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    add_watch(&changes, directory, flags)?;
    // SAFETY: the descriptor is an `OwnedFd`, open until the `AsyncFd` that owns it is dropped.
    #[expect(unsafe_code, reason = "tokio has no safe way to wait for a descriptor")]
    let changes = unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) };
    Ok(changes?)
}

#[derive(Debug, PartialEq, Eq)]
enum Directory {
    There,
    Gone,
}

/// Takes the events that wait (`inotify(7)`). Which files they are about does not matter: whoever waits looks again.
fn drain(changes: &OwnedFd) -> io::Result<Directory> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = rustix::fs::inotify::Reader::new(changes, &mut buffer);
    let mut directory = Directory::There;
    loop {
        match events.next() {
            Ok(event) => {
                let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
                if event.events().intersects(gone) {
                    directory = Directory::Gone;
                }
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(directory),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn all(path: &Path, lines: Option<u64>) -> String {
        let mut reader = LogReader::open(path, lines, false).unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn the_last_lines_may_begin_in_the_rotated_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(all(&path, None).await, "");
        std::fs::write(older(&path), "one\ntwo\n").unwrap();
        std::fs::write(&path, "three\nfour\nfive").unwrap();
        assert_eq!(all(&path, None).await, "one\ntwo\nthree\nfour\nfive");
        for (lines, expected) in [
            (0, ""),
            (1, "five"),
            (2, "four\nfive"),
            (3, "three\nfour\nfive"),
            (4, "two\nthree\nfour\nfive"),
            (9, "one\ntwo\nthree\nfour\nfive"),
        ] {
            assert_eq!(all(&path, Some(lines)).await, expected, "{lines}");
        }
        std::fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(all(&path, Some(1)).await, "b\n");
        assert_eq!(all(&path, Some(3)).await, "two\na\nb\n");
        let long = format!("{}\nlast\n", "x".repeat(3 * PIECE));
        std::fs::write(&path, &long).unwrap();
        assert_eq!(all(&path, Some(1)).await, "last\n");
        assert_eq!(all(&path, Some(2)).await, long);
    }

    #[tokio::test]
    async fn following_goes_on_through_rotations_and_ends_with_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("vm");
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("log");
        let mut reader = LogReader::open(&path, None, true).unwrap();
        let mut log = std::fs::File::create(&path).unwrap();
        log.write_all(b"first\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), b"first\n");
        let reading = tokio::spawn(async move {
            let piece = reader.next().await.unwrap().unwrap();
            (reader, piece)
        });
        tokio::task::yield_now().await;
        log.write_all(b"second\n").unwrap();
        let (mut reader, piece) = reading.await.unwrap();
        assert_eq!(piece, b"second\n");
        // More is written, then it is rotated, before anybody has looked.
        log.write_all(b"third\n").unwrap();
        std::fs::rename(&path, older(&path)).unwrap();
        std::fs::write(&path, "fourth\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), b"third\n");
        assert_eq!(reader.next().await.unwrap().unwrap(), b"fourth\n");
        std::fs::rename(&directory, parent.path().join("gone")).unwrap();
        assert_eq!(reader.next().await.unwrap(), None);
    }
}
