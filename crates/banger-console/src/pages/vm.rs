//! A VM: everything that there is to say of it, and what can be done with it.

use axum::extract::Path;
use banger_api::request::{LogKind, LogQuery};
use banger_types::guest::GuestStats;
use banger_types::operation::Operation;
use banger_types::port::VmPorts;
use banger_types::size::binary_bytes;
use banger_types::stats::VmStats;
use banger_types::time::duration;
use banger_types::vm::{Vm, VmState};
use maud::{Markup, html};

use crate::answer::{Answer, Trouble};
use crate::form;
use crate::layout::{
    Page, Parts, facts, lines, operation_link, operation_state, sections, text, time, vm_state,
};
use crate::live::LOG_LINES;
use crate::plain::end_of;
use crate::visit::{Visit, segment};

/// How many operations are looked at for those of this VM.
const OPERATIONS: u32 = 200;
/// How many of them are shown.
const SHOWN_OPERATIONS: usize = 8;
/// Most of a log that is shown on a page of its own: its end, bytes.
const LOG: usize = 1 << 20;

/// What is remembered between two looks, to tell what a VM takes in between.
#[derive(Default)]
pub(crate) struct View {
    before: Option<VmStats>,
}

/// `GET /vms/NAME`
pub(crate) async fn show(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let parts = View::default().parts(&visit, &name).await?;
    let query = LogQuery { kind: LogKind::Serial, follow: false, lines: Some(LOG_LINES) };
    let log = end_of(visit.client().vm_logs(&name, query).await?, LOG).await?;
    let body = html! {
        (sections(&parts))
        section {
            h2 { "Add a forward" }
            (add_forward(&visit, vm.name.as_str(), &form::Form::default()))
        }
        section {
            h2 { "Serial console" }
            pre id="log" tabindex="0" role="log" aria-label="Serial console" aria-live="off" { (log) }
            p.actions {
                @for (kind, label) in LOGS { a href=(visit.to(&format!("/vms/{name}/log?kind={kind}", name = vm.name))) { (label) } }
            }
        }
    };
    let title = format!("VM {}", vm.name);
    let live = Some(format!("page=vm&name={}", segment(&name)));
    Ok(Page { live, ..Page::new(&title, body).from("/", "Dashboard") }.answer(&visit))
}

/// The logs that a VM has, with what they are called.
const LOGS: [(&str, &str); 4] = [
    ("serial", "Whole serial console"),
    ("boot", "Its last boot"),
    ("engine", "What the engine said"),
    ("monitor", "What the monitor said"),
];

/// `GET /vms/NAME/log`
pub(crate) async fn log(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let kind = match visit.query("kind") {
        "boot" => LogKind::Boot,
        "engine" => LogKind::Engine,
        "monitor" => LogKind::Monitor,
        _ => LogKind::Serial,
    };
    let query = LogQuery { kind, follow: false, lines: None };
    let log = end_of(visit.client().vm_logs(&name, query).await?, LOG).await?;
    let body = html! {
        section {
            p.actions {
                @for (kind, label) in LOGS { a href=(visit.to(&format!("/vms/{}/log?kind={kind}", vm.name))) { (label) } }
            }
        }
        section { @if log.is_empty() { p.empty { "There is nothing in it." } } @else { pre tabindex="0" { (log) } } }
    };
    let (title, from) = (format!("Log of VM {}", vm.name), format!("/vms/{}", vm.name));
    Ok(Page::new(&title, body).from(&from, vm.name.as_str()).answer(&visit))
}

impl View {
    /// Returns what is live of a VM's page.
    pub(crate) async fn parts(&mut self, visit: &Visit, name: &str) -> Result<Parts, Trouble> {
        let client = visit.client();
        let (vm, operations) = tokio::try_join!(client.vm(name), client.newest_operations(OPERATIONS))?;
        let stats = if vm.state.is_alive() { client.vm_stats(name).await.ok() } else { None };
        let ports = if vm.state == VmState::Running { client.vm_ports(name).await.ok() } else { None };
        let shown_stats = usage(stats.as_ref(), self.before.as_ref());
        self.before = stats;
        // Another VM may have had its name before.
        let is_own = |it: &&Operation| {
            it.kind.is_of_vm() && it.subject == vm.name.as_str() && it.updated_at >= vm.created_at
        };
        let own = operations.iter().filter(is_own);
        let own: Vec<_> = own.take(SHOWN_OPERATIONS).collect();
        let happened = html! {
            @if !own.is_empty() {
                h2 { "What happened" }
                ul.plain {
                    @for operation in own {
                        li { (operation_state(operation.status)) " " (operation_link(visit, operation)) ", " (time(operation.created_at)) }
                    }
                }
            }
        };
        Ok(vec![
            ("actions", actions(visit, &vm)),
            ("usage", shown_stats),
            ("ports", listening(visit, &vm, ports.as_ref())),
            ("details", details(visit, &vm)),
            ("happened", happened),
        ])
    }
}

