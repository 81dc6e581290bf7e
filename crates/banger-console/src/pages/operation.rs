//! Long work: what goes on, how far it is, and what became of it.

use axum::extract::Path;
use banger_types::OperationId;
use banger_types::operation::{Operation, OperationKind, OperationStatus, Progress, Unit};
use banger_types::size::binary_bytes;
use banger_types::time::duration;
use maud::{Markup, html};

use crate::answer::{Answer, Trouble};
use crate::form;
use crate::layout::{
    Page, Parts, capital, explain, facts, operation_link, operation_state, sections, text, time,
};
use crate::plain::end_of;
use crate::visit::{Posted, Visit, segment};

/// How many operations a page of the list has.
const PAGE: u32 = 50;
/// Most of an operation's log that is shown: its end, bytes.
const LOG: usize = 64 << 10;

/// `GET /operations`
pub(crate) async fn list(visit: Visit) -> Answer {
    let page = if visit.query("after").is_empty() {
        let body = sections(&list_parts(&visit).await?);
        Page { live: Some("page=operations".to_owned()), ..Page::new("Operations", body) }
    } else {
        let after: OperationId = visit.query("after").parse().map_err(|_| Trouble::no_page())?;
        let operations = visit.client().operations_after(&after, PAGE).await?;
        Page::new("Operations", html! { section { (table(&visit, &operations)) } })
    };
    Ok(page.answer(&visit))
}

/// Returns what is live of the list.
pub(crate) async fn list_parts(visit: &Visit) -> Result<Parts, Trouble> {
    let operations = visit.client().newest_operations(PAGE).await?;
    Ok(vec![("operations", table(visit, &operations))])
}

fn table(visit: &Visit, operations: &[Operation]) -> Markup {
    html! {
        @if operations.is_empty() {
            p.empty {
                "There are none. Whatever takes a while, as a pull or a VM's start, is here while it goes on and for some time after."
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Operations" {
                table {
                    thead { tr {
                        th scope="col" { "Operation" } th scope="col" { "State" } th scope="col" { "Progress" }
                        th scope="col" { "Begun" } th scope="col" { "Asked by" }
                    } }
                    tbody {
                        @for operation in operations {
                            tr {
                                th scope="row" { (operation_link(visit, operation)) }
                                td { (operation_state(operation.status)) }
                                td {
                                    @if !operation.status.is_final() { (progress(operation)) }
                                    @if let Some(error) = &operation.error { (error.what) }
                                }
                                td { (time(operation.created_at)) }
                                td { @if let Some(asker) = &operation.asked_by { (asker.program) } }
                            }
                        }
                    }
                }
            }
            @if let Some(last) = operations.last().filter(|_| operations.len() == PAGE as usize) {
                p.actions { a.button href=(visit.to(&format!("/operations?after={}", last.id))) { "Older ones" } }
            }
        }
    }
}

/// Returns how far an operation is that goes on.
pub(crate) fn progress(operation: &Operation) -> Markup {
    let Some(progress) = &operation.progress else { return html! { p.soft { "waits for its turn" } } };
    let total = progress.total.filter(|total| *total > 0);
    html! {
        progress aria-label=(format!("{} {}", operation.kind.describe(), operation.subject))
            max=[total] value=[total.map(|total| progress.done.min(total))] {}
        p.soft { (progress.stage) (amounts(progress)) }
    }
}

fn amounts(progress: &Progress) -> Markup {
    let bytes = progress.unit == Unit::Bytes;
    html! {
        @if bytes { ": " (binary_bytes(progress.done)) }
        @if let (true, Some(total)) = (bytes, progress.total) { " of " (binary_bytes(total)) }
        @if let (true, Some(rate)) = (bytes, progress.rate) { ", " (binary_bytes(rate)) " a second" }
        @if let Some(remaining) = progress.remaining_ms { ", " (duration(remaining)) " to go" }
    }
}

/// `GET /operations/ID`
pub(crate) async fn show(visit: Visit, Path(name): Path<String>) -> Answer {
    let operation = visit.client().operation(&name).await?;
    let parts = parts_of(&visit, &operation).await?;
    let title = format!("{} “{}”", capital(operation.kind.describe()), operation.subject);
    let page = Page::new(&title, sections(&parts)).from("/operations", "Operations");
    let refreshes = !operation.status.is_final();
    let live = refreshes.then(|| format!("page=operation&name={}", segment(&name)));
    Ok(Page { live, refreshes, ..page }.answer(&visit))
}

