//! Answers that go on: a value at each change, and logs.

use std::convert::Infallible;
use std::path::Path;

use axum::body::Body as HttpBody;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use banger_host::LogReader;
use banger_types::{ApiError, ErrorKind};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::failed;

/// Answers with a value, a line of JSON at each change, until `is_last` says so of one, or its owner or the daemon ends.
pub(super) fn changes<T>(
    published: watch::Receiver<T>,
    shutdown: CancellationToken,
    is_last: fn(&T) -> bool,
) -> Response
where
    T: Serialize + PartialEq + Clone + Send + Sync + 'static,
{
    let lines = Lines { published, shutdown, shown: None, is_last };
    let stream = futures_util::stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(stream)).into_response()
}

struct Lines<T> {
    published: watch::Receiver<T>,
    shutdown: CancellationToken,
    shown: Option<T>,
    is_last: fn(&T) -> bool,
}

impl<T: Serialize + PartialEq + Clone> Lines<T> {
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(shown) = &self.shown {
            if (self.is_last)(shown) {
                return None;
            }
            let shown = shown.clone();
            tokio::select! {
                changed = self.published.wait_for(|value| *value != shown) => drop(changed.ok()?),
                () = self.shutdown.cancelled() => return None,
            }
        }
        let value = self.published.borrow_and_update().clone();
        let mut line = serde_json::to_vec(&value).ok()?;
        line.push(b'\n');
        self.shown = Some(value);
        Some(line)
    }
}

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
