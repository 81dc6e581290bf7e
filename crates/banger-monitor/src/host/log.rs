//! Logs that do not grow for ever.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fs_err::{File, OpenOptions};
use mio::unix::pipe::Receiver;

/// Most bytes of the beginning of a boot that are kept.
const BOOT_LIMIT: u64 = 256 << 10;
/// A log smaller than this would be rotated all the time, bytes.
const LEAST_LIMIT: u64 = 4096;

/// A file that is renamed to `NAME.1` before it grows over its limit.
#[derive(Debug)]
pub(crate) struct RotatingLog {
    path: PathBuf,
    limit: u64,
    file: File,
    size: u64,
}

impl RotatingLog {
    /// Opens the log and goes on at its end.
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit: limit.max(LEAST_LIMIT), file, size })
    }

    /// Returns the file that is written now.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Appends, and rotates between two lines where that is possible. Returns whether it rotated.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        let mut rotated = false;
        while !bytes.is_empty() {
            let room = usize::try_from(self.limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let length = if bytes.len() <= room {
                bytes.len()
            } else {
                match bytes[..room].iter().rposition(|byte| *byte == b'\n') {
                    Some(newline) => newline + 1,
                    // The line has room in a fresh file, or is longer than any file may be.
                    None if self.size > 0 => 0,
                    None => room,
                }
            };
            if length == 0 {
                self.rotate()?;
                rotated = true;
                continue;
            }
            self.file.write_all(&bytes[..length])?;
            self.size += length as u64;
            bytes = &bytes[length..];
            if !bytes.is_empty() {
                self.rotate()?;
                rotated = true;
            }
        }
        Ok(rotated)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        fs_err::rename(&self.path, older)?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }
}

/// The beginning of what a boot prints.
#[derive(Debug)]
pub(crate) struct BootLog {
    file: File,
    room: u64,
}

impl BootLog {
    /// Opens the log, without what an earlier boot left there.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, room: BOOT_LIMIT })
    }

    /// Appends what there is room for. What cannot be written is lost.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        if length > 0 {
            let _lost = self.file.write_all(&bytes[..length]);
            self.room -= length as u64;
        }
    }
}

/// A pipe from children to a log.
#[derive(Debug)]
pub(crate) struct LogPipe {
    receiver: Receiver,
    log: RotatingLog,
    /// There may be something to read.
    pub(crate) readable: bool,
}

impl LogPipe {
    /// Returns the monitor's side, and the children's.
    pub(crate) fn new(log: RotatingLog) -> io::Result<(Self, OwnedFd)> {
        let (receiver, writer) = pipe()?;
        Ok((Self { receiver, log, readable: true }, writer))
    }

    /// Goes on with a new pipe, which has to be registered in its turn. Returns its children's side.
    pub(crate) fn renew(&mut self) -> io::Result<OwnedFd> {
        let (receiver, writer) = pipe()?;
        self.receiver = receiver;
        self.readable = true;
        Ok(writer)
    }

    /// Returns what has to be registered with the event loop.
    pub(crate) fn source(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Moves a bufferful. Returns the bytes if there were any. What cannot be written is lost: a full
    /// disk must not stop the guest.
    pub(crate) fn pump<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        if !self.readable {
            return None;
        }
        match self.receiver.read(buffer) {
            Ok(0) => self.readable = false,
            Ok(length) => {
                let _lost = self.log.write(&buffer[..length]);
                return Some(&buffer[..length]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(&[]),
            Err(_) => self.readable = false,
        }
        None
    }
}

fn pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let receiver = Receiver::from(reader);
    // The children's side stays as programs expect their output to be: blocking.
    receiver.set_nonblocking(true)?;
    Ok((receiver, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_lines_whole_and_loses_nothing_of_two_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serial.log");
        let mut log = RotatingLog::open(&path, 0).unwrap();
        let mut all = Vec::new();
        for number in 0..1000 {
            let line = format!("line {number} of the console\n");
            all.extend_from_slice(line.as_bytes());
            log.write(line.as_bytes()).unwrap();
        }
        let older = std::fs::read(directory.path().join("serial.log.1")).unwrap();
        let newer = std::fs::read(&path).unwrap();
        assert!(older.len() <= 4096 && newer.len() <= 4096);
        assert!(older.ends_with(b"\n"));
        assert!(all.ends_with(&[older, newer].concat()));
    }

    #[test]
    fn the_beginning_of_a_boot_is_kept_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boot.log");
        for boot in [b'1', b'2'] {
            let mut log = BootLog::begin(&path).unwrap();
            for _ in 0..100 {
                log.write(&[boot; 3000]);
            }
            assert!(std::fs::read(&path).unwrap() == vec![boot; 256 << 10]);
        }
        BootLog::begin(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn a_line_longer_than_the_file_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serial.log");
        let mut log = RotatingLog::open(&path, 0).unwrap();
        assert!(log.write(&[b'x'; 10_000]).unwrap());
        assert_eq!(std::fs::read(&path).unwrap().len(), 10_000 - 2 * 4096);
    }
}