/// Returns what is live of an operation's page.
pub(crate) async fn parts(visit: &Visit, name: &str) -> Result<Parts, Trouble> {
    parts_of(visit, &visit.client().operation(name).await?).await
}

async fn parts_of(visit: &Visit, operation: &Operation) -> Result<Parts, Trouble> {
    let log = log(visit, operation).await?;
    let log = html! {
        h2 { "Log" }
        @if log.is_empty() { p.empty { "Nothing was said yet." } } @else {
            pre tabindex="0" role="region" aria-label="Log" { (log) }
        }
    };
    Ok(vec![("state", state(visit, operation)), ("phases", phases(operation)), ("operation-log", log)])
}

async fn log(visit: &Visit, operation: &Operation) -> Result<String, Trouble> {
    Ok(end_of(visit.client().operation_log(operation.id.as_str()).await?, LOG).await?)
}

fn state(visit: &Visit, operation: &Operation) -> Markup {
    let id = segment(operation.id.as_str());
    html! {
        p { (operation_state(operation.status)) }
        @if !operation.status.is_final() { (progress(operation)) (side_by_side(operation)) }
        @if let Some(error) = &operation.error { (explain(error)) }
        @for warning in &operation.warnings { p.notice.warn { "⚠ " (warning) } }
        @if let Some(pruned) = &operation.pruned {
            p { (pruned.items.len()) " things taken away, " (binary_bytes(pruned.bytes)) "." }
        }
        (facts(vec![
            ("Begun", time(operation.created_at)),
            ("Changed", time(operation.updated_at)),
            ("Asked by", text(operation.asked_by.as_ref().map_or("", |asker| &asker.program))),
            ("Id", html! { code { (operation.id) } }),
        ]))
        div.actions {
            @if operation.may_cancel {
                (form::button(visit, &format!("/operations/{id}/cancel"), "Cancel it; what was begun is undone", &[]))
            }
            @if let Some((page, label)) = subject(operation) { a.button href=(visit.to(&page)) { (label) } }
        }
    }
}

fn side_by_side(operation: &Operation) -> Markup {
    let parts = operation.progress.as_ref().map(|progress| progress.parts.as_slice()).unwrap_or_default();
    html! {
        @for part in parts {
            p.soft {
                code { (part.name) } " " (binary_bytes(part.done))
                @if let Some(total) = part.total { " of " (binary_bytes(total)) }
            }
        }
    }
}

/// Returns the page of what an operation is about, if there is one now.
fn subject(operation: &Operation) -> Option<(String, String)> {
    let name = operation.made.as_ref().map_or(&operation.subject, |made| &made.name);
    let by_id = operation.made.as_ref().and_then(|made| made.id.as_ref()).unwrap_or(name);
    let page = |folder: &str, name: &str, label: &str| {
        Some((format!("/{folder}/{}", segment(name)), format!("{label} “{}”", operation.subject)))
    };
    match operation.kind {
        OperationKind::VmDelete | OperationKind::ImageDelete | OperationKind::KernelDelete
            if operation.status == OperationStatus::Succeeded =>
        {
            Some(("/".to_owned(), "Dashboard".to_owned()))
        }
        OperationKind::VmCreate if operation.made.is_none() => None,
        kind if kind.is_of_vm() => page("vms", name, "VM"),
        OperationKind::ImagePull | OperationKind::ImageRegister if operation.made.is_some() => {
            page("images", by_id, "Image")
        }
        OperationKind::KernelPull | OperationKind::KernelRegister if operation.made.is_some() => {
            page("kernels", by_id, "Kernel")
        }
        _ => None,
    }
}

fn phases(operation: &Operation) -> Markup {
    html! {
        @if !operation.finished_phases.is_empty() {
            h2 { "Phases" }
            ol {
                @for phase in &operation.finished_phases {
                    li { (phase.stage) span.soft { " — " (duration(phase.duration_ms)) } }
                }
            }
        }
    }
}

/// `POST /operations/ID/cancel`
pub(crate) async fn cancel(Path(name): Path<String>, Posted(visit, _): Posted) -> Answer {
    let operation = visit.client().cancel_operation(&name).await?;
    Ok(visit.go(
        &format!("/operations/{}", operation.id),
        "It was asked to stop; what it had begun is being undone.",
    ))
}
