//! A lock on a directory, held by one process and gone with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use banger_core::process::ProcessIdentity;
use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{FlockOperation, flock};

use crate::process::{has_ended, identity_of};

/// How long the lock of a process that has ended may still be held: by a child that it was starting. A child has its
/// parent's descriptors until it runs its own program.
const HALF_STARTED_LIMIT: Duration = Duration::from_secs(10);

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process uses {}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An exclusive lock (`flock(2)`), released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`. Waits for nobody who lives: only for what is left of a holder that has ended.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process holds it; [`LockError::Io`] when the lock file cannot be used.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let io_error = |source| LockError::Io { path: path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error)?
            .into_file();
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                if !holder(&file).is_some_and(has_ended) || !wait_for(&file).map_err(io_error)? {
                    return Err(LockError::Held { path });
                }
            }
            Err(error) => return Err(io_error(error.into())),
        }
        name_holder(&file).map_err(io_error)?;
        Ok(Self { _file: file })
    }
}

/// Takes the lock when it is let go soon; returns whether it was.
fn wait_for(file: &File) -> io::Result<bool> {
    let (sender, receiver) = channel();
    // The lock is the open file's, so a duplicate takes it for both. A thread that comes too late takes it for nobody:
    // then the file is closed by its owner, and by the end of the thread.
    let duplicate = file.try_clone()?;
    std::thread::spawn(move || sender.send(flock(&duplicate, FlockOperation::LockExclusive)));
    match receiver.recv_timeout(HALF_STARTED_LIMIT) {
        Ok(taken) => taken.map(|()| true).map_err(io::Error::from),
        Err(_) => Ok(false),
    }
}

/// Returns who says to hold the lock.
fn holder(file: &File) -> Option<ProcessIdentity> {
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    let (pid, start_ticks) = str::from_utf8(&text[..length]).ok()?.trim_end().split_once(' ')?;
    Some(ProcessIdentity { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? })
}

/// Says who holds the lock.
fn name_holder(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    match identity_of(std::process::id()) {
        Some(ProcessIdentity { pid, start_ticks }) => {
            file.write_all_at(format!("{pid} {start_ticks}\n").as_bytes(), 0)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn one_that_lives_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        let begun = std::time::Instant::now();
        assert!(matches!(DirectoryLock::take(directory.path()), Err(LockError::Held { .. })));
        assert!(begun.elapsed() < HALF_STARTED_LIMIT);
        drop(lock);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn what_is_left_of_a_dead_holder_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let file = fs_err::File::create(&path).unwrap().into_file();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut dead = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let ProcessIdentity { pid, start_ticks } = identity_of(dead.id()).unwrap();
        file.write_all_at(format!("{pid} {start_ticks}\n").as_bytes(), 0).unwrap();
        drop(dead.stdin.take());
        dead.wait().unwrap();
        // Its child has its descriptors still.
        let inode = file.metadata().unwrap().ino();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        let taking = std::thread::spawn(move || DirectoryLock::take(directory.path()).map(|_| ()));
        let is_waited_for = || {
            let locks = fs_err::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
        };
        while !is_waited_for() {
            assert!(!taking.is_finished(), "{:?}", taking.join());
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        taking.join().unwrap().unwrap();
    }
}