fn actions(visit: &Visit, vm: &Vm) -> Markup {
    let name = &vm.name;
    let can: &[(&str, &str)] = match vm.state {
        VmState::Stopped | VmState::Failed => &[("start", "Start"), ("trim", "Trim its disk")],
        VmState::Running => {
            &[("stop", "Stop"), ("restart", "Restart"), ("pause", "Pause"), ("trim", "Trim its disk")]
        }
        VmState::Paused => &[("resume", "Resume")],
        VmState::Creating | VmState::Starting | VmState::Stopping | VmState::Deleting => &[],
    };
    // With its end it is gone, which is asked about first; there is nothing to be started again.
    let ends = |action: &str| matches!(action, "stop" | "restart");
    let can = can.iter().filter(|(action, _)| !(vm.spec.remove && ends(action)));
    html! {
        p { (vm_state(vm.state)) @if let Some(reason) = &vm.reason { " " (reason) } }
        @for warning in &vm.warnings { p.notice.warn { "⚠ " (warning) } }
        div.actions {
            @if vm.state == VmState::Running { a.button.primary href=(visit.to(&format!("/vms/{name}/terminal"))) { "Terminal" } }
            @for (action, label) in can { (form::button(visit, &format!("/vms/{name}/do/{action}"), label, &[])) }
            @if vm.spec.remove && vm.state == VmState::Running { a.button.danger href=(visit.to(&format!("/vms/{name}/stop"))) { "Stop…" } }
            @if vm.state.is_alive() { a.button.danger href=(visit.to(&format!("/vms/{name}/kill"))) { "Kill…" } }
            @if !matches!(vm.state, VmState::Creating | VmState::Deleting) {
                a.button href=(visit.to(&format!("/vms/{name}/change"))) { "Change…" }
                a.button.danger href=(visit.to(&format!("/vms/{name}/delete"))) { "Delete…" }
            }
        }
        @if vm.state == VmState::Running {
            p.hint { "Stop" @if !vm.spec.remove { " and restart ask" } @else { " asks" } " its guest to go down in order, and end it as if its power had failed if it has not after 30 seconds." }
        }
    }
}

fn details(visit: &Visit, vm: &Vm) -> Markup {
    let spec = &vm.spec;
    let labels = spec.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let addresses = vm.addresses.iter();
    let addresses = addresses
        .flat_map(|it| [Some(it.v4.to_string()), it.v6.map(|v6| v6.to_string()), Some(it.name.clone())]);
    html! {
        h2 { "Details" }
        (facts(vec![
            ("Image", html! { a href=(visit.to(&format!("/images/{}", spec.image))) { (spec.image_name) } }),
            ("Kernel", html! { a href=(visit.to(&format!("/kernels/{}", spec.kernel))) { (spec.kernel_name) } }),
            ("Virtual CPUs", text(spec.vcpus.to_string())),
            ("Memory", text(spec.memory.binary())),
            ("Disk", text(format!("{} taken, up to {}", binary_bytes(vm.disk_usage), spec.disk.binary()))),
            ("Network", text(vm.describe_network())),
            ("Addresses", lines(addresses.flatten())),
            ("Engine", text(vm.describe_engine())),
            ("Isolation", text(vm.isolation.map(banger_types::vm::Isolation::describe).unwrap_or_default())),
            ("Restart", text(spec.restart.to_string())),
            ("Service", text(if spec.service { "the image's own command, from every boot on" } else { "" })),
            ("Created", time(vm.created_at)),
            ("Started", html! { @if let Some(started) = vm.started_at { (time(started)) } }),
            ("Environment", lines(&spec.environment)),
            ("Labels", lines(labels)),
            ("Deleted", text(if spec.remove { "when it ends" } else { "" })),
            ("Directory", html! { code { (vm.directory.display()) } }),
            ("Id", html! { code { (vm.id) } }),
        ]))
        p.hint { "A shell in it: " code { "banger ssh " (vm.name) } }
    }
}

