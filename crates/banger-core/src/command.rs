//! The port through which adapters run the host's programs.
//!
//! Only `banger-host` starts processes for the daemon. Everything else describes the command and hands it over,
//! which keeps shell strings out and puts argv, status and standard error into every failure.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::work::Work;

/// A program of the host and what to start it with. Never a shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostCommand {
    /// Name, looked up in `PATH` and the system's directories, or absolute path.
    pub program: String,
    /// Arguments, without the program's own name.
    pub arguments: Vec<String>,
    /// Variables on top of the daemon's own.
    pub environment: Vec<(String, String)>,
    /// Working directory; `None` is `/`.
    pub directory: Option<PathBuf>,
    /// What it reads from standard input: at most [`HostCommand::LONGEST_INPUT`] bytes, which a pipe takes at once.
    pub input: Vec<u8>,
}

impl HostCommand {
    /// Most bytes of what a program may be given to read (pipe(7), `PIPE_BUF`).
    pub const LONGEST_INPUT: usize = 4096;

    /// Returns a command without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Sets what it reads from standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }
}

impl std::fmt::Display for HostCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("the program '{program}' is not installed")]
    NotInstalled {
        /// Its name.
        program: String,
    },
    /// It could not be started, or its output could not be read.
    #[error("cannot run '{command}'")]
    Io {
        /// The whole command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("'{command}' ended with {status}{}", if stderr.is_empty() { String::new() } else { format!(": {stderr}") })]
    Failed {
        /// The whole command.
        command: String,
        /// Exit code or signal, in words: `exit code 1`, `signal 9`.
        status: String,
        /// The end of its standard error, at most 4 KiB, trimmed.
        stderr: String,
    },
    /// What was to read its output failed.
    #[error("cannot use the output of '{command}'{}", if stderr.is_empty() { String::new() } else { format!(", which then said: {stderr}") })]
    Consumer {
        /// The whole command.
        command: String,
        /// When the command failed as well, the end of its standard error, at most 4 KiB, trimmed.
        stderr: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody cancelled; the program was killed.
    #[error(transparent)]
    Cancelled(#[from] crate::work::Cancelled),
}

/// What reads a command's standard output while it runs.
pub type Consumer<'a> =
    &'a mut dyn FnMut(&mut dyn Read) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Runs programs. They get no standard input but what the command has, and on a cancel they are asked to end, and soon killed,
/// together with everything that they started.
pub trait Commands: Send + Sync {
    /// Runs `command` to its end and returns its standard output.
    /// Lines of standard error go to the work's log.
    fn run(&self, command: &HostCommand, work: &dyn Work) -> Result<Vec<u8>, CommandError>;

    /// Runs `command` and lets `consume` read its standard output as it comes. When both fail, the first
    /// cause wins: a consumer that failed before the output's end made the command fail, while one that
    /// saw the end failed because of the command.
    fn stream(
        &self,
        command: &HostCommand,
        work: &dyn Work,
        consume: Consumer<'_>,
    ) -> Result<(), CommandError>;

    /// Returns the path of a program, or `None` when it is not installed.
    fn find(&self, program: &str) -> Option<PathBuf>;
}
