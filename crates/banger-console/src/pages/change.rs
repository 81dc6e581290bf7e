//! Changing a VM: what `banger vm set` and `banger vm rename` do.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::Response;
use banger_types::size::Mebibytes;
use banger_types::vm::{Vm, VmRenameRequest, VmSetRequest, VmSpec};
use banger_types::{ApiError, Refusal, VmName};
use maud::{Markup, html};

use super::create::{engine, label, lines_of, network, owned, restart};
use crate::answer::{Answer, Trouble};
use crate::form::{self, Form};
use crate::layout::{Page, explain};
use crate::visit::{Posted, Visit};

/// A box to tick.
struct Tick {
    name: &'static str,
    label: &'static str,
    /// Whether a VM has it ticked.
    is_set: fn(&VmSpec) -> bool,
}

const TICKS: [Tick; 3] = [
    Tick {
        name: "automatic_forwards",
        label: "What listens in it gets a port of 127.0.0.1 by itself",
        is_set: |spec| spec.automatic_forwards,
    },
    Tick {
        name: "allow_host",
        label: "It reaches this host's own addresses, but for the loopback, from its next start on",
        is_set: |spec| spec.allow_host,
    },
    Tick {
        name: "no_peers",
        label: "It is kept apart from your other VMs, from its next start on",
        is_set: |spec| spec.no_peers,
    },
];

/// `GET /vms/NAME/change`
pub(crate) async fn offer(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    Ok(page(&visit, &vm, &filled(&vm), None, 200))
}

/// `POST /vms/NAME/change`
pub(crate) async fn accept(Path(name): Path<String>, Posted(visit, mut form): Posted) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let generation = form.read("generation").unwrap_or_default();
    let (request, new_name) = (request(&mut form, &vm), form.read::<VmName>("name"));
    if !form.is_good() {
        return Ok(page(&visit, &vm, &form, None, 422));
    }
    let changes = request != VmSetRequest::default();
    // What the form was shown with: who has changed something meanwhile is not undone.
    if changes {
        match visit.client().set_vm_of(generation, vm.id.as_str(), &request).await {
            // By this very form.
            Ok(now) => form.set("generation", now.generation.to_string()),
            Err(error) => return refused(&visit, &vm, form, error.into()).await,
        }
    }
    let Some(name) = new_name.filter(|name| *name != vm.name) else {
        return Ok(visit.go(&format!("/vms/{}", vm.name), "Changed."));
    };
    match visit.client().rename_vm(vm.id.as_str(), &VmRenameRequest { name }).await {
        Ok(renamed) => Ok(visit.go(&format!("/vms/{}", renamed.name), "Changed.")),
        Err(error) => {
            let mut trouble = Trouble::from(error);
            if changes {
                trouble.error = trouble.error.because("all but the name is changed as you wanted it");
            }
            Ok(page(&visit, &vm, &form, Some(&trouble.error), trouble.status))
        }
    }
}

/// Returns the form with why it was refused. Whoever was overtaken is told what the VM is by now, and may send it again; nobody else
/// may, so that what another changes meanwhile is not undone unseen.
async fn refused(visit: &Visit, vm: &Vm, mut form: Form, mut trouble: Trouble) -> Answer {
    if trouble.error.refusal == Some(Refusal::Changed) {
        let now = visit.client().vm(vm.id.as_str()).await?;
        form.set("generation", now.generation.to_string());
        trouble = trouble.fix(format!(
            "look at what it is now ({}), and send this again if it is to be as it says here",
            described(&now)
        ));
    }
    Ok(page(visit, vm, &form, Some(&trouble.error), trouble.status))
}

/// Returns what a VM is, as far as this form changes it.
fn described(vm: &Vm) -> String {
    let spec = &vm.spec;
    let labels: Vec<_> = spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
    format!(
        "{}, {} virtual CPUs, {} of memory, {} of disk, {}, {}, started again: {}, {labels}",
        vm.name,
        spec.vcpus,
        spec.memory.binary(),
        spec.disk.binary(),
        spec.engine,
        spec.network,
        spec.restart
    )
}

