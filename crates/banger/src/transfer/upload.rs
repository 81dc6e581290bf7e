//! From this host to a guest. Errors name no path here: whoever tells them does.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustix::fs::OFlags;

use super::host::temporary_name;
use super::{
    DEPTH_LIMIT, FILES_AT_ONCE, Fatal, FileError, Transfer, asked, inside, join, last_name, trimmed,
};
use crate::sftp::{Attributes, CHUNK, Handle, Kind, SftpError, WINDOW};

/// The directories that lead to a file, by device and number: links may lead back to one of them.
type Ancestors<'a> = &'a [(u64, u64)];

impl Transfer<'_> {
    /// Copies files and directories of this host into `destination`, or to it if it is no directory.
    /// Fails when the connection is of no use any more; all else is in the ledger.
    pub(crate) async fn upload(&self, sources: &[PathBuf], destination: &[u8]) -> Result<(), Fatal> {
        let to = format!("to {}", self.guest_path(destination));
        let into = match self.sftp.metadata(asked(destination)).await {
            Ok(attributes) => attributes.kind() == Some(Kind::Directory),
            Err(error) if error.is_not_found() => false,
            Err(error) => return self.settle(&to, Err::<(), _>(error.into())).map(drop),
        };
        if sources.len() > 1 && !into {
            let refused = FileError::Refused("it is no directory, and several things cannot have one name");
            return self.settle(&to, Err::<(), _>(refused)).map(drop);
        }
        for source in sources {
            let copied = self.upload_source(source, destination, into).await;
            self.settle(&source.display().to_string(), copied)?;
        }
        Ok(())
    }

    async fn upload_source(&self, source: &Path, destination: &[u8], into: bool) -> Result<(), FileError> {
        let bytes = source.as_os_str().as_bytes();
        let own_name = last_name(bytes);

        let follow = self.follow_links || own_name.is_none() || bytes.ends_with(b"/");
        let metadata = if follow { fs::metadata(source) } else { fs::symlink_metadata(source) };
        let metadata = metadata?;
        let path = match inside(bytes) {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        let target = match own_name {
            None if into => return self.upload_children(path, destination, &[identity(&metadata)]).await,
            Some(name) if into => join(destination, name),
            _ if !metadata.is_dir() && destination.ends_with(b"/") => {
                return Err(FileError::Refused("there is no such directory to copy it into"));
            }
            _ => trimmed(destination).to_vec(),
        };
        self.upload_item(path, &metadata, &target, &[]).await
    }

    async fn upload_item(
        &self,
        path: &Path,
        metadata: &Metadata,
        target: &[u8],
        ancestors: Ancestors<'_>,
    ) -> Result<(), FileError> {
        let kind = metadata.file_type();
        if kind.is_file() {
            self.upload_file(path, target).await
        } else if kind.is_dir() {
            let own = identity(metadata);
            if ancestors.contains(&own) {
                return Err(FileError::Refused("it is a directory that this one is in"));
            }
            if ancestors.len() >= DEPTH_LIMIT {
                return Err(FileError::Refused("it is deeper than 256 directories"));
            }
            let made = self.make_directory(target).await?;
            self.ledger.directory();
            let ancestors = [ancestors, &[own]].concat();
            Box::pin(self.upload_children(path, target, &ancestors)).await?;
            // One that was there keeps its own.
            if made {
                self.sftp.set_path_attributes(target, attributes(metadata)).await?;
            }
            Ok(())
        } else if kind.is_symlink() {
            let leads_to = fs::read_link(path)?;
            self.upload_link(leads_to.as_os_str().as_bytes(), target).await
        } else {
            let refused =
                if kind.is_socket() { "it is a socket" } else { "it is no file, directory or link" };
            Err(FileError::Refused(refused))
        }
    }

    /// Makes a directory, and returns true, or finds that it is there.
    async fn make_directory(&self, target: &[u8]) -> Result<bool, FileError> {
        let failed = match self.sftp.make_directory(target).await {
            Ok(()) => return Ok(true),
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => error,
        };
        // This version of the protocol has no code for what is there already.
        match self.sftp.metadata(target).await {
            Ok(attributes) if attributes.kind() == Some(Kind::Directory) => Ok(false),
            Ok(_) => Err(FileError::Refused("what has this name there is no directory")),
            Err(_) => Err(failed.into()),
        }
    }

    async fn upload_children(
        &self,
        path: &Path,
        target: &[u8],
        ancestors: Ancestors<'_>,
    ) -> Result<(), FileError> {
        let mut files = Vec::new();
        let mut directories = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let child = entry.path();
            let metadata =
                if self.follow_links { fs::metadata(&child) } else { fs::symlink_metadata(&child) };
            let metadata = metadata.map_err(Into::into);
            let Some(metadata) = self.settle(&child.display().to_string(), metadata)? else { continue };
            let list = if metadata.is_dir() { &mut directories } else { &mut files };
            list.push((child, join(target, entry.file_name().as_bytes()), metadata));
        }
        let copy = async |(child, target, metadata): (PathBuf, Vec<u8>, Metadata)| {
            let copied = self.upload_item(&child, &metadata, &target, ancestors).await;
            self.settle(&child.display().to_string(), copied).map(drop)
        };
        stream::iter(files).map(Ok).try_for_each_concurrent(FILES_AT_ONCE, &copy).await?;
        for directory in directories {
            copy(directory).await?;
        }
        Ok(())
    }

    async fn upload_link(&self, leads_to: &[u8], target: &[u8]) -> Result<(), FileError> {
        let temporary = beside(target)?;
        // Before it is made: an interrupt may come between that and the answer.
        self.ledger.unfinished(&temporary);
        let named = match self.sftp.make_link(leads_to, &temporary).await {
            Ok(()) => self.sftp.rename(&temporary, target).await,
            Err(error) => Err(error),
        };
        self.settle_name(&temporary, named.map_err(Into::into)).await?;
        self.ledger.link();
        Ok(())
    }

    async fn upload_file(&self, path: &Path, target: &[u8]) -> Result<(), FileError> {
        self.ledger.begin(&path.display().to_string());
        // What was a file a moment ago may be a pipe by now, and that would wait for a writer.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileError::Refused("it is no file any more"));
        }
        let temporary = beside(target)?;
        // Before it is made: an interrupt may come between that and the answer.
        self.ledger.unfinished(&temporary);
        let named = match self.write_file(file, &temporary, attributes(&metadata)).await {
            Ok(()) => self.sftp.rename(&temporary, target).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        self.settle_name(&temporary, named).await?;
        self.ledger.file();
        Ok(())
    }

    async fn write_file(
        &self,
        file: fs::File,
        temporary: &[u8],
        attributes: Attributes,
    ) -> Result<(), FileError> {
        let handle = self.sftp.create_file(temporary).await?;
        let written = self.write_content(file, &handle, attributes).await;
        let closed = self.sftp.close(handle).await;
        written?;
        Ok(closed?)
    }

    async fn write_content(
        &self,
        mut file: fs::File,
        handle: &Handle,
        attributes: Attributes,
    ) -> Result<(), FileError> {
        let mut writes = FuturesUnordered::new();
        let mut offset = 0;
        loop {
            let mut piece = vec![0; CHUNK];
            let count = match file.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                break;
            }
            piece.truncate(count);
            writes.push(self.write_piece(handle, offset, piece));
            offset += count as u64;
            if writes.len() >= WINDOW {
                writes.try_next().await?;
            }
        }
        while writes.try_next().await?.is_some() {}
        Ok(self.sftp.set_attributes(handle, attributes).await?)
    }

    async fn write_piece(&self, handle: &Handle, offset: u64, piece: Vec<u8>) -> Result<(), SftpError> {
        let count = piece.len();
        self.sftp.write(handle, offset, piece).await?;
        self.ledger.bytes(count);
        Ok(())
    }

    /// Removes what has a temporary name if it did not get its own.
    async fn settle_name(&self, temporary: &[u8], named: Result<(), FileError>) -> Result<(), FileError> {
        if let Err(error) = &named
            && !matches!(error, FileError::Guest(error) if error.is_fatal())
        {
            // What went wrong before is what the user is told.
            drop(self.sftp.remove(temporary).await);
        }
        self.ledger.finished(temporary);
        named
    }
}

/// Returns a temporary path in the directory of this one.
fn beside(target: &[u8]) -> Result<Vec<u8>, FileError> {
    let directory = target.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |at| &target[..=at]);
    Ok(join(directory, &temporary_name()?))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Returns what a guest is told of a file. This version of the protocol has 32 bits of seconds.
fn attributes(metadata: &Metadata) -> Attributes {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: None,
        mode: Some(metadata.mode()),
        times: Some((seconds(metadata.atime()), seconds(metadata.mtime()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_in_the_same_directory() {
        for (target, prefix) in
            [(&b"a"[..], &b".banger-"[..]), (b"/a", b"/.banger-"), (b"d/e/a", b"d/e/.banger-")]
        {
            assert!(beside(target).unwrap().starts_with(prefix));
        }
    }
}
