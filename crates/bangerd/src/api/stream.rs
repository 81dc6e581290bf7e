//! Logs, which may go on.

use std::path::Path;

use axum::body::Body as HttpBody;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use banger_host::LogReader;
use banger_types::{ApiError, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::failure::failed;

/// Answers with a log as text, piece by piece; one that is not there is empty. With `follow` the answer goes on until the
/// log's directory or the daemon goes.
pub(super) fn log(
    path: &Path,
    lines: Option<u64>,
    follow: bool,
    shutdown: CancellationToken,
    what: &str,
) -> Result<Response, ApiError> {
    let reader = LogReader::open(path, lines, follow)
        .map_err(|error| ApiError { kind: ErrorKind::Failed, ..failed(format!("cannot {what}"), &error) })?;
    let stream = futures_util::stream::unfold((reader, shutdown), |(mut reader, shutdown)| async move {
        let piece = tokio::select! {
            piece = reader.next() => piece.transpose()?,
            () = shutdown.cancelled() => return None,
        };
        Some((piece, (reader, shutdown)))
    });
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((content_type, HttpBody::from_stream(stream)).into_response())
}
