//! What can be had by name.

use banger_types::catalog::CatalogEntry;
use maud::{Markup, html};

use crate::answer::Answer;
use crate::form;
use crate::layout::{Page, badge};
use crate::visit::Visit;

/// `GET /catalog`
pub(crate) async fn show(visit: Visit) -> Answer {
    let catalog = visit.client().catalog().await?;
    let body = html! {
        @for problem in &catalog.problems { p.notice.warn { "⚠ Something is missing here: " (problem) "." } }
        section { h2 { "Images" } (table(&visit, &catalog.images, "image")) }
        section { h2 { "Kernels" } (table(&visit, &catalog.kernels, "kernel")) }
        p.hint { "A file catalog.toml beside the configuration adds to it; " a href=(visit.to("/settings")) { "the settings" } " say where that is." }
    };
    Ok(Page::new("Catalog", body).answer(&visit))
}

fn table(visit: &Visit, entries: &[CatalogEntry], kind: &str) -> Markup {
    html! {
        @if entries.is_empty() { p.empty { "There is none in it." } } @else {
            div.scroll tabindex="0" role="region" aria-label=(format!("{kind}s of the catalog")) {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "What it is" } th scope="col" { "From, in this order" }
                        th scope="col" { "Who says so" } th scope="col" { "Here" }
                    } }
                    tbody {
                        @for entry in entries {
                            tr {
                                th scope="row" { (entry.name) @if entry.is_default { " " (badge("★", "calm", "default")) } }
                                td { (entry.description) }
                                td { @for source in &entry.sources { div { (source) } } }
                                td { (entry.origin) }
                                td {
                                    @if entry.is_here { (badge("✓", "good", "here")) } @else {
                                        (form::button(visit, &format!("/pull/{kind}"), &format!("Pull {}", entry.name), &[("source", &entry.name)]))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
