//! Errors of the adapters as users see them: each kind mapped once.

use banger_core::store::StoreError;
use banger_core::vm::DenyReason;
use banger_types::vm::VmState;
use banger_types::{ApiError, ErrorKind, Refusal};

/// A [`StoreError`] as an [`ApiError`].
pub(crate) trait FromStore {
    /// Returns what turns a store's error into "cannot `what`".
    fn from_store(what: &str) -> impl Fn(StoreError) -> Self;
}

impl FromStore for ApiError {
    fn from_store(what: &str) -> impl Fn(StoreError) -> Self {
        move |error| {
            let kind = match &error {
                StoreError::NameTaken(_) | StoreError::InUse(_) => ErrorKind::Conflict,
                StoreError::ReadOnly { .. } => ErrorKind::NotPermitted,
                StoreError::Newer { .. }
                | StoreError::Damaged { .. }
                | StoreError::Full { .. }
                | StoreError::Database { .. } => ErrorKind::Failed,
            };
            let fix = matches!(error, StoreError::Full { .. }).then(|| MAKE_ROOM.to_owned());
            let refusal = match &error {
                StoreError::NameTaken(_) => Some(Refusal::NameTaken),
                StoreError::InUse(_) => Some(Refusal::InUse),
                _ => None,
            };
            Self { fix, refusal, ..Self::caused_by(kind, format!("cannot {what}"), &error) }
        }
    }
}

/// Returns the error of a request that a VM's state does not allow.
pub(crate) fn denied(verb: &str, name: &str, reason: DenyReason) -> ApiError {
    let refusal = match reason {
        DenyReason::Already(_) => Refusal::Already,
        DenyReason::NotStartable(_)
        | DenyReason::NotRunning(_)
        | DenyReason::NotTrimmable(_)
        | DenyReason::NotPaused(_) => Refusal::State,
        DenyReason::InUse(_) => Refusal::InUse,
        DenyReason::Deleting => Refusal::Deleting,
        DenyReason::Busy => Refusal::Busy,
    };
    let error = ApiError::refused(refusal, format!("cannot {verb} '{name}'")).because(reason.to_string());
    match reason {
        DenyReason::InUse(_) => error.fix(format!("stop it first, or `banger vm rm --force {name}`")),
        DenyReason::NotStartable(VmState::Paused) | DenyReason::NotRunning(VmState::Paused) => {
            error.fix(format!("`banger vm resume {name}`"))
        }
        DenyReason::NotRunning(VmState::Stopped | VmState::Failed) => {
            error.fix(format!("`banger vm start {name}`"))
        }
        DenyReason::Busy => error.fix("`banger op ls` shows it; try again when it has ended"),
        _ => error,
    }
}

/// What to do about a full disk.
const MAKE_ROOM: &str =
    "make room on the file system of banger's data: `banger daemon status` says where that is";
/// How a full disk and a full quota are told of (`strerror(3)`), by the system and by programs that met them.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// What to do about a file that may not be read or written.
const ALLOW: &str = "`ls -ld` says whose a file is; banger's data has to belong to who runs it";

/// Returns an error of kind [`ErrorKind::Failed`], or [`ErrorKind::NotPermitted`] if the system does not let us.
pub(crate) fn failed(what: impl Into<String>, source: &(dyn std::error::Error + 'static)) -> ApiError {
    if is_forbidden(source) {
        return ApiError::caused_by(ErrorKind::NotPermitted, what, source).fix(ALLOW);
    }
    let error = ApiError::caused_by(ErrorKind::Failed, what, source);
    let is_full = error.why.iter().any(|why| FULL.iter().any(|words| why.contains(words)));
    if is_full { error.fix(MAKE_ROOM) } else { error }
}

fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.filter_map(|error| error.downcast_ref::<std::io::Error>()).any(|error| {
        matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem)
    })
}

/// Returns the error of long work that says itself whether somebody cancelled it, and what can be done about its failure.
pub(crate) fn work_failed(
    what: &str,
    is_cancelled: bool,
    fix: Option<String>,
    error: &(dyn std::error::Error + 'static),
) -> ApiError {
    if is_cancelled {
        return cancelled(format!("cannot {what}"));
    }
    let failed = failed(format!("cannot {what}"), error);
    ApiError { fix: fix.or(failed.fix), ..failed }
}

/// Returns the error of work that somebody cancelled.
pub(crate) fn cancelled(what: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Cancelled, what).because("it was cancelled")
}
