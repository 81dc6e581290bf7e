//! What there is, what it takes, and what goes on.

use banger_types::operation::{Operation, OperationStatus};
use banger_types::size::binary_bytes;
use banger_types::system::{HostResources, SystemStatus};
use banger_types::vm::Vm;
use jiff::Timestamp;
use maud::{Markup, html};

use super::operation::progress;
use crate::answer::{Answer, Trouble};
use crate::layout::{Page, Parts, operation_link, sections, time, vm_state};
use crate::visit::Visit;

/// How many operations are looked at.
const OPERATIONS: u32 = 100;
/// How many failures are shown.
const FAILURES: usize = 5;
/// How old they may be, seconds.
const RECENT: i64 = 24 * 3600;

/// `GET /`
pub(crate) async fn show(visit: Visit) -> Answer {
    let parts = parts(&visit).await?;
    let page = Page::new("Dashboard", sections(&parts));
    Ok(Page { live: Some("page=dashboard".to_owned()), ..page }.answer(&visit))
}

/// Returns what is live of it.
pub(crate) async fn parts(visit: &Visit) -> Result<Parts, Trouble> {
    let client = visit.client();
    let (vms, resources, system, operations) = tokio::try_join!(
        client.vms(),
        client.resources(),
        client.system(),
        client.newest_operations(OPERATIONS)
    )?;
    Ok(vec![
        ("going-on", going_on(visit, &operations)),
        ("vms", list(visit, &vms)),
        ("resources", cards(&resources)),
        ("host", host(visit, &system)),
        ("failures", failures(visit, &operations)),
    ])
}

fn list(visit: &Visit, vms: &[Vm]) -> Markup {
    html! {
        h2 { "Virtual machines" }
        @if vms.is_empty() {
            p.empty {
                "There is no VM yet. " a href=(visit.to("/create")) { "Create one" }
                ": the defaults are good, and the image comes by itself."
            }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Virtual machines" {
                table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "State" } th scope="col" { "Image" }
                        th scope="col" { "Size" } th scope="col" { "Addresses and ports" } th scope="col" { "Created" }
                    } }
                    tbody { @for vm in vms { (row(vm)) } }
                }
            }
            p.actions { a.button.primary href=(visit.to("/create")) { "Create VM" } }
        }
    }
}

/// Returns a row. Its links are as seen from the session's root, where this page is: with hundreds of VMs the path before
/// them would be a fifth of the page.
fn row(vm: &Vm) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(format!("vms/{}", vm.name)) { (vm.name) } }
            td { (vm_state(vm.state)) @if let Some(reason) = &vm.reason { p.hint { (reason) } } }
            td { a href=(format!("images/{}", vm.spec.image)) { (vm.spec.image_name) } }
            td { (vm.spec.vcpus) " vCPU, " (vm.spec.memory.binary()) }
            td {
                @if let Some(addresses) = &vm.addresses { div { (addresses.v4) " " (addresses.name) } }
                @for forward in vm.shown_forwards().iter().chain(&vm.automatic_forwards) {
                    div.line { (forward.listen) " → " (forward.guest_port) }
                }
            }
            td { (time(vm.created_at)) }
        }
    }
}

fn cards(resources: &HostResources) -> Markup {
    let load = resources.load_hundredths.unwrap_or_default();
    let used = |total: Option<u64>, free: Option<u64>| Some(total?.saturating_sub(free?));
    html! {
        h2 { "This host" }
        div.cards {
            div.card {
                h3 { "Processors" }
                p.large { "load " (load / 100) "." (format!("{:02}", load % 100)) " on " (resources.processors) }
                meter aria-label="Processors that are busy" min="0" max=(resources.processors * 100)
                    value=(load.min(resources.processors * 100)) {}
                p { (resources.vcpus_promised) " virtual CPUs promised to VMs that run" }
                p.hint { "the average of the last minute" }
            }
            (card("Memory", resources.memory_total, used(resources.memory_total, resources.memory_available),
                &format!("{} promised to VMs that run", binary_bytes(resources.memory_promised)),
                "VMs take it as they need it"))
            (card("Disk", resources.disk_total, used(resources.disk_total, resources.disk_available),
                &format!("{} promised to the disks of VMs, which take {} now",
                    binary_bytes(resources.disk_promised), binary_bytes(resources.disk_taken)),
                "the file system of banger's data"))
        }
    }
}

fn card(name: &str, total: Option<u64>, used: Option<u64>, promised: &str, hint: &str) -> Markup {
    html! {
        div.card {
            h3 { (name) }
            @if let (Some(total), Some(used)) = (total, used) {
                p.large { (binary_bytes(used)) " of " (binary_bytes(total)) " used" }
                meter aria-label=(format!("{name} that is used")) min="0" max=(total) value=(used) high=(total / 10 * 9) {}
                p { (binary_bytes(total.saturating_sub(used))) " free" }
            } @else {
                p { "This host does not tell." }
            }
            p { (promised) }
            p.hint { (hint) }
        }
    }
}

fn host(visit: &Visit, system: &SystemStatus) -> Markup {
    html! {
        h2 { "Readiness" }
        p { strong { "Engine: " } (system.engine) }
        p { strong { "Root helper, by sudo: " } (system.helper) }
        p.hint { a href=(visit.to("/doctor")) { "The doctor" } " says more, and what to do." }
    }
}

fn going_on(visit: &Visit, operations: &[Operation]) -> Markup {
    let running: Vec<_> = operations.iter().filter(|operation| !operation.status.is_final()).collect();
    html! {
        @if !running.is_empty() {
            h2 { "Going on" }
            @for operation in running {
                p { (operation_link(visit, operation)) }
                (progress(operation))
            }
        }
    }
}

fn failures(visit: &Visit, operations: &[Operation]) -> Markup {
    let now = Timestamp::now().as_second();
    let failed = operations.iter().filter(|operation| {
        operation.status == OperationStatus::Failed && now - operation.updated_at.as_second() < RECENT
    });
    let failed: Vec<_> = failed.take(FAILURES).collect();
    html! {
        @if !failed.is_empty() {
            h2 { "Failed within a day" }
            ul {
                @for operation in failed {
                    li {
                        (operation_link(visit, operation)) ", " (time(operation.updated_at))
                        @if let Some(error) = &operation.error { ": " (error.why.first().unwrap_or(&error.what)) }
                    }
                }
            }
        }
    }
}
