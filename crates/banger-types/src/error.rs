//! The one shape in which an error reaches a user, whatever it went through.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::OperationId;

/// What kind of failure it was; decides the HTTP status and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// It was tried and did not work. Exit code 1.
    Failed,
    /// The request itself is wrong. Exit code 2.
    Usage,
    /// No such VM, image, kernel or operation. Exit code 3.
    NotFound,
    /// The name is taken, or the state does not allow it. Exit code 4.
    Conflict,
    /// The daemon does not answer. Exit code 5.
    Unreachable,
    /// The user may not, or the host is not ready. Exit code 6.
    NotPermitted,
    /// Somebody cancelled it. Exit code 7.
    Cancelled,
}

impl ErrorKind {
    /// Returns the exit code of the command line for this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unreachable => 5,
            Self::NotPermitted => 6,
            Self::Cancelled => 7,
        }
    }

    /// Returns the HTTP status code (RFC 9110 section 15) for this kind.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Failed => 500,
            // What cannot even be read is 400; that is for whoever reads to say.
            Self::Usage => 422,
            Self::NotFound => 404,
            Self::Conflict | Self::Cancelled => 409,
            Self::Unreachable => 503,
            Self::NotPermitted => 403,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not_permitted",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Returns an error and all its causes in one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, error| format!("{text}: {error}"))
}

/// Why a request is refused that makes sense in itself, for programs that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is so already.
    Already,
    /// The VM's state does not allow it.
    State,
    /// Something else is under way that this does not interrupt; the error names it, if it is an operation.
    Busy,
    /// The VM is being deleted.
    Deleting,
    /// Something uses it.
    InUse,
    /// The name is another's.
    NameTaken,
    /// The VM has changed since the generation that the request names.
    Changed,
    /// The idempotency key is another request's.
    KeyTaken,
    /// The operation has ended.
    Ended,
    /// The operation is past the point where it could be undone.
    PastCancel,
    /// The daemon is about to end.
    Ending,
    /// One of a later version.
    #[serde(other)]
    Other,
}

/// What failed, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{what}")]
pub struct ApiError {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What failed: one clause, no full stop.
    pub what: String,
    /// Why, outermost cause first. Empty when `what` says it all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What to do about it, commands included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The operation that is in the way, or that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Why it is refused, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl ApiError {
    /// Returns an error of `kind` that says `what` failed.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: Vec::new(), fix: None, operation: None, refusal: None }
    }

    /// Returns an error whose reasons are `source` and everything beneath it.
    pub fn caused_by(kind: ErrorKind, what: impl Into<String>, source: &dyn std::error::Error) -> Self {
        let mut why = Vec::new();
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            if why.last() != Some(&text) {
                why.push(text);
            }
            next = error.source();
        }
        Self { why, ..Self::new(kind, what) }
    }

    /// Returns the error of a request that is refused because of what is.
    pub fn refused(refusal: Refusal, what: impl Into<String>) -> Self {
        Self { refusal: Some(refusal), ..Self::new(ErrorKind::Conflict, what) }
    }

    /// Returns the error with one more reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.why.push(reason.into());
        self
    }

    /// Returns the error with advice.
    #[must_use]
    pub fn fix(mut self, advice: impl Into<String>) -> Self {
        self.fix = Some(advice.into());
        self
    }

    /// Returns the error with the operation that it is about.
    #[must_use]
    pub fn about(mut self, operation: OperationId) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Returns a [`ErrorKind::NotFound`] for a thing of this kind and name.
    pub fn not_found(thing: &str, name: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no {thing} named '{name}'"))
    }
}