/// Returns the form as the VM is.
fn filled(vm: &Vm) -> Form {
    let spec = &vm.spec;
    let labels = spec.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let mut fields = owned(&[("name", vm.name.as_str()), ("labels", &labels.collect::<Vec<_>>().join("\n"))]);
    let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
    add("vcpus", spec.vcpus.to_string());
    add("memory", spec.memory.to_string());
    add("disk", spec.disk.to_string());
    add("network", spec.network.to_string());
    add("engine", spec.engine.to_string());
    add("restart", spec.restart.to_string());
    for tick in TICKS.iter().filter(|tick| (tick.is_set)(spec)) {
        add(tick.name, "yes".to_owned());
    }
    Form::new(fields)
}

/// Returns what the form has other than the VM: a running one refuses much of what is said again as well.
fn request(form: &mut Form, vm: &Vm) -> VmSetRequest {
    let spec = &vm.spec;
    let labels: BTreeMap<String, String> = lines_of(form, "labels", label).into_iter().collect();
    let removed = spec.labels.keys().filter(|name| !labels.contains_key(*name));
    let removed: Vec<_> = removed.map(|name| (name.clone(), None)).collect();
    let set = labels.into_iter().filter(|(name, value)| spec.labels.get(name) != Some(value));
    VmSetRequest {
        vcpus: form.read("vcpus").filter(|vcpus: &u32| *vcpus != spec.vcpus),
        memory: form.read("memory").filter(|memory: &Mebibytes| *memory != spec.memory),
        disk: form.read("disk").filter(|disk: &Mebibytes| *disk != spec.disk),
        engine: engine(form).filter(|engine| *engine != spec.engine),
        restart: Some(restart(form)).filter(|restart| *restart != spec.restart),
        network: network(form).filter(|network| *network != spec.network),
        automatic_forwards: Some(form.has("automatic_forwards")).filter(|is| *is != spec.automatic_forwards),
        allow_host: Some(form.has("allow_host")).filter(|is| *is != spec.allow_host),
        no_peers: Some(form.has("no_peers")).filter(|is| *is != spec.no_peers),
        labels: set.map(|(name, value)| (name, Some(value))).chain(removed).collect(),
    }
}

fn page(visit: &Visit, vm: &Vm, form: &Form, error: Option<&ApiError>, status: u16) -> Response {
    let back = format!("/vms/{}", vm.name);
    let generation = vm.generation.to_string();
    // Of a form that was sent, the one that it was shown with.
    let generation = form.text("generation").unwrap_or(generation);
    let body = html! {
        (form.summary())
        @if let Some(error) = error { (explain(error)) }
        form method="post" action=(visit.to(&format!("{back}/change"))) {
            (form::key(visit))
            input type="hidden" name="generation" value=(generation);
            section {
                h2 { "Size and engine" }
                @if vm.state.is_alive() {
                    p.hint { "While it runs, these cannot be changed: stop it first." }
                }
                div.columns {
                    (form.line("vcpus", "Virtual CPUs", "a number", "2"))
                    (form.line("memory", "Memory", "as 512M or 2G", "2G"))
                    (form.line("disk", "Disk", "as 20G; it can only grow", "20G"))
                    (form.choice("engine", "Engine", "what runs it; its disk is the same under each", &owned(&[("firecracker", "Firecracker, with KVM"), ("qemu", "QEMU")])))
                    (form.choice("network", "Network", "what it is reached by", &owned(&[("user", "user"), ("nat", "nat"), ("none", "none")])))
                }
            }
            (rest(form))
            p.actions {
                button.primary type="submit" { "Change it" }
                a.button href=(visit.to(&back)) { "Cancel" }
            }
        }
    };
    let title = format!("Change VM {}", vm.name);
    Page::new(&title, body).from(&back, vm.name.as_str()).answer_with(visit, status)
}

fn rest(form: &Form) -> Markup {
    html! {
        section {
            h2 { "Name and rules" }
            div.columns {
                (form.line("name", "Name", "lower-case letters, digits and hyphens; the guest's host name follows at its next start", "web"))
                (form.choice("restart", "Start it again", "after it has ended by itself", &owned(&super::create::RESTARTS)))
                (form.area("labels", "Labels", "one a line: NAME=VALUE; one that is not here is taken away", "project=shop"))
            }
            @for tick in TICKS { (form.tick(tick.name, tick.label)) }
        }
    }
}
