//! Getting an image or a kernel.

use axum::extract::Path;
use axum::response::Response;
use banger_api::request::PullRequest;
use banger_types::ApiError;
use maud::{Markup, html};

use super::is_image;
use super::picker::completing;
use crate::answer::{Answer, Trouble, see_other};
use crate::form::{self, Form};
use crate::layout::{Page, explain};
use crate::visit::{Posted, Visit, back_of, came_from, query_of};

/// Kinds of sources that are a path, and what is looked for then.
const TRANSPORTS: [(&str, &str, &str); 6] = [
    ("tar:", "archive", "a root file system in a tar archive"),
    ("oci-archive:", "archive", "an OCI image in a tar archive"),
    ("docker-archive:", "archive", "what docker save writes"),
    ("oci:", "folder", "an OCI image layout in a folder"),
    ("dir:", "folder", "what skopeo copy writes to a folder"),
    ("dockerfile:", "folder", "a folder with a Dockerfile, which is built"),
];

/// `GET /pull/KIND`
pub(crate) async fn offer(visit: Visit, Path(kind): Path<String>) -> Answer {
    let form = visit.as_form();
    Ok(page(&visit, is_image(&kind)?, &form, None, 200))
}

/// `POST /pull/KIND`
pub(crate) async fn accept(Path(kind): Path<String>, Posted(visit, mut form): Posted) -> Answer {
    let is_image = is_image(&kind)?;
    let Some(source) = form.text("source") else {
        form.wrong("source", "there has to be something to pull");
        return Ok(page(&visit, is_image, &form, None, 422));
    };
    let request = PullRequest { source, name: form.text("name") };
    let begun = if is_image {
        visit.client().pull_image(&request).await
    } else {
        visit.client().pull_kernel(&request).await
    };
    match begun {
        Ok(operation) => Ok(visit.follow(&operation)),
        Err(error) => {
            let trouble = Trouble::from(error);
            Ok(page(&visit, is_image, &form, Some(&trouble.error), trouble.status))
        }
    }
}

/// `POST /pull/KIND/browse`: to the host's files, with what was filled in.
pub(crate) async fn browse(Path(kind): Path<String>, Posted(visit, form): Posted) -> Answer {
    is_image(&kind)?;
    Ok(to_picker(&visit, &form, &format!("/pull/{kind}")))
}

/// Leads to the host's files, for the field `source` of a form.
pub(super) fn to_picker(visit: &Visit, form: &Form, page: &str) -> Response {
    let prefix = form.get("transport");
    let (prefix, wanted, _) =
        TRANSPORTS.iter().find(|(known, ..)| *known == prefix).unwrap_or(&TRANSPORTS[0]);
    let back = format!("{page}?{}", form.to_query());
    let query = query_of(&[("back", &back), ("field", "source"), ("kind", wanted), ("prefix", prefix)]);
    see_other(&visit.to(&format!("/picker?{query}")))
}

/// Returns what leads there.
pub(super) fn from_files(visit: &Visit, form: &Form, browse: &str) -> Markup {
    let transports = TRANSPORTS.map(|(value, _, shown)| (value.to_owned(), format!("{value} {shown}")));
    html! {
        fieldset {
            legend { "From files of this host" }
            (form.choice("transport", "What they are", "then choose one; it becomes the source above", &transports))
            button type="submit" name="browse" value="source" formaction=(visit.to(browse)) { "Browse…" }
        }
    }
}

fn page(visit: &Visit, is_image: bool, form: &Form, error: Option<&ApiError>, status: u16) -> Response {
    let (kind, title, from) = if is_image {
        ("image", "Pull an image", ("/images", "Images"))
    } else {
        ("kernel", "Pull a kernel", ("/kernels", "Kernels"))
    };
    let hint = if is_image {
        "a name of the catalog or of a registry, or a source: docker://alpine, tar:/home/me/rootfs.tar, debian:bookworm, dockerfile:/home/me/work"
    } else {
        "a name of the catalog, debian:bookworm, or https://…#sha256=DIGEST"
    };
    let back = back_of(form, from.0);
    let body = html! {
        (form.summary())
        @if let Some(error) = error { (explain(error)) }
        section {
            form method="post" action=(visit.to(&format!("/pull/{kind}"))) {
                (form::key(visit))
                (came_from(form))
                // Enter in a line is this button, and not the first of all.
                button.first type="submit" tabindex="-1" aria-hidden="true" { "Pull" }
                (form.typed_path("source", "From", hint, if is_image { "docker://alpine" } else { "debian:bookworm" }, &completing(visit, "any")))
                (form.line("name", "Name", "what to call it; as its source if there is none", ""))
                @if is_image { (from_files(visit, form, "/pull/image/browse")) }
                p.actions {
                    button.primary type="submit" { "Pull" }
                    a.button href=(visit.to(&back)) { "Cancel" }
                }
            }
        }
    };
    Page::new(title, body).from(from.0, from.1).answer_with(visit, status)
}
