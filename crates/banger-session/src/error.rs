//! Why a session could not be held.

use std::io;
use std::path::PathBuf;

use banger_types::{ApiError, ErrorKind};

/// Why a session could not be held, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The VM's monitor cannot be reached.
    #[error("cannot reach the VM's monitor on {}", socket.display())]
    Monitor {
        /// The monitor's socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor broke its protocol.
    #[error("the VM's monitor gave an answer that banger does not understand: {answer}")]
    MonitorAnswer {
        /// What it said, or what is wrong with it.
        answer: String,
    },
    /// The monitor refused; its own sentence.
    #[error("the VM's monitor does not connect to the guest: {0}")]
    NotConnected(String),
    /// The client's key cannot be used.
    #[error("cannot use the key {} to log in", path.display())]
    Identity {
        /// The key's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: russh::keys::Error,
    },
    /// The daemon's word on the guest's key makes no sense.
    #[error("the guest's public key, as bangerd knows it, cannot be read")]
    HostKey(#[source] russh::keys::ssh_key::Error),
    /// Somebody else answers, or the key was changed in the guest.
    #[error("the guest's SSH server has another key than bangerd gave it")]
    HostKeyMismatch,
    /// No answer for this long.
    #[error("the guest does not answer; waited {seconds} seconds")]
    Timeout {
        /// How long.
        seconds: u64,
    },
    /// The guest does not let this user in.
    #[error("the guest does not let the user '{user}' in; most likely it has no such user")]
    User {
        /// Who.
        user: String,
    },
    /// The guest refused a part of the session.
    #[error("the guest refuses {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
    },
    /// The command is beyond what the guest reads.
    #[error("the command with its environment is longer than the {limit} bytes that a guest takes")]
    CommandTooLong {
        /// The limit, bytes.
        limit: usize,
    },
    /// The command could not be put into a request.
    #[error("cannot encode the command")]
    Encode(#[source] serde_json::Error),
    /// SSH went wrong.
    #[error("the SSH connection to the guest failed")]
    Ssh(#[source] russh::Error),
    /// The connection went away while the program ran.
    #[error("the connection to the guest was lost")]
    Lost,
}

impl From<russh::Error> for SessionError {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::UnknownKey => Self::HostKeyMismatch,
            russh::Error::SendError | russh::Error::RecvError => Self::Lost,
            other => Self::Ssh(other),
        }
    }
}

impl SessionError {
    /// Returns the error as it is told of the VM of this name.
    pub fn in_vm(&self, name: &str) -> ApiError {
        let fix = match self {
            Self::Monitor { .. } | Self::NotConnected(_) | Self::Lost | Self::Timeout { .. } => {
                Some(see_what_became_of(name))
            }
            Self::User { .. } => Some(format!("a user that the image has: banger exec -u root {name} ...")),
            Self::HostKeyMismatch => Some(format!("if you do not trust the guest: banger vm kill {name}")),
            _ => None,
        };
        let kind = match self {
            Self::HostKeyMismatch => ErrorKind::NotPermitted,
            Self::User { .. } => ErrorKind::NotFound,
            Self::CommandTooLong { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        let what = match self {
            Self::Lost => format!("the session in VM '{name}' broke"),
            _ => format!("no session in VM '{name}'"),
        };
        ApiError { fix, ..ApiError::caused_by(kind, what, self) }
    }
}

/// Returns what to do about a VM that a session has lost.
pub fn see_what_became_of(name: &str) -> String {
    format!("see what became of it: banger vm show {name}, banger vm logs {name}")
}
