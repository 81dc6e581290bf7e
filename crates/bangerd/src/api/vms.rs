//! `/v1/vms`

use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use banger_api::request::{DeleteQuery, LogKind, LogQuery};
use banger_types::monitor::file;
use banger_types::vm::{SessionTarget, Vm, VmCreateRequest, VmStopRequest};
use banger_types::{ApiError, ErrorKind};
use tokio_util::io::ReaderStream;

use super::answer::{Answer, Begun, Body, Query};
use super::listener::Client;
use crate::daemon::Daemon;
use crate::failure::failed;

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<Vm>> {
    Json(daemon.vms())
}

pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    ConnectInfo(client): ConnectInfo<Client>,
    Body(request): Body<VmCreateRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.create_vm(request, client.pid)?))
}

pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Json<Vm>> {
    Ok(Json(daemon.vm(&name)?))
}

pub(super) async fn delete(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Answer<Begun> {
    Ok(Begun(daemon.delete_vm(&name, query.force).await?))
}

pub(super) async fn start(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Begun> {
    Ok(Begun(daemon.start_vm(&name).await?))
}

pub(super) async fn stop(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Body(request): Body<VmStopRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.stop_vm(&name, request).await?))
}

pub(super) async fn kill(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Begun> {
    Ok(Begun(daemon.kill_vm(&name).await?))
}

pub(super) async fn session(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<SessionTarget>> {
    Ok(Json(daemon.session(&name).await?))
}

pub(super) async fn logs(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Answer<Response> {
    let directory = daemon.vm(&name)?.directory;
    let log = directory.join(match query.kind {
        LogKind::Serial => file::SERIAL_LOG,
        LogKind::Boot => file::BOOT_LOG,
        LogKind::Engine => file::ENGINE_LOG,
        LogKind::Monitor => file::MONITOR_LOG,
    });
    Ok(text_file(&log, &format!("show the log of '{name}'")).await?)
}

/// Returns a file as text, piece by piece; one that is not there is empty.
pub(super) async fn text_file(path: &std::path::Path, what: &str) -> Result<Response, ApiError> {
    let body = match tokio::fs::File::open(path).await {
        Ok(file) => HttpBody::from_stream(ReaderStream::new(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HttpBody::empty(),
        Err(error) => {
            return Err(ApiError { kind: ErrorKind::Failed, ..failed(format!("cannot {what}"), &error) });
        }
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}
