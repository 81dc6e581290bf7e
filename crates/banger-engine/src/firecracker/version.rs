//! Which versions of Firecracker are run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use banger_core::command::{Commands, HostCommand};
use banger_core::engine::EngineError;
use banger_core::work::Unwatched;

use super::PROGRAM;

/// The oldest that is run: what is older was never tried.
const OLDEST: Version = Version(1, 16, 0);
/// The first that was never tried, and is run with a warning.
const UNTRIED: Version = Version(1, 17, 0);
/// The first that is not run: a new major version may mean anything by what it is told.
const END: Version = Version(2, 0, 0);

/// A version, as `firecracker --version` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a file looked like when it was asked: length, and when it last changed.
type Look = (u64, Option<SystemTime>);

/// What the programs said that were asked.
pub(super) struct Versions {
    commands: Arc<dyn Commands>,
    known: Mutex<HashMap<PathBuf, (Look, Version)>>,
}

impl Versions {
    pub(super) fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, known: Mutex::default() }
    }

    /// Refuses a program that is not to be run, with the reason. Returns a warning about one that was never tried.
    pub(super) fn check(&self, program: &Path) -> Result<Option<String>, EngineError> {
        judge(self.of(program)?).map_err(|reason| unusable(program, reason))
    }

    /// Asks the program, unless it is the one that was asked before.
    fn of(&self, program: &Path) -> Result<Version, EngineError> {
        let look = fs_err::metadata(program).map(|file| (file.len(), file.modified().ok())).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, version)) = known.get(program)
            && Some(*before) == look
        {
            return Ok(*version);
        }
        let command = HostCommand::new(program.to_string_lossy()).argument("--version");
        let output = self.commands.run(&command, &Unwatched);
        let output = output.map_err(|error| unusable(program, log_chain(&error)))?;
        let version = parse(&String::from_utf8_lossy(&output))
            .ok_or_else(|| unusable(program, format!("it does not say that it is {PROGRAM}")))?;
        if let Some(look) = look {
            known.insert(program.to_owned(), (look, version));
        }
        Ok(version)
    }
}

fn unusable(program: &Path, reason: String) -> EngineError {
    EngineError::Unusable { program: program.to_owned(), reason, fix: super::INSTALL.to_owned() }
}

fn log_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns why a version is not run, or what is to be said about it.
fn judge(version: Version) -> Result<Option<String>, String> {
    if version < OLDEST {
        return Err(format!("{version} is older than {OLDEST}, the oldest that banger was tried with"));
    }
    if version >= END {
        return Err(format!("{version} is of a generation that this banger does not know"));
    }
    let warning = || format!("Firecracker {version} is newer than those that this banger was tried with.");
    Ok((version >= UNTRIED).then(warning))
}

/// Returns the version from `Firecracker v1.16.1` and what follows.
fn parse(output: &str) -> Option<Version> {
    let version = output.lines().next()?.strip_prefix("Firecracker v")?;
    // What comes behind: `1.17.0-dev`.
    let version = version.split(['-', '+', ' ']).next()?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_run_and_the_rest_warned_of_or_refused() {
        assert_eq!(judge(Version(1, 16, 1)), Ok(None));
        assert!(judge(Version(1, 17, 0)).is_ok_and(|warning| warning.is_some()));
        assert!(judge(Version(1, 15, 9)).unwrap_err().contains("older than 1.16.0"));
        assert!(judge(Version(2, 0, 0)).is_err());
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        let printed = "Firecracker v1.16.1\n\n2026-01-01T00:00:00 [anonymous-instance:main] exiting\n";
        assert_eq!(parse(printed), Some(Version(1, 16, 1)));
        assert_eq!(parse("Firecracker v1.17.0-dev\n"), Some(Version(1, 17, 0)));
        for other in [
            "",
            "Firecracker\n",
            "QEMU emulator version 7.2.22",
            "Firecracker v1.2\n",
            "Firecracker v1.2.3.4\n",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
