//! `/v1/operations`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use banger_api::request::PageQuery;
use banger_types::operation::Operation;
use banger_types::{ApiError, OperationId};

use super::answer::{Answer, Listed, Query};
use super::stream;
use crate::daemon::Daemon;

fn id(text: &str) -> Result<OperationId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("operation", text))
}

pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    Query(query): Query<PageQuery>,
) -> Answer<Listed<Operation>> {
    let (items, next) = daemon.operations_page(&query)?;
    Ok(Listed { items, next })
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Operation>> {
    Ok(Json(daemon.operations().get(&id(&name)?)?))
}

pub(super) async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Operation>> {
    Ok(Json(daemon.operations().cancel(&id(&name)?)?))
}

pub(super) async fn log(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Response> {
    let id = id(&name)?;
    daemon.operations().get(&id)?;
    let log = daemon.operation_log(&id);
    Ok(stream::log(&log, None, false, daemon.shutdown().clone(), "show an operation's log")?)
}
