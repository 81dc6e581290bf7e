//! The bytes of an archive: as they are stored, and unpacked.

use std::io::{self, Read};

use banger_core::work::Work;
use banger_types::digest::Digest;
use banger_types::operation::Unit;
use sha2::{Digest as _, Sha256};

use super::{ArchiveError, Reading};

/// Counts what is read and hashes it if that is wanted, reports it, and fails once somebody has cancelled.
pub(super) struct Stored<'a, R> {
    reader: R,
    hash: Option<Sha256>,
    length: u64,
    total: Option<u64>,
    work: &'a dyn Work,
}

impl<'a, R> Stored<'a, R> {
    pub(super) fn new(reader: R, reading: &Reading, work: &'a dyn Work) -> Self {
        let hash = reading.hash_stored.then(Sha256::new);
        Self { reader, hash, length: 0, total: reading.total, work }
    }

    /// Returns the digest of all that was read, if it was hashed, and how many bytes that is.
    pub(super) fn finish(self) -> (Option<Digest>, u64) {
        (self.hash.map(|hash| Digest::from_bytes(hash.finalize().into())), self.length)
    }
}

impl<R: Read> Read for Stored<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.work.check().map_err(io::Error::other)?;
        let got = self.reader.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..got]);
        }
        self.length += got as u64;
        self.work.progress(self.length, self.total, Unit::Bytes);
        Ok(got)
    }
}

/// Counts what has been unpacked, and fails where that is too much.
pub(super) struct Unpacked<R> {
    reader: R,
    hash: Option<Sha256>,
    length: u64,
    limit: u64,
}

impl<R> Unpacked<R> {
    /// Returns a reader of at most `limit` bytes, which are hashed if their digest is not known otherwise.
    pub(super) fn new(reader: R, limit: u64, hash: bool) -> Self {
        Self { reader, hash: hash.then(Sha256::new), length: 0, limit }
    }

    /// Returns the digest of all that was read, if it was to be hashed, and how many bytes that is. Fails if these are
    /// too many, whatever became of them.
    pub(super) fn finish(self) -> Result<(Option<Digest>, u64), ArchiveError> {
        if self.length > self.limit {
            return Err(ArchiveError::TooLarge { limit: self.limit });
        }
        Ok((self.hash.map(|hash| Digest::from_bytes(hash.finalize().into())), self.length))
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..got]);
        }
        self.length += got as u64;
        if self.length > self.limit {
            return Err(io::Error::other("it unpacks to too much"));
        }
        Ok(got)
    }
}