fn usage(now: Option<&VmStats>, before: Option<&VmStats>) -> Markup {
    let Some(now) = now else { return html! {} };
    let guest = now.guest.as_ref();
    html! {
        h2 { "What it takes" }
        div.cards {
            div.card { h3 { "Processors" } p.large { (processors(now, before)) } p.hint { "of its " (now.vcpus) " virtual CPUs" } }
            @if let Some(guest) = guest {
                div.card {
                    h3 { "Memory" }
                    p.large { (binary_bytes(guest.memory_total.saturating_sub(guest.memory_available))) }
                    meter aria-label="Memory that is used" min="0" max=(guest.memory_total)
                        value=(guest.memory_total.saturating_sub(guest.memory_available)) {}
                    p.hint { "of " (binary_bytes(guest.memory_total)) }
                }
                (network(guest))
            }
            div.card {
                h3 { "On this host" }
                @if let Some(host) = &now.host { p.large { (binary_bytes(host.pss)) } p.hint { "of memory" } }
                p { (binary_bytes(now.disk_allocated)) " of disk" }
            }
        }
        @if let Some(guest) = guest { p.hint { "Up for " (duration(guest.uptime_ms)) "." } }
    }
}

fn network(guest: &GuestStats) -> Markup {
    html! {
        @if let (Some(received), Some(sent)) = (guest.network_received, guest.network_sent) {
            div.card {
                h3 { "Network" }
                p { "↓ " (binary_bytes(received)) " received" }
                p { "↑ " (binary_bytes(sent)) " sent" }
            }
        }
    }
}

/// Returns how busy the guest's processors were between two looks; the load average where there was no look before.
fn processors(now: &VmStats, before: Option<&VmStats>) -> String {
    let times = |stats: &VmStats| stats.guest.as_ref().and_then(|it| it.cpu_busy_ms.zip(it.cpu_total_ms));
    if let (Some((busy, total)), Some((busy_before, total_before))) = (times(now), before.and_then(times))
        && let Some(percent) =
            (busy.saturating_sub(busy_before) * 100).checked_div(total.saturating_sub(total_before))
    {
        return format!("{percent} %");
    }
    let load = now.guest.as_ref().and_then(|guest| guest.load_hundredths);
    load.map_or_else(|| "not told".to_owned(), |[load, ..]| format!("load {}.{:02}", load / 100, load % 100))
}

fn listening(visit: &Visit, vm: &Vm, ports: Option<&VmPorts>) -> Markup {
    let forwards = vm.shown_forwards();
    html! {
        h2 { "Ports" }
        @if let Some(ports) = ports.filter(|ports| !ports.ports.is_empty()) {
            div.scroll tabindex="0" role="region" aria-label="What listens in the VM" {
                table {
                    thead { tr { th scope="col" { "Port" } th scope="col" { "Process" } th scope="col" { "Reached by" } } }
                    tbody {
                        @for port in &ports.ports {
                            tr {
                                th scope="row" { (port.socket.port) "/" (port.socket.protocol) }
                                td { (port.socket.process.as_deref().unwrap_or("not told")) }
                                td {
                                    @match (&port.url, port.speaks) {
                                        // Another site, on the same host: it is told nothing of this page.
                                        (Some(url), Some(_)) => a href=(url) rel="noopener noreferrer" target="_blank" { (url) " ↗" },
                                        (Some(url), None) => (url),
                                        (None, _) => span.soft { "nothing on this host" },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        } @else if vm.state == VmState::Running {
            p.empty { "Nothing listens in it. What does gets a port of 127.0.0.1 by itself, and is shown here." }
        }
        @if !forwards.is_empty() {
            h3 { "Forwards" }
            ul.plain {
                @for forward in forwards {
                    @let listen = forward.listen.to_string();
                    li {
                        (listen) " → " (forward.guest_port) " "
                        (form::button(visit, &format!("/vms/{}/forwards/remove", vm.name), &format!("Remove {listen}"), &[("listen", &listen)]))
                    }
                }
            }
        }
    }
}

/// Returns the form that adds a forward.
pub(crate) fn add_forward(visit: &Visit, name: &str, form: &form::Form) -> Markup {
    html! {
        form method="post" action=(visit.to(&format!("/vms/{name}/forwards"))) {
            (form::key(visit))
            (form.line("forward", "Ports", "HOST:GUEST, as 8080:80 or 53:53/udp; on 127.0.0.1 unless an address comes first. It stays after a restart.", "8080:80"))
            button type="submit" { "Add" }
        }
    }
}
