//! From a guest to this host. Everything that the guest says is looked at before it is used.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::host::Directory;
use super::{
    DEPTH_LIMIT, FILES_AT_ONCE, Fatal, FileError, Transfer, asked, inside, is_component, join, last_name,
};
use crate::sftp::{Attributes, Entry, Handle, Kind};

impl Transfer<'_> {
    /// Copies files and directories of the guest into `destination`, or to it if it is no directory.
    /// Fails when the connection is of no use any more; all else is in the ledger.
    pub(crate) async fn download(&self, sources: &[Vec<u8>], destination: &Path) -> Result<(), Fatal> {
        let into = destination.is_dir();
        if sources.len() > 1 && !into {
            let refused = FileError::Refused("it is no directory, and several things cannot have one name");
            self.settle(&format!("to {}", destination.display()), Err::<(), _>(refused))?;
            return Ok(());
        }
        for source in sources {
            let copied = self.download_source(source, destination, into).await;
            self.settle(&self.guest_path(source), copied)?;
        }
        Ok(())
    }

    async fn download_source(&self, source: &[u8], destination: &Path, into: bool) -> Result<(), FileError> {
        let own_name = last_name(source);
        let follow = self.follow_links || own_name.is_none() || source.ends_with(b"/");
        let attributes = if follow {
            self.sftp.metadata(asked(source)).await?
        } else {
            self.sftp.link_metadata(source).await?
        };
        let (parent, name) = if into {
            let Some(name) = own_name else {
                return self.download_children(inside(source), &Directory::open(destination)?, 0).await;
            };
            (destination, name)
        } else {
            let is_file = attributes.kind() != Some(Kind::Directory);
            if is_file && destination.as_os_str().as_bytes().ends_with(b"/") {
                return Err(FileError::Refused("there is no such directory to copy it into"));
            }
            let name = destination.file_name().ok_or(FileError::Refused("there is no such directory"))?;
            (destination.parent().unwrap_or(Path::new("")), name.as_bytes())
        };
        self.download_item(inside(source), attributes, &Directory::open(parent)?, name, 0).await
    }

    async fn download_item(
        &self,
        path: &[u8],
        attributes: Attributes,
        into: &Directory,
        name: &[u8],
        depth: usize,
    ) -> Result<(), FileError> {
        match attributes.kind() {
            Some(Kind::File) => self.download_file(path, attributes, into, name).await,
            Some(Kind::Directory) if depth >= DEPTH_LIMIT => {
                Err(FileError::Refused("it is deeper than 256 directories"))
            }
            Some(Kind::Directory) => {
                let (directory, made) = into.directory(name)?;
                self.ledger.directory();
                Box::pin(self.download_children(path, &directory, depth + 1)).await?;
                // One that was there keeps its own.
                if made {
                    directory.set_attributes(&attributes)?;
                }
                Ok(())
            }
            Some(Kind::Link) => {
                into.link(name, &self.sftp.read_link(path).await?)?;
                self.ledger.link();
                Ok(())
            }
            Some(Kind::Special) => Err(FileError::Refused("it is no file, directory or link")),
            None => Err(FileError::Refused("the guest does not say what it is")),
        }
    }

    async fn download_children(&self, path: &[u8], into: &Directory, depth: usize) -> Result<(), FileError> {
        let handle = self.sftp.open_directory(asked(path)).await?;
        let copied = self.download_listed(&handle, path, into, depth).await;
        let closed = self.sftp.close(handle).await;
        copied?;
        Ok(closed?)
    }

    /// Copies what is in an open directory, batch by batch: the list of a hostile guest may have no end.
    async fn download_listed(
        &self,
        handle: &Handle,
        path: &[u8],
        into: &Directory,
        depth: usize,
    ) -> Result<(), FileError> {
        while let Some(entries) = self.sftp.read_directory(handle).await? {
            let mut files = Vec::new();
            let mut directories = Vec::new();
            for Entry { name, mut attributes } in entries {
                if matches!(name.as_slice(), b"." | b"..") {
                    continue;
                }
                let child = join(path, &name);
                if !is_component(&name) {
                    let refused = FileError::Refused("the guest names something that no directory can have");
                    self.settle(&self.guest_path(&child), Err::<(), _>(refused))?;
                    continue;
                }
                let kind = attributes.kind();
                if kind.is_none() || (self.follow_links && kind == Some(Kind::Link)) {
                    let looked = self.look_again(&child).await;
                    let Some(looked) = self.settle(&self.guest_path(&child), looked)? else { continue };
                    attributes = looked;
                }
                let is_directory = attributes.kind() == Some(Kind::Directory);
                let list = if is_directory { &mut directories } else { &mut files };
                list.push((child, name, attributes));
            }
            let copy = async |(child, name, attributes): (Vec<u8>, Vec<u8>, Attributes)| {
                let copied = self.download_item(&child, attributes, into, &name, depth).await;
                self.settle(&self.guest_path(&child), copied).map(drop)
            };
            stream::iter(files).map(Ok).try_for_each_concurrent(FILES_AT_ONCE, &copy).await?;
            for directory in directories {
                copy(directory).await?;
            }
        }
        Ok(())
    }

    async fn look_again(&self, path: &[u8]) -> Result<Attributes, FileError> {
        Ok(if self.follow_links {
            self.sftp.metadata(path).await?
        } else {
            self.sftp.link_metadata(path).await?
        })
    }

    async fn download_file(
        &self,
        path: &[u8],
        attributes: Attributes,
        into: &Directory,
        name: &[u8],
    ) -> Result<(), FileError> {
        self.ledger.begin(&self.guest_path(path));
        let mut file = into.file()?;
        let handle = self.sftp.open_file(path).await?;
        let take = |piece: &[u8]| -> Result<(), FileError> {
            file.write(piece)?;
            self.ledger.bytes(piece.len());
            Ok(())
        };
        let read = self.sftp.read_file(&handle, attributes.size.unwrap_or(0), take).await;
        let closed = self.sftp.close(handle).await;
        read?;
        closed?;
        file.finish(name, &attributes)?;
        self.ledger.file();
        Ok(())
    }
}
