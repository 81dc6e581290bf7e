//! The one error type of the command line, and its exit codes.

use std::error::Error;
use std::io;

use banger_api::ClientError;
use banger_types::{ApiError, ErrorKind};

use crate::printer::Printer;

/// Exit code of `run`, `exec` and `ssh` when it was banger that failed, not the guest's program.
const SESSION_FAILED: u8 = 125;

/// Exit code after standard output was closed: what a shell shows for a death by SIGPIPE.
const BROKEN_PIPE: u8 = 128 + 13;

/// Why a command ends without having done what it should.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// Something failed; to be printed.
    Failed(ApiError),
    /// Nobody reads standard output any more: end quietly.
    BrokenPipe,
    /// Everything is printed already; only the exit code is left.
    Reported(u8),
}

impl CommandError {
    /// Returns a failure that says `what`, because of `source`.
    pub(crate) fn io(what: impl Into<String>, source: &dyn Error) -> Self {
        Self::Failed(ApiError::caused_by(ErrorKind::Failed, what, source))
    }

    /// Returns a failure of usage, with the advice that mends it.
    pub(crate) fn usage(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed(ApiError::new(ErrorKind::Usage, what).fix(advice))
    }

    /// Returns a failure that says `what` and what to do.
    pub(crate) fn failed(kind: ErrorKind, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Failed(ApiError::new(kind, what).fix(advice))
    }

    /// Returns whether this is a failure of this kind.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        matches!(self, Self::Failed(error) if error.kind == kind)
    }

    /// Prints the error, once, and returns the exit code.
    pub(crate) fn report(self, printer: Printer, in_session: bool) -> u8 {
        match self {
            Self::Failed(error) => {
                printer.error(&error);
                if in_session { SESSION_FAILED } else { error.kind.exit_code() }
            }
            Self::BrokenPipe => BROKEN_PIPE,
            Self::Reported(code) => code,
        }
    }
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        let told = match error {
            ClientError::Api(error) => error,
            ClientError::Foreign { .. } => {
                ApiError::caused_by(ErrorKind::NotPermitted, "bangerd's socket is somebody else's", &error)
                    // As after su or sudo, which may keep the first user's variables.
                    .fix("see that HOME, XDG_RUNTIME_DIR and BANGER_SOCKET are your own")
            }
            ClientError::Connect { .. } => {
                ApiError::caused_by(ErrorKind::Unreachable, "bangerd does not answer", &error)
                    .fix("banger daemon start")
            }
            ClientError::Transport(source) => ApiError::caused_by(
                ErrorKind::Unreachable,
                "the connection to bangerd broke",
                source.as_ref(),
            )
            .fix("banger daemon status; what it said last: banger daemon logs"),
            ClientError::Answer(source) => ApiError::caused_by(
                ErrorKind::Failed,
                "bangerd gave an answer that this version of banger does not understand",
                source.as_ref(),
            )
            .fix("banger daemon stop; the next command starts the bangerd that belongs to this banger"),
        };
        Self::Failed(told)
    }
}

/// Failures to write standard output.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::io("cannot write standard output", &error)
        }
    }
}
