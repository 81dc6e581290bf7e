//! Standard input as a source for the daemon: a pipe in a directory that nobody else may enter.

use std::io;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use crate::arguments::PullArguments;
use crate::error::CommandError;

/// A pipe into which standard input is written for as long as the daemon reads it.
pub(super) struct Input {
    path: PathBuf,
    _directory: TempDir,
}

impl Input {
    /// Makes a pipe. Whatever is written waits for the daemon to read it: nothing is stored on the way.
    pub(super) fn of(arguments: &PullArguments) -> Result<Self, CommandError> {
        if arguments.name.is_none() {
            return Err(CommandError::usage(
                "what comes from standard input has no name",
                "give it one with --name",
            ));
        }
        if arguments.wait.no_wait {
            let what = "standard input is read for as long as it takes";
            return Err(CommandError::usage(what, "leave --no-wait away, or name a file"));
        }
        let made = || -> io::Result<Self> {
            let directory = tempfile::Builder::new().prefix("banger-").tempdir()?;
            let path = directory.path().join("input");
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
            Ok(Self { path, _directory: directory })
        };
        let input =
            made().map_err(|error| CommandError::io("cannot make a pipe for standard input", &error))?;
        let path = input.path.clone();
        // It ends with the command: when the daemon wants no more, or with this process.
        std::thread::spawn(move || {
            let mut pipe = std::fs::File::options().write(true).open(path)?;
            io::copy(&mut io::stdin().lock(), &mut pipe)
        });
        Ok(input)
    }

    /// Returns the source that the daemon is told.
    pub(super) fn source(&self) -> String {
        format!("tar:{}", self.path.display())
    }
}
