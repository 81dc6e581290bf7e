//! `banger ssh-config`.

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_types::ErrorKind;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use serde::Serialize;

use super::{DONE, Outcome};
use crate::arguments::SshConfigArguments;
use crate::context::Context;
use crate::error::CommandError;

/// What `banger ssh-config --install --json` prints.
#[derive(Debug, Serialize)]
struct Installed<'a> {
    /// The file that is included.
    file: &'a Path,
    /// The file that includes it.
    included_by: &'a Path,
    /// Whether it did not do so before.
    changed: bool,
}

/// Prints how OpenSSH's programs reach the VMs, or tells OpenSSH's own configuration of it.
pub(super) async fn ssh_config(context: &Context, arguments: &SshConfigArguments) -> Outcome {
    let configuration = context.daemon().await?.ssh_configuration().await?;
    if !arguments.install {
        if context.printer.is_json() {
            context.printer.document(&configuration)?;
        } else {
            context.printer.text(&configuration.text)?;
        }
        return Ok(DONE);
    }
    let home = home()?;
    let user_file = home.join(".ssh/config");
    let changed = install(&home, &configuration.file).map_err(|source| {
        CommandError::io(format!("cannot make {} include banger's", user_file.display()), &source)
    })?;
    if context.printer.is_json() {
        let installed = Installed { file: &configuration.file, included_by: &user_file, changed };
        context.printer.document(&installed)?;
    } else {
        let what = if changed { "includes" } else { "included already" };
        context.printer.note(&format!(
            "{} {what} {}; for a VM named web: ssh web.banger",
            user_file.display(),
            configuration.file.display()
        ));
    }
    Ok(DONE)
}

fn home() -> Result<PathBuf, CommandError> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()).ok_or_else(|| {
        CommandError::failed(
            ErrorKind::Failed,
            "cannot tell where your ~/.ssh/config is: HOME is not set",
            "set HOME to your home directory",
        )
    })
}

/// Makes the SSH configuration of the user whose home this is include `file`, before all else: in an
/// `Include` further down, the conditions of a `Host` above it would hold (`ssh_config(5)`). Returns
/// whether it did not do so before.
fn install(home: &Path, file: &Path) -> io::Result<bool> {
    let line = include_line(file)?;
    let directory = home.join(".ssh");
    // One that exists keeps its mode, and may be a link.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let path = target(&directory.join("config"))?;
    let (before, mode) = match fs::read(&path) {
        Ok(before) => (before, fs::metadata(&path)?.permissions().mode() & 0o777),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), 0o600),
        Err(error) => return Err(error),
    };
    if is_included(&before, line.as_bytes()) {
        return Ok(false);
    }
    let after = [line.as_bytes(), b"\n", &before].concat();
    replace(&path, &after, mode)?;
    Ok(true)
}

/// Returns the line for a path. Quotes are for spaces; a path with a quote of its own has no spelling
/// that every version of OpenSSH understands.
fn include_line(file: &Path) -> io::Result<String> {
    let path = file.to_str().filter(|path| !path.contains(['"', '\n', '*', '?', '[']));
    let path = path.ok_or_else(|| {
        io::Error::other(format!("OpenSSH cannot include a file with this name: {}", file.display()))
    })?;
    let quote = if path.contains(char::is_whitespace) { "\"" } else { "" };
    Ok(format!("Include {quote}{path}{quote}"))
}

/// Returns whether the line stands before every condition.
fn is_included(configuration: &[u8], line: &[u8]) -> bool {
    let conditional = |line: &[u8]| {
        let word = line.split(|byte| byte.is_ascii_whitespace() || *byte == b'=').next().unwrap_or_default();
        word.eq_ignore_ascii_case(b"host") || word.eq_ignore_ascii_case(b"match")
    };
    let mut lines = configuration.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.by_ref().take_while(|line| !conditional(line)).any(|it| it == line)
}

/// Returns what a path leads to if it is a link, even if that is not there yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows: `path_resolution(7)`.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("/")).join(next),
            // Not a link, or nothing at all.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

/// Replaces a file by one with this content, at once: whoever reads it sees the one or the other.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".banger-{}", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What failed is told; a leftover of it is not worth a second error.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unconditional_line_counts() {
        let line = b"Include /x";
        assert!(is_included(b"# mine\n  Include /x\r\nHost a\n", line));
        assert!(!is_included(b"Host a\n  Include /x\n", line));
        assert!(!is_included(b"match all\nInclude /x\n", line));
        assert!(!is_included(b"Include /x2\n", line));
        assert!(!is_included(b"", line));
    }

    #[test]
    fn a_path_with_a_space_is_quoted_and_one_that_cannot_be_is_refused() {
        assert_eq!(include_line(Path::new("/a b")).unwrap(), "Include \"/a b\"");
        assert_eq!(include_line(Path::new("/ab")).unwrap(), "Include /ab");
        assert!(include_line(Path::new("/a\"b")).is_err());
        assert!(include_line(Path::new("/a*b")).is_err());
    }
}
