//! One file for each page, and the table that leads to them.

pub(crate) mod catalog;
pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod dashboard;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod logs;
pub(crate) mod operation;
pub(crate) mod picker;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod register;
pub(crate) mod settings;
pub(crate) mod sign_in;
pub(crate) mod terminal;
pub(crate) mod vm;
pub(crate) mod vm_action;

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{get, post};
use banger_types::{ApiError, ErrorKind};

use crate::answer::Trouble;
use crate::{App, live};

/// Pages of a session, by their paths below its own.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(dashboard::show))
        .route("/live", get(live::stream))
        .route("/sign-out", post(sign_in::leave))
        .route("/create", get(create::offer).post(create::accept))
        .route("/create/browse", post(create::browse))
        .route("/vms/{name}", get(vm::show))
        .route("/vms/{name}/log", get(vm::log))
        .route("/vms/{name}/change", get(change::offer).post(change::accept))
        .route("/vms/{name}/terminal", get(terminal::show))
        .route("/vms/{name}/terminal/socket", get(terminal::connect))
        .route("/vms/{name}/do/{action}", post(vm_action::act))
        .route("/vms/{name}/stop", get(vm_action::ask_stop))
        .route("/vms/{name}/kill", get(vm_action::ask_kill).post(vm_action::kill))
        .route("/vms/{name}/delete", get(vm_action::ask_delete).post(vm_action::delete))
        .route("/vms/{name}/forwards", post(vm_action::add_forward))
        .route("/vms/{name}/forwards/remove", post(vm_action::remove_forward))
        .route("/images", get(image::list))
        .route("/images/{name}", get(image::show))
        .route("/images/{name}/delete", get(image::ask_delete).post(image::delete))
        .route("/kernels", get(kernel::list))
        .route("/kernels/{name}", get(kernel::show))
        .route("/kernels/{name}/delete", get(kernel::ask_delete).post(kernel::delete))
        .route("/catalog", get(catalog::show))
        .route("/pull/{kind}", get(pull::offer).post(pull::accept))
        .route("/pull/{kind}/browse", post(pull::browse))
        .route("/register/{kind}", get(register::offer).post(register::accept))
        .route("/register/{kind}/browse", post(register::browse))
        .route("/picker", get(picker::show))
        .route("/picker/complete", get(picker::complete))
        .route("/operations", get(operation::list))
        .route("/operations/{name}", get(operation::show))
        .route("/operations/{name}/cancel", post(operation::cancel))
        .route("/prune", get(prune::offer).post(prune::accept))
        .route("/doctor", get(doctor::show))
        .route("/logs", get(logs::show))
        .route("/settings", get(settings::show))
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_method)
}

async fn no_such_page() -> Trouble {
    Trouble::no_page()
}

/// Answers a request that would change something by GET, or that asks for what only changes something.
pub(crate) async fn no_such_method(method: Method) -> Trouble {
    let error = ApiError::new(ErrorKind::Usage, format!("this address cannot be asked with {method}"))
        .because(
            "what changes something is sent by a form of the web console's, and nothing was changed now",
        );
    Trouble::with_status(405, error)
}

/// Returns whether an address is about images; else it is about kernels.
fn is_image(kind: &str) -> Result<bool, Trouble> {
    match kind {
        "image" => Ok(true),
        "kernel" => Ok(false),
        _ => Err(Trouble::no_page()),
    }
}
