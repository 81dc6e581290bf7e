//! Opening what is read from front to end: a file, or a pipe that somebody writes into.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use banger_core::work::{CancelGuard, Work};
use fs_err as fs;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens what is at `path`. Returns its length in bytes, too, if it has one.
pub(super) fn open(path: &Path, work: &dyn Work) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    // A pipe would wait for its writer here, and hear of no cancel.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map(|file| fs::File::from_parts(file, path)).map_err(|error| named(path, &error))?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_fifo() {
        return Ok((Box::new(Pipe::new(file.into_parts().0.into(), work)?), None));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// Returns an error of opening as `fs_err` has it.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to open file `{}`: {error}", path.display()))
}

/// A pipe, of which a read gives way to a cancel.
struct Pipe {
    end: OwnedFd,
    cancelled: Arc<OwnedFd>,
    _guard: CancelGuard,
}

impl Pipe {
    fn new(end: OwnedFd, work: &dyn Work) -> io::Result<Self> {
        let cancelled = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let told = Arc::clone(&cancelled);
        let guard = work.on_cancel(Box::new(move || {
            // It can only fail when it was told before.
            rustix::io::write(&*told, &1_u64.to_ne_bytes()).ok();
        }));
        Ok(Self { end, cancelled, _guard: guard })
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Looked at first: a pipe that nobody has opened for writing yet reads as one that has ended.
            let mut ready =
                [PollFd::new(&self.end, PollFlags::IN), PollFd::new(&*self.cancelled, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !ready[1].revents().is_empty() {
                return Err(io::Error::other("cancelled"));
            }
            match rustix::io::read(&self.end, &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(0) if ready[0].revents().is_empty() => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use banger_core::work::{Cancelled, Unwatched};
    use banger_types::operation::Unit;

    use super::*;

    fn pipe() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        (directory, path)
    }

    #[test]
    fn a_pipe_is_read_to_its_end_whoever_comes_first() {
        let (_directory, path) = pipe();
        let (mut reader, length) = open(&path, &Unwatched).unwrap();
        assert_eq!(length, None);
        let writer = std::thread::spawn(move || {
            let mut writer = std::fs::File::options().write(true).open(path).unwrap();
            (0..1000).for_each(|_| writer.write_all(&[7; 1000]).unwrap());
        });
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        writer.join().unwrap();
        assert!(all == vec![7; 1_000_000]);
    }

    #[test]
    fn a_pipe_that_nobody_writes_into_gives_way_to_a_cancel() {
        /// Work that is cancelled as soon as somebody can hear of it.
        struct CancelledSoon;
        impl Work for CancelledSoon {
            fn stage(&self, _: &str) {}
            fn progress(&self, _: u64, _: Option<u64>, _: Unit) {}
            fn log(&self, _: &str) {}
            fn check(&self) -> Result<(), Cancelled> {
                Ok(())
            }
            fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
                notify();
                CancelGuard::new(|| {})
            }
        }
        let (_directory, path) = pipe();
        let (mut reader, _) = open(&path, &CancelledSoon).unwrap();
        assert!(reader.read(&mut [0]).is_err());
    }
}
