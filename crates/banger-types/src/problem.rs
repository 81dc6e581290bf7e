//! Errors as they go over HTTP: problem details (RFC 9457).

use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind, Refusal};
use crate::name::OperationId;

/// The media type of a [`Problem`] (RFC 9457 section 6.1).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error as it goes over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// What kind of problem it is, as a URI: `urn:banger:problem:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What failed: one clause.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Why, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The kind, for programs.
    pub code: ErrorKind,
    /// Why, outermost cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What to do about it, commands included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The operation that is in the way, or that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Why it is refused, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Problem {
    /// Returns an error as it is answered with a status of its own.
    pub fn with_status(error: ApiError, status: u16) -> Self {
        let ApiError { kind: code, what, why, fix, operation, refusal } = error;
        Self {
            kind: format!("urn:banger:problem:{code}"),
            title: what,
            status,
            detail: (!why.is_empty()).then(|| why.join(": ")),
            code,
            reasons: why,
            hints: fix.into_iter().collect(),
            operation,
            refusal,
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let status = error.kind.http_status();
        Self::with_status(error, status)
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let Problem { code, title, reasons, hints, operation, refusal, .. } = problem;
        let fix = (!hints.is_empty()).then(|| hints.join("; "));
        Self { kind: code, what: title, why: reasons, fix, operation, refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_after_its_way() {
        let error = ApiError::refused(Refusal::Busy, "cannot start 'web'")
            .because("it is being stopped")
            .because("by somebody")
            .fix("try again")
            .about(OperationId::from_random(7));
        let problem = Problem::from(error.clone());
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:banger:problem:conflict", "title": "cannot start 'web'", "status": 409,
                "detail": "it is being stopped: by somebody", "code": "conflict",
                "reasons": ["it is being stopped", "by somebody"], "hints": ["try again"],
                "operation": "000000000007", "refusal": "busy",
            })
        );
        assert_eq!(ApiError::from(serde_json::from_value::<Problem>(json).unwrap()), error);
    }
}
