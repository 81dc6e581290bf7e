//! The HTTP API: routes to the daemon's methods, and nothing else.

mod answer;
mod artifacts;
mod console;
mod events;
mod listener;
mod operations;
mod requester;
mod server;
mod stream;
mod system;
mod vms;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::routing::{self, MethodFilter};
use banger_api::endpoint::{self, Endpoint, Verb};

pub(crate) use listener::PrivateListener;
pub(crate) use server::serve;

use crate::daemon::Daemon;

/// The handler of each endpoint.
fn routes() -> Routes {
    Routes::default()
        .on(endpoint::SHOW_SYSTEM, system::show)
        .on(endpoint::SHUT_DOWN, system::shut_down)
        .on(endpoint::SHOW_SPACE, system::space)
        .on(endpoint::SHOW_PRUNABLE, system::prunable)
        .on(endpoint::PRUNE, system::prune)
        .on(endpoint::SHOW_RESOURCES, system::resources)
        .on(endpoint::LIST_SETTINGS, system::settings)
        .on(endpoint::CREATE_SIGN_IN_LINK, system::create_sign_in_link)
        .on(endpoint::SHOW_SSH_CONFIGURATION, system::ssh_configuration)
        .on(endpoint::SHOW_DESCRIPTION, system::description)
        .on(endpoint::LIST_VMS, vms::list)
        .on(endpoint::CREATE_VM, vms::create)
        .on(endpoint::SHOW_VM, vms::show)
        .on(endpoint::SET_VM, vms::set)
        .on(endpoint::DELETE_VM, vms::delete)
        .on(endpoint::START_VM, vms::start)
        .on(endpoint::STOP_VM, vms::stop)
        .on(endpoint::KILL_VM, vms::kill)
        .on(endpoint::RESTART_VM, vms::restart)
        .on(endpoint::PAUSE_VM, vms::pause)
        .on(endpoint::RESUME_VM, vms::resume)
        .on(endpoint::TRIM_VM, vms::trim)
        .on(endpoint::RENAME_VM, vms::rename)
        .on(endpoint::LIST_FORWARDS, vms::forwards)
        .on(endpoint::ADD_FORWARD, vms::add_forward)
        .on(endpoint::REMOVE_FORWARD, vms::remove_forward)
        .on(endpoint::SHOW_PORTS, vms::ports)
        .on(endpoint::SHOW_STATS, vms::stats)
        .on(endpoint::SHOW_SESSION, vms::session)
        .on(endpoint::ATTACH_CONSOLE, console::attach)
        .on(endpoint::READ_VM_LOG, vms::logs)
        .on(endpoint::LIST_IMAGES, artifacts::images)
        .on(endpoint::PULL_IMAGE, artifacts::pull_image)
        .on(endpoint::SHOW_IMAGE, artifacts::image)
        .on(endpoint::DELETE_IMAGE, artifacts::delete_image)
        .on(endpoint::REGISTER_IMAGE, artifacts::register_image)
        .on(endpoint::LIST_KERNELS, artifacts::kernels)
        .on(endpoint::PULL_KERNEL, artifacts::pull_kernel)
        .on(endpoint::SHOW_KERNEL, artifacts::kernel)
        .on(endpoint::DELETE_KERNEL, artifacts::delete_kernel)
        .on(endpoint::REGISTER_KERNEL, artifacts::register_kernel)
        .on(endpoint::SHOW_CATALOG, artifacts::catalog)
        .on(endpoint::LIST_ENGINES, artifacts::engines)
        .on(endpoint::INSTALL_ENGINE, artifacts::install_engine)
        .on(endpoint::LIST_OPERATIONS, operations::list)
        .on(endpoint::SHOW_OPERATION, operations::show)
        .on(endpoint::CANCEL_OPERATION, operations::cancel)
        .on(endpoint::READ_OPERATION_LOG, operations::log)
        .on(endpoint::LISTEN, events::listen)
}

/// A router, and the endpoints that it serves.
#[derive(Default)]
struct Routes {
    router: Router<Arc<Daemon>>,
    served: Vec<&'static str>,
}

impl Routes {
    fn on<H, T>(mut self, endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, Arc<Daemon>>,
        T: 'static,
    {
        let method = match endpoint.verb {
            Verb::Get => MethodFilter::GET,
            Verb::Post => MethodFilter::POST,
            Verb::Patch => MethodFilter::PATCH,
            Verb::Delete => MethodFilter::DELETE,
        };
        self.router = self.router.route(endpoint.path, routing::on(method, handler));
        self.served.push(endpoint.name);
        self
    }
}

/// Returns the API of `daemon`.
pub(crate) fn router(daemon: Arc<Daemon>) -> Router {
    routes()
        .router
        .fallback(answer::no_such_route)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(answer::BODY_LIMIT))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&daemon), requester::know))
        .layer(axum::middleware::map_response(answer::with_version))
        .with_state(daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_of_the_description_is_served_once() {
        let mut served = routes().served;
        served.sort_unstable();
        let mut described: Vec<_> = endpoint::ALL.iter().map(|endpoint| endpoint.name).collect();
        described.sort_unstable();
        assert_eq!(served, described);
    }
}
