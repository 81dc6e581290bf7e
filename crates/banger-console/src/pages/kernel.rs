//! Kernels: what is here, and what each one is.

use axum::extract::Path;
use banger_types::kernel::Kernel;
use banger_types::size::binary_bytes;
use maud::{Markup, html};

use super::image::users;
use crate::answer::Answer;
use crate::layout::{Page, confirm, facts, lines, text, time};
use crate::visit::{Posted, Visit};

/// `GET /kernels`
pub(crate) async fn list(visit: Visit) -> Answer {
    let (kernels, vms) = tokio::try_join!(visit.client().kernels(), visit.client().vms())?;
    let body = html! {
        section {
            @if kernels.is_empty() {
                p.empty { "There is no kernel yet. The default one comes by itself with the first VM." }
            } @else {
                div.scroll tabindex="0" role="region" aria-label="Kernels" {
                    table {
                        thead { tr {
                            th scope="col" { "Name" } th scope="col" { "Release" } th scope="col" { "From" }
                            th.number scope="col" { "Size" } th scope="col" { "Used by" } th scope="col" { "Made" }
                        } }
                        tbody {
                            @for kernel in &kernels {
                                tr {
                                    th scope="row" {
                                        a href=(visit.to(&format!("/kernels/{}", kernel.id))) { (kernel.name) }
                                        @if let Some(problem) = &kernel.problem { p.wrong { "✕ " (problem) } }
                                    }
                                    td { (kernel.release) }
                                    td { (kernel.source) }
                                    td.number { (binary_bytes(kernel.disk_usage)) }
                                    td { (users(&visit, vms.iter().filter(|vm| vm.spec.kernel == kernel.id))) }
                                    td { (time(kernel.created_at)) }
                                }
                            }
                        }
                    }
                }
            }
            p.actions {
                a.button.primary href=(visit.to("/pull/kernel")) { "Pull a kernel" }
                a.button href=(visit.to("/register/kernel")) { "Register files of yours" }
            }
        }
    };
    Ok(Page::new("Kernels", body).answer(&visit))
}

/// `GET /kernels/NAME`
pub(crate) async fn show(visit: Visit, Path(name): Path<String>) -> Answer {
    let (kernel, vms) = tokio::try_join!(visit.client().kernel(&name), visit.client().vms())?;
    let body = html! {
        @if let Some(problem) = &kernel.problem { p.notice.bad role="alert" { "✕ It cannot be used: " (problem) "." } }
        section {
            h2 { "Details" }
            (facts(vec![
                ("Release", text(&kernel.release)),
                ("Version", text(&kernel.version)),
                ("From", text(&kernel.source)),
                ("Size", text(binary_bytes(kernel.disk_usage))),
                ("Made", time(kernel.created_at)),
                ("Can do", lines(kernel.features.iter().map(|feature| feature.name()))),
                ("Used by", users(&visit, vms.iter().filter(|vm| vm.spec.kernel == kernel.id))),
                ("Files", files(&kernel)),
                ("Id", html! { code { (kernel.id) } }),
            ]))
            p.actions { a.button.danger href=(visit.to(&format!("/kernels/{}/delete", kernel.id))) { "Delete…" } }
        }
    };
    let title = format!("Kernel {}", kernel.name);
    Ok(Page::new(&title, body).from("/kernels", "Kernels").answer(&visit))
}

fn files(kernel: &Kernel) -> Markup {
    let files = kernel.registered.iter().flat_map(|it| std::iter::once(&it.kernel).chain(&it.initrd));
    lines(files.map(|file| file.path.display().to_string()))
}

/// `GET /kernels/NAME/delete`
pub(crate) async fn ask_delete(visit: Visit, Path(name): Path<String>) -> Answer {
    let kernel = visit.client().kernel(&name).await?;
    let back = format!("/kernels/{}", kernel.id);
    let lost = html! {
        p { strong { "⚠ The kernel “" (kernel.name) "” is deleted." } }
        p { "Lost: " (binary_bytes(kernel.disk_usage)) " of kernel and modules. Files of yours stay where they are. It is refused while a VM uses it." }
    };
    let body = confirm(&visit, &format!("{back}/delete"), &back, "Delete it", &[], &lost);
    let title = format!("Delete kernel {}?", kernel.name);
    Ok(Page::new(&title, body).from(&back, &kernel.name).answer(&visit))
}

/// `POST /kernels/NAME/delete`
pub(crate) async fn delete(Path(name): Path<String>, Posted(visit, _): Posted) -> Answer {
    let operation = visit.client().delete_kernel(&name).await?;
    Ok(visit.follow(&operation))
}
