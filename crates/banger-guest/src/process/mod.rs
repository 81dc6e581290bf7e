//! Programs of the image: what starts, as whom, and where.
//!
//! Used by sessions ([`crate::ssh`]), by the session's own process inside a login ([`crate::login`]) and by the image's
//! service ([`crate::service`]).

mod identity;
pub(crate) mod signal;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_types::image::ImageConfig;

pub(crate) use self::identity::{
    Identity, begin_session, heed_all_signals, raise_file_limit, restore_limits,
};
use crate::user::{Environment, Login};

/// What a shell says of a command that does not exist (POSIX, Shell Command Language, 2.8.2).
pub(crate) const NOT_FOUND: u32 = 127;
/// What a shell says of a command that cannot be executed (same place).
pub(crate) const NOT_EXECUTABLE: u32 = 126;

/// A program and everything that it starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Path, or name to be looked up in the environment's `PATH`.
    pub(crate) path: OsString,
    /// Its own name as it sees it (`argv[0]`), when that is not `path`.
    pub(crate) name: Option<OsString>,
    /// Arguments without its own name.
    pub(crate) arguments: Vec<OsString>,
    /// Its environment, all of it.
    pub(crate) environment: Environment,
    /// Where it starts.
    pub(crate) directory: Directory,
}

/// Where a program starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Directory {
    /// There, or not at all.
    Exactly(PathBuf),
    /// In the first of these that can be entered, else in `/`.
    FirstOf(Vec<PathBuf>),
}

impl Program {
    /// Returns the program that `words` are: its path and its arguments.
    pub(crate) fn new(
        words: Vec<OsString>,
        environment: Environment,
        directory: Directory,
    ) -> Result<Self, Failure> {
        let mut words = words.into_iter();
        let path = words.next().filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| Failure::not_found("there is no command, and the image names none"))?;
        Ok(Self { path, name: None, arguments: words.collect(), environment, directory })
    }

    /// Returns the user's login shell.
    pub(crate) fn login_shell(login: &Login, environment: Environment) -> Self {
        // A leading hyphen makes it a login shell.
        let mut name = OsString::from("-");
        name.push(base_name(&login.shell));
        Self {
            path: login.shell.clone().into(),
            name: Some(name),
            arguments: Vec::new(),
            environment,
            directory: Directory::FirstOf(vec![login.home.clone()]),
        }
    }

    /// Returns how to start it; the streams are not connected yet.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(self.environment.iter());
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command
    }
}

impl Directory {
    /// Returns where a program of the image starts: where the image says, if that is there; else at home.
    pub(crate) fn of_image(image: &ImageConfig, login: &Login) -> Self {
        let image = Some(&image.working_directory).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self::FirstOf(image.into_iter().chain([login.home.clone()]).collect())
    }
}

/// Returns a shell's name without its directory.
pub(crate) fn base_name(shell: &Path) -> &OsStr {
    shell.file_name().unwrap_or(shell.as_os_str())
}

/// Returns the image's entrypoint and command as one list of words (OCI image-spec, config.md, `Entrypoint`).
pub(crate) fn image_command(image: &ImageConfig) -> Vec<OsString> {
    image.entrypoint.iter().chain(&image.command).map(OsString::from).collect()
}

/// Why there is no program running. A session then ends as if there had been one that said so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status to report.
    pub(crate) status: u32,
    /// What to say on standard error, with its newline.
    pub(crate) message: String,
}

impl Failure {
    /// Returns the failure to even try.
    pub(crate) fn new(what: &str) -> Self {
        Self { status: NOT_EXECUTABLE, message: format!("banger-guest: {what}\n") }
    }

    /// Returns the failure to find what to run.
    pub(crate) fn not_found(what: &str) -> Self {
        Self { status: NOT_FOUND, message: format!("banger-guest: {what}\n") }
    }

    /// Returns the failure to execute `path`.
    pub(crate) fn of_start(path: &OsStr, error: &io::Error) -> Self {
        let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        let reason = match error.raw_os_error() {
            Some(libc::ENOENT) => "not found".to_owned(),
            Some(libc::ENOEXEC) => "not a program".to_owned(),
            _ => error.to_string(),
        };
        Self { status, message: format!("banger-guest: {}: {reason}\n", path.to_string_lossy()) }
    }
}
