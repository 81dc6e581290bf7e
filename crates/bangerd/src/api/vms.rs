//! `/v1/vms`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use banger_api::request::{ChangeQuery, DeleteQuery, ForwardQuery, LogKind, LogQuery};
use banger_types::monitor::{Forward, file};
use banger_types::port::VmPorts;
use banger_types::stats::VmStats;
use banger_types::vm::{SessionTarget, Vm, VmCreateRequest, VmRenameRequest, VmSetRequest, VmStopRequest};

use super::answer::{Answer, Begun, Body, Query};
use super::stream;
use crate::assignment::Assignment;
use crate::daemon::Daemon;
use crate::operation::Requester;

pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Vec<Vm>> {
    Json(daemon.vms())
}

pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<VmCreateRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::CreateVm(request), requester).await?))
}

pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer<Json<Vm>> {
    Ok(Json(daemon.vm(&name)?))
}

pub(super) async fn delete(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Answer<Begun> {
    Ok(Begun(daemon.delete_vm(&name, query.force, requester).await?))
}

pub(super) async fn start(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    Ok(Begun(daemon.start_vm(&name, requester).await?))
}

pub(super) async fn stop(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
    Body(request): Body<VmStopRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.stop_vm(&name, request, requester).await?))
}

pub(super) async fn kill(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    Ok(Begun(daemon.kill_vm(&name, requester).await?))
}

pub(super) async fn restart(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
    Body(request): Body<VmStopRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.restart_vm(&name, request, requester).await?))
}

pub(super) async fn pause(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    Ok(Begun(daemon.pause_vm(&name, requester).await?))
}

pub(super) async fn resume(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    Ok(Begun(daemon.resume_vm(&name, requester).await?))
}

pub(super) async fn trim(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    Ok(Begun(daemon.trim_vm(&name, requester).await?))
}

pub(super) async fn set(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<ChangeQuery>,
    Body(request): Body<VmSetRequest>,
) -> Answer<Json<Vm>> {
    Ok(Json(daemon.set_vm(&name, request, query.generation).await?))
}

pub(super) async fn rename(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<ChangeQuery>,
    Body(request): Body<VmRenameRequest>,
) -> Answer<Json<Vm>> {
    Ok(Json(daemon.rename_vm(&name, &request, query.generation).await?))
}

pub(super) async fn forwards(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<Forward>>> {
    Ok(Json(daemon.forwards(&name)?))
}

pub(super) async fn add_forward(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Body(forward): Body<Forward>,
) -> Answer<Json<Forward>> {
    Ok(Json(daemon.add_forward(&name, forward).await?))
}

pub(super) async fn remove_forward(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Query(query): Query<ForwardQuery>,
) -> Answer<Json<()>> {
    Ok(Json(daemon.remove_forward(&name, query.listen).await?))
}

pub(super) async fn ports(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<VmPorts>> {
    Ok(Json(daemon.ports(&name).await?))
}

pub(super) async fn stats(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<VmStats>> {
    Ok(Json(daemon.stats(&name).await?))
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
    let what = format!("show the log of '{name}'");
    Ok(stream::log(&log, query.lines, query.follow, daemon.shutdown().clone(), &what)?)
}
