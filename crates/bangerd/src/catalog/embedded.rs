//! Directories of banger's own sources that are part of the program, so that nobody needs a checkout.

use std::io;
use std::path::Path;

/// Each directory's path in the sources, and its files.
const DIRECTORIES: [(&str, &[(&str, &str)]); 1] =
    [("images/golden", &[("Dockerfile", include_str!("../../../../images/golden/Dockerfile"))])];

/// Writes what is part of the program under `path` into the directory `destination`. Returns whether anything is.
pub(crate) fn unpack(path: &Path, destination: &Path) -> io::Result<bool> {
    let Some((_, files)) = DIRECTORIES.iter().find(|(directory, _)| Path::new(directory) == path) else {
        return Ok(false);
    };
    for (name, content) in *files {
        fs_err::write(destination.join(name), content)?;
    }
    Ok(true)
}
