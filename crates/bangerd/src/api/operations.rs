//! `/v1/operations`

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use banger_types::operation::Operation;
use banger_types::{ApiError, OperationId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::vms::text_file;
use crate::daemon::Daemon;
use crate::failure::FromStore as _;

fn id(text: &str) -> Result<OperationId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("operation", text))
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Vec<Operation>>> {
    Ok(Json(daemon.operations().list().map_err(ApiError::from_store("list operations"))?))
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Operation>> {
    let operation = daemon.operations().watch(&id(&name)?)?.borrow().clone();
    Ok(Json(operation))
}

pub(super) async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Operation>> {
    Ok(Json(daemon.operations().cancel(&id(&name)?)?))
}

pub(super) async fn log(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Response> {
    let id = id(&name)?;
    daemon.operations().watch(&id)?;
    Ok(text_file(&daemon.operation_log(&id), "show an operation's log").await?)
}

pub(super) async fn watch(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Response> {
    let published = daemon.operations().watch(&id(&name)?)?;
    let lines = Lines { published, shutdown: daemon.shutdown().clone(), shown: None };
    let stream = futures_util::stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, HttpBody::from_stream(stream)).into_response())
}

/// An operation at each change, until it has ended or the daemon does.
struct Lines {
    published: watch::Receiver<Operation>,
    shutdown: CancellationToken,
    shown: Option<Operation>,
}

impl Lines {
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(shown) = &self.shown {
            if shown.status.is_final() {
                return None;
            }
            let shown = shown.clone();
            tokio::select! {
                changed = self.published.wait_for(|operation| *operation != shown) => drop(changed.ok()?),
                () = self.shutdown.cancelled() => return None,
            }
        }
        let operation = self.published.borrow_and_update().clone();
        let mut line = serde_json::to_vec(&operation).ok()?;
        line.push(b'\n');
        self.shown = Some(operation);
        Some(line)
    }
}
