//! `/v1/system`

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use banger_types::setting::Setting;
use banger_types::space::{PruneRequest, PruneRules, Pruned, SpaceUsage};
use banger_types::system::{HostResources, SystemStatus};
use banger_types::vm::SshConfiguration;
use banger_types::web::SignInLink;

use super::answer::{Answer, Begun, Body, Query};
use crate::assignment::Assignment;
use crate::daemon::Daemon;
use crate::operation::Requester;

pub(super) async fn show(State(daemon): State<Arc<Daemon>>) -> Answer<Json<SystemStatus>> {
    Ok(Json(daemon.system().await?))
}

pub(super) async fn space(State(daemon): State<Arc<Daemon>>) -> Answer<Json<SpaceUsage>> {
    Ok(Json(daemon.space().await?))
}

pub(super) async fn prunable(
    State(daemon): State<Arc<Daemon>>,
    Query(rules): Query<PruneRules>,
) -> Answer<Json<Pruned>> {
    Ok(Json(daemon.prunable(&rules).await?))
}

pub(super) async fn prune(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<PruneRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::Prune(request), requester).await?))
}

pub(super) async fn resources(State(daemon): State<Arc<Daemon>>) -> Answer<Json<HostResources>> {
    Ok(Json(daemon.resources().await?))
}

pub(super) async fn settings(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Vec<Setting>>> {
    Ok(Json(daemon.settings()?))
}

pub(super) async fn create_sign_in_link(State(daemon): State<Arc<Daemon>>) -> Answer<Json<SignInLink>> {
    Ok(Json(daemon.create_sign_in_link()?))
}

pub(super) async fn ssh_configuration(State(daemon): State<Arc<Daemon>>) -> Answer<Json<SshConfiguration>> {
    Ok(Json(daemon.ssh_configuration().await?))
}

/// The API's description. It is part of the program, and as it is in git.
pub(super) async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], banger_api::OPENAPI)
}

pub(super) async fn shut_down(State(daemon): State<Arc<Daemon>>) -> Json<()> {
    tracing::info!("asked to end");
    daemon.shutdown().cancel();
    Json(())
}
