//! Taking directories away, so that what is half taken away is never taken for whole.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use banger_image::publish::PARTIAL_PREFIX;
use banger_types::ApiError;

use super::context::blocking;
use crate::failure::failed;

/// Takes a directory away, if it is there.
pub(crate) async fn remove_files(directory: &Path) -> Result<(), ApiError> {
    let directory = directory.to_owned();
    let what = format!("cannot delete {}", directory.display());
    blocking("delete files", move || remove_now(&directory)).await?.map_err(|error| failed(what, &error))
}

/// Renames first: whoever finds the new name knows that the rest may go.
fn remove_now(directory: &Path) -> io::Result<()> {
    let discarded = discarded(directory);
    match fs_err::rename(directory, &discarded) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match fs_err::remove_dir_all(&discarded) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The name of what is half taken away is that of what is half made: neither belongs to anybody.
fn discarded(directory: &Path) -> PathBuf {
    let mut name = OsString::from(PARTIAL_PREFIX);
    name.push(directory.file_name().unwrap_or_default());
    directory.with_file_name(name)
}
