//! `/v1/images`, `/v1/kernels`, `/v1/catalog` and `/v1/engines`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use banger_api::request::{EngineInstallRequest, KernelRegisterRequest, PullRequest, RegisterRequest};
use banger_types::ApiError;
use banger_types::catalog::Catalog;
use banger_types::engine::EngineStatus;
use banger_types::image::Image;
use banger_types::kernel::Kernel;

use super::answer::{Answer, Begun, Body};
use crate::assignment::Assignment;
use crate::daemon::Daemon;
use crate::operation::Requester;

pub(super) async fn images(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Vec<Image>>> {
    Ok(Json(daemon.artifacts().shown_images().await?))
}

pub(super) async fn image(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Image>> {
    let image = daemon.artifacts().shown_image(&name).await?;
    Ok(Json(image.ok_or_else(|| ApiError::not_found("image", &name))?))
}

pub(super) async fn pull_image(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<PullRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::PullImage(request), requester).await?))
}

pub(super) async fn register_image(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<RegisterRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::RegisterImage(request), requester).await?))
}

pub(super) async fn delete_image(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    let Image { id, name, .. } = daemon.artifacts().image_called(&name).await?;
    Ok(Begun(daemon.begin(Assignment::DeleteImage { id, name }, requester).await?))
}

pub(super) async fn kernels(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Vec<Kernel>>> {
    Ok(Json(daemon.artifacts().shown_kernels().await?))
}

pub(super) async fn kernel(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer<Json<Kernel>> {
    let kernel = daemon.artifacts().shown_kernel(&name).await?;
    Ok(Json(kernel.ok_or_else(|| ApiError::not_found("kernel", &name))?))
}

pub(super) async fn pull_kernel(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<PullRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::PullKernel(request), requester).await?))
}

pub(super) async fn register_kernel(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<KernelRegisterRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::RegisterKernel(request), requester).await?))
}

pub(super) async fn delete_kernel(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Path(name): Path<String>,
) -> Answer<Begun> {
    let Kernel { id, name, .. } = daemon.artifacts().kernel_called(&name).await?;
    Ok(Begun(daemon.begin(Assignment::DeleteKernel { id, name }, requester).await?))
}

pub(super) async fn catalog(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Catalog>> {
    Ok(Json(daemon.artifacts().catalog().await?))
}

pub(super) async fn engines(State(daemon): State<Arc<Daemon>>) -> Answer<Json<Vec<EngineStatus>>> {
    Ok(Json(daemon.artifacts().engines().await?))
}

pub(super) async fn install_engine(
    State(daemon): State<Arc<Daemon>>,
    Extension(requester): Extension<Requester>,
    Body(request): Body<EngineInstallRequest>,
) -> Answer<Begun> {
    Ok(Begun(daemon.begin(Assignment::InstallEngine(request), requester).await?))
}
