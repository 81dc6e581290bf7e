//! Using files of the user's own, where they are.

use axum::extract::Path;
use axum::response::Response;
use banger_api::request::{KernelRegisterRequest, RegisterRequest};
use banger_types::ApiError;
use maud::html;

use super::is_image;
use super::picker::completing;
use crate::answer::{Answer, Trouble, see_other};
use crate::form::{self, Form};
use crate::layout::{Page, explain};
use crate::visit::{Posted, Visit, query_of};

/// `GET /register/KIND`
pub(crate) async fn offer(visit: Visit, Path(kind): Path<String>) -> Answer {
    let form = visit.as_form();
    Ok(page(&visit, is_image(&kind)?, &form, None, 200))
}

/// `POST /register/KIND`
pub(crate) async fn accept(Path(kind): Path<String>, Posted(visit, mut form): Posted) -> Answer {
    let is_image = is_image(&kind)?;
    let needed = if is_image { "rootfs" } else { "kernel" };
    if form.text(needed).is_none() {
        form.wrong(needed, "there has to be a file");
    }
    for field in ["rootfs", "kernel", "initrd"] {
        if form.text(field).is_some_and(|path| !path.starts_with('/')) {
            form.wrong(field, "the path has to begin with /");
        }
    }
    if !form.is_good() {
        return Ok(page(&visit, is_image, &form, None, 422));
    }
    let path = |name: &str| form.text(name).map(Into::into);
    let begun = if is_image {
        let request = RegisterRequest {
            rootfs: form.get("rootfs").into(),
            kernel: path("kernel"),
            initrd: path("initrd"),
            name: form.text("name"),
        };
        visit.client().register_image(&request).await
    } else {
        let request = KernelRegisterRequest {
            kernel: form.get("kernel").into(),
            initrd: path("initrd"),
            name: form.text("name"),
        };
        visit.client().register_kernel(&request).await
    };
    match begun {
        Ok(operation) => Ok(visit.follow(&operation)),
        Err(error) => {
            let trouble = Trouble::from(error);
            Ok(page(&visit, is_image, &form, Some(&trouble.error), trouble.status))
        }
    }
}

/// `POST /register/KIND/browse`: to the host's files, with what was filled in.
pub(crate) async fn browse(Path(kind): Path<String>, Posted(visit, form): Posted) -> Answer {
    is_image(&kind)?;
    let field = form.get("browse");
    let (field, wanted) = match field {
        "kernel" | "initrd" => (field, field),
        _ => ("rootfs", "disk"),
    };
    let back = format!("/register/{kind}?{}", form.to_query());
    let query = query_of(&[("back", &back), ("field", field), ("kind", wanted), ("path", form.get(field))]);
    Ok(see_other(&visit.to(&format!("/picker?{query}"))))
}

fn page(visit: &Visit, is_image: bool, form: &Form, error: Option<&ApiError>, status: u16) -> Response {
    let (kind, title, from) = if is_image {
        ("image", "Register an image", ("/images", "Images"))
    } else {
        ("kernel", "Register a kernel", ("/kernels", "Kernels"))
    };
    let browse = visit.to(&format!("/register/{kind}/browse"));
    let kernel_hint = if is_image {
        "what its VMs boot, a bzImage or an ELF file; the default kernel if there is none"
    } else {
        "a bzImage or an ELF file"
    };
    let body = html! {
        (form.summary())
        @if let Some(error) = error { (explain(error)) }
        section {
            p { "Files are used where they are, and never written to. A kernel boots once and looks at them first." }
            form method="post" action=(visit.to(&format!("/register/{kind}"))) {
                (form::key(visit))
                // Enter in a line is this button, and not the first that browses.
                button.first type="submit" tabindex="-1" aria-hidden="true" { "Register" }
                @if is_image {
                    (form.path("rootfs", "Root file system", "ext4, squashfs or erofs, or a raw disk that has one on a partition", &completing(visit, "disk"), &browse))
                }
                (form.path("kernel", "Kernel", kernel_hint, &completing(visit, "kernel"), &browse))
                (form.path("initrd", "Initramfs", "to take modules from that the kernel has not built in", &completing(visit, "initrd"), &browse))
                (form.line("name", "Name", "what to call it; as its file if there is none", ""))
                p.actions {
                    button.primary type="submit" { "Register" }
                    a.button href=(visit.to(from.0)) { "Cancel" }
                }
            }
        }
    };
    Page::new(title, body).from(from.0, from.1).answer_with(visit, status)
}
