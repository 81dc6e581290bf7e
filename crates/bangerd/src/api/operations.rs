//! `/v1/operations`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use banger_types::operation::Operation;
use banger_types::{ApiError, OperationId};

use super::answer::Answer;
use super::stream;
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
    let log = daemon.operation_log(&id);
    Ok(stream::log(&log, None, false, daemon.shutdown().clone(), "show an operation's log")?)
}

pub(super) async fn watch(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Response> {
    let published = daemon.operations().watch(&id(&name)?)?;
    Ok(stream::changes(published, daemon.shutdown().clone(), |operation| operation.status.is_final()))
}
