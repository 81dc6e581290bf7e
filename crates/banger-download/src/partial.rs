//! A file that is not all there yet.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use banger_types::digest::Digest;
use sha2::{Digest as _, Sha256};

use crate::{DownloadError, Source};

/// How its name ends until it is complete.
const SUFFIX: &str = "partial";
/// Read at a time when what is there is hashed, bytes.
const BUFFER: usize = 1 << 20;

/// Returns where what has come of a download to `destination` stands until it is whole. Its name has the digest in it, so
/// that it is taken for no other file's.
pub fn place(destination: &Path, digest: &Digest) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(format!(".{}.{SUFFIX}", &digest.digits()[..16]));
    name.into()
}

/// Whether all of `source` stands at `destination` already: whoever downloaded it may not have come to use it.
pub(crate) fn is_whole(source: &Source, destination: &Path) -> bool {
    let digest = || {
        let mut whole = Partial {
            path: destination.to_owned(),
            file: std::fs::File::open(destination)?,
            length: 0,
            hash: Sha256::new(),
        };
        whole.read_what_is_there()?;
        Ok::<_, io::Error>(whole.digest())
    };
    // One that cannot be read is replaced.
    digest().is_ok_and(|digest| digest == source.digest)
}

/// What has come of a download, and its digest so far.
pub(crate) struct Partial {
    path: PathBuf,
    file: std::fs::File,
    length: u64,
    hash: Sha256,
}

impl Partial {
    /// Opens what has come of `source` before, or nothing.
    pub(crate) fn open(source: &Source, destination: &Path) -> Result<Self, DownloadError> {
        let path = place(destination, &source.digest);
        let open = || {
            let file =
                std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let mut partial = Self { path: path.clone(), file, length: 0, hash: Sha256::new() };
            partial.read_what_is_there()?;
            Ok(partial)
        };
        open().map_err(|source| DownloadError::File { path: path.clone(), source })
    }

    fn read_what_is_there(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                read => {
                    self.hash.update(&buffer[..read]);
                    self.length += read as u64;
                }
            }
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }

    /// Returns how much is there, bytes.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Adds what has come.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        if let Err(source) = self.file.write_all(bytes) {
            // Perhaps half of it was written; the next time begins at a place that is known.
            self.file.set_len(self.length).ok();
            return Err(self.error(source));
        }
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins from nothing.
    pub(crate) fn clear(&mut self) -> Result<(), DownloadError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.map_err(|source| self.error(source))?;
        self.length = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Gives the file its name, if it is what it should be; else it goes.
    pub(crate) fn complete(self, source: &Source, destination: &Path) -> Result<(), DownloadError> {
        let found = self.digest();
        if found != source.digest {
            self.discard();
            return Err(DownloadError::Digest { url: source.url.clone(), expected: source.digest, found });
        }
        let named = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, destination));
        named.map_err(|source| self.error(source))
    }

    /// Leaves nothing of it.
    pub(crate) fn discard(self) {
        std::fs::remove_file(&self.path).ok();
    }

    fn error(&self, source: io::Error) -> DownloadError {
        DownloadError::File { path: self.path.clone(), source }
    }
}
