//! Why a session could not be held by this program.

use std::io;

use banger_types::{ApiError, ErrorKind};

use crate::error::CommandError;
use crate::sftp::SftpError;

/// Why a session could not be held, or ended otherwise than its program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The guest's side of it.
    #[error(transparent)]
    Guest(#[from] banger_session::SessionError),
    /// The guest's file server is of no use.
    #[error(transparent)]
    Files(SftpError),
    /// The guest closed the session without a word on the program's end.
    #[error("the guest ended the session without an exit status")]
    NoStatus,
    /// Standard output or error cannot be written.
    #[error("cannot write the program's output")]
    Output(#[source] io::Error),
    /// Signals or the terminal cannot be set up.
    #[error("cannot set up {what}")]
    Setup {
        /// What.
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl SessionError {
    /// Returns the error as the command on the VM of this name shows it.
    pub(crate) fn in_vm(self, name: &str) -> CommandError {
        let broke = format!("the session in VM '{name}' broke");
        let told = match &self {
            Self::Guest(error) => error.in_vm(name),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return CommandError::BrokenPipe;
            }
            Self::Output(_) | Self::Files(_) => ApiError::caused_by(ErrorKind::Failed, broke, &self),
            Self::NoStatus => ApiError::caused_by(ErrorKind::Failed, broke, &self)
                .fix(banger_session::see_what_became_of(name)),
            Self::Setup { .. } => {
                ApiError::caused_by(ErrorKind::Failed, format!("no session in VM '{name}'"), &self)
            }
        };
        told.into()
    }
}
