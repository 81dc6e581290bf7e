//! Files of the user's own that are used where they are: never written, and looked at each time they are shown.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use banger_image::open_regular;
use banger_types::image::{Image, RegisteredFile};
use banger_types::kernel::Kernel;
use banger_types::{ApiError, ErrorKind};

/// Looks at a file that somebody wants to register.
pub(super) fn file_of(what: &str, path: PathBuf) -> Result<RegisteredFile, ApiError> {
    let error = |kind, why: String| ApiError::new(kind, format!("cannot {what}")).because(why);
    let shown = path.display().to_string();
    if !path.is_absolute() {
        return Err(error(ErrorKind::Usage, format!("'{shown}' is relative, and nobody knows to what")));
    }
    if path.to_str().is_none() {
        return Err(error(
            ErrorKind::Usage,
            format!("the path '{shown}' is not UTF-8, which VMMs cannot be told"),
        ));
    }
    // Opened, too: the daemon's user must be able to read it.
    let file = fs_err::metadata(&path)
        .and_then(|metadata| if metadata.is_file() { open_regular(&path)?.metadata() } else { Ok(metadata) });
    let metadata = file.map_err(|source| {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::NotPermitted,
            _ => ErrorKind::Failed,
        };
        ApiError::caused_by(kind, format!("cannot {what}"), &source)
    })?;
    if !metadata.is_file() {
        return Err(error(ErrorKind::Usage, format!("'{shown}' is no regular file")));
    }
    if metadata.len() == 0 {
        return Err(error(ErrorKind::Usage, format!("'{shown}' is empty")));
    }
    Ok(registered(path, &metadata))
}

fn registered(path: PathBuf, metadata: &std::fs::Metadata) -> RegisteredFile {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or_default();
    let modified = jiff::Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or_default();
    RegisteredFile { path, size: metadata.len(), modified }
}

/// Returns the blocks that a file takes, bytes.
pub(super) fn usage(path: &Path) -> u64 {
    fs_err::metadata(path).map(|metadata| metadata.blocks() * 512).unwrap_or_default()
}

/// What is wrong with a file that was registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileProblem {
    #[error("'{}' is not there", .0.display())]
    Gone(PathBuf),
    #[error("'{}' has changed since it was registered", .0.display())]
    Changed(PathBuf),
    #[error("'{}' is no regular file any more", .0.display())]
    OfAnotherKind(PathBuf),
    #[error("'{}' cannot be looked at: {}", .0.display(), .1)]
    Unreadable(PathBuf, io::Error),
}

/// Looks at a file that was registered.
pub(crate) fn problem(file: &RegisteredFile) -> Option<FileProblem> {
    let path = file.path.clone();
    match fs_err::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => Some(FileProblem::OfAnotherKind(path)),
        Ok(metadata) if registered(path.clone(), &metadata) != *file => Some(FileProblem::Changed(path)),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(FileProblem::Gone(path)),
        Err(error) => Some(FileProblem::Unreadable(path, error)),
    }
}

/// Returns an image with what is wrong with it now.
pub(super) fn look_at_image(image: Image) -> Image {
    let problem = image.registered.as_ref().and_then(|registered| problem(&registered.file));
    let problem = problem.map(|problem| problem.to_string());
    Image { problem, ..image }
}

/// Returns a kernel with what is wrong with it now.
pub(super) fn look_at_kernel(kernel: Kernel) -> Kernel {
    let problem = kernel.registered.as_ref().and_then(|registered| problem(&registered.kernel));
    let problem = problem.map(|problem| problem.to_string());
    Kernel { problem, ..kernel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_or_another_one_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.ext4");
        fs_err::write(&path, "one").unwrap();
        let file = file_of("register it", path.clone()).unwrap();
        let problem = |file| problem(file).map(|problem| problem.to_string());
        assert_eq!(problem(&file), None);
        fs_err::write(&path, "other").unwrap();
        assert!(problem(&file).unwrap().ends_with("has changed since it was registered"));
        fs_err::remove_file(&path).unwrap();
        assert!(problem(&file).unwrap().ends_with("is not there"));
    }
}
