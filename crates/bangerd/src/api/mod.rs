//! The HTTP API: routes to the daemon's methods, and nothing else.

mod answer;
mod artifacts;
mod events;
mod listener;
mod operations;
mod requester;
mod stream;
mod system;
mod vms;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use banger_api::route;

pub(crate) use listener::{Client, PrivateListener};

use crate::daemon::Daemon;

/// Returns the API of `daemon`.
pub(crate) fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route(route::SYSTEM, get(system::show))
        .route(route::SYSTEM_SHUTDOWN, post(system::shut_down))
        .route(route::SYSTEM_SPACE, get(system::space))
        .route(route::SYSTEM_PRUNE, post(system::prune))
        .route(route::VMS, get(vms::list).post(vms::create))
        .route(route::VM, get(vms::show).patch(vms::set).delete(vms::delete))
        .route(route::VM_START, post(vms::start))
        .route(route::VM_STOP, post(vms::stop))
        .route(route::VM_KILL, post(vms::kill))
        .route(route::VM_RESTART, post(vms::restart))
        .route(route::VM_PAUSE, post(vms::pause))
        .route(route::VM_RESUME, post(vms::resume))
        .route(route::VM_TRIM, post(vms::trim))
        .route(route::VM_RENAME, post(vms::rename))
        .route(route::VM_FORWARDS, get(vms::forwards).post(vms::add_forward).delete(vms::remove_forward))
        .route(route::VM_SESSION, get(vms::session))
        .route(route::SSH_CONFIG, get(system::ssh_configuration))
        .route(route::VM_LOGS, get(vms::logs))
        .route(route::IMAGES, get(artifacts::images).post(artifacts::pull_image))
        .route(route::IMAGE, get(artifacts::image).delete(artifacts::delete_image))
        .route(route::REGISTERED_IMAGES, post(artifacts::register_image))
        .route(route::KERNELS, get(artifacts::kernels).post(artifacts::pull_kernel))
        .route(route::KERNEL, get(artifacts::kernel).delete(artifacts::delete_kernel))
        .route(route::REGISTERED_KERNELS, post(artifacts::register_kernel))
        .route(route::CATALOG, get(artifacts::catalog))
        .route(route::ENGINES, get(artifacts::engines).post(artifacts::install_engine))
        .route(route::OPERATIONS, get(operations::list))
        .route(route::OPERATION, get(operations::show))
        .route(route::OPERATION_CANCEL, post(operations::cancel))
        .route(route::OPERATION_LOG, get(operations::log))
        .route(route::EVENTS, get(events::listen))
        .fallback(answer::no_such_route)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(answer::BODY_LIMIT))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&daemon), requester::know))
        .layer(axum::middleware::map_response(answer::with_version))
        .with_state(daemon)
}
