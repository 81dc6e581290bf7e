//! What is done with a VM.

use axum::extract::Path;
use axum::response::Response;
use banger_types::address::HostPort;
use banger_types::forwards::read_forwards;
use banger_types::size::binary_bytes;
use banger_types::vm::{Vm, VmStopRequest};
use banger_types::{ApiError, ErrorKind};
use maud::{Markup, html};

use crate::answer::{Answer, Trouble};
use crate::form::Form;
use crate::layout::{Page, confirm, explain};
use crate::visit::{Posted, Visit, segment};

/// `POST /vms/NAME/do/ACTION`: what loses nothing.
pub(crate) async fn act(Path((name, action)): Path<(String, String)>, Posted(visit, _): Posted) -> Answer {
    let client = visit.client();
    let operation = match action.as_str() {
        "start" => client.start_vm(&name).await?,
        "stop" => client.stop_vm(&name, &VmStopRequest::default()).await?,
        "restart" => client.restart_vm(&name, &VmStopRequest::default()).await?,
        "pause" => client.pause_vm(&name).await?,
        "resume" => client.resume_vm(&name).await?,
        "trim" => client.trim_vm(&name).await?,
        _ => return Err(Trouble::no_page()),
    };
    Ok(visit.follow(&operation))
}

fn page_of(vm: &Vm) -> String {
    format!("/vms/{}", vm.name)
}

/// Says what is lost with a VM that is deleted when it ends.
fn goes_with_its_end(vm: &Vm) -> Markup {
    html! {
        p {
            "It was made to be deleted when it ends. Lost: everything that was written in it (" (binary_bytes(vm.disk_usage))
            " on its disk), its logs, its keys and its forwards."
        }
    }
}

/// `GET /vms/NAME/stop`: of a VM that goes with its end.
pub(crate) async fn ask_stop(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let back = page_of(&vm);
    let lost = html! {
        p { strong { "⚠ “" (vm.name) "” is stopped" @if vm.spec.remove { ", and deleted with that" } "." } }
        @if vm.spec.remove { (goes_with_its_end(&vm)) }
    };
    let body = confirm(&visit, &format!("{back}/do/stop"), &back, "Stop it", &[], &lost);
    Ok(Page::new(&format!("Stop VM {}?", vm.name), body).from(&back, vm.name.as_str()).answer(&visit))
}

/// `GET /vms/NAME/kill`
pub(crate) async fn ask_kill(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let back = page_of(&vm);
    let lost = html! {
        p { strong { "⚠ “" (vm.name) "” is ended as if its power had failed." } }
        @if vm.spec.remove { (goes_with_its_end(&vm)) } @else {
            p { "Lost: what its programs have in memory, and what they have written and not yet flushed to its disk. Its disk stays." }
        }
        p { "“Stop” on its page asks its guest to go down in order." }
    };
    let body = confirm(&visit, &format!("{back}/kill"), &back, "Kill it", &[], &lost);
    Ok(Page::new(&format!("Kill VM {}?", vm.name), body).from(&back, vm.name.as_str()).answer(&visit))
}

/// `POST /vms/NAME/kill`
pub(crate) async fn kill(Path(name): Path<String>, Posted(visit, _): Posted) -> Answer {
    let operation = visit.client().kill_vm(&name).await?;
    Ok(visit.follow(&operation))
}

/// `GET /vms/NAME/delete`
pub(crate) async fn ask_delete(visit: Visit, Path(name): Path<String>) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let back = page_of(&vm);
    let lost = html! {
        p { strong { "⚠ “" (vm.name) "” is deleted. That cannot be undone." } }
        p {
            "Lost: everything that was written in it (" (binary_bytes(vm.disk_usage)) " on its disk), its logs, its keys and its forwards. "
            "Its image “" (vm.spec.image_name) "” stays."
        }
        @if vm.state.is_alive() { p { "It is " (vm.state) ": it is killed first, with what its programs have in memory." } }
    };
    // The one that was looked at, and no other that may have its name by then.
    let fields = [("id", vm.id.as_str())];
    let body = confirm(&visit, &format!("{back}/delete"), &back, "Delete it", &fields, &lost);
    Ok(Page::new(&format!("Delete VM {}?", vm.name), body).from(&back, vm.name.as_str()).answer(&visit))
}

/// `POST /vms/NAME/delete`
pub(crate) async fn delete(Path(name): Path<String>, Posted(visit, form): Posted) -> Answer {
    let vm = visit.client().vm(&name).await?;
    if vm.id.as_str() != form.get("id") {
        let error = ApiError::new(ErrorKind::Conflict, format!("cannot delete '{name}'"))
            .because("it is another VM by now than the one that was looked at")
            .fix("look at it, and delete it then");
        return Err(error.into());
    }
    let operation = visit.client().delete_vm(vm.id.as_str(), true).await?;
    Ok(visit.follow(&operation))
}

/// `POST /vms/NAME/forwards`
pub(crate) async fn add_forward(Path(name): Path<String>, Posted(visit, mut form): Posted) -> Answer {
    let vm = visit.client().vm(&name).await?;
    let forwards = match read_forwards(form.get("forward")) {
        Ok(forwards) => forwards,
        Err(error) => {
            form.wrong("forward", error.to_string());
            return Ok(forward_page(&visit, &vm, &form, None, &[], 422));
        }
    };
    let mut added = Vec::new();
    for forward in &forwards {
        match visit.client().add_forward(&name, forward).await {
            Ok(forward) => {
                added.push(format!("{} leads to port {} of the VM", forward.listen, forward.guest_port));
            }
            Err(error) => {
                let trouble = Trouble::from(error);
                return Ok(forward_page(&visit, &vm, &form, Some(&trouble.error), &added, trouble.status));
            }
        }
    }
    Ok(visit.go(&page_of(&vm), format!("{}.", added.join(", "))))
}

/// Returns the form of a forward that could not be added, or of a range of which only some could.
fn forward_page(
    visit: &Visit,
    vm: &Vm,
    form: &Form,
    error: Option<&ApiError>,
    added: &[String],
    status: u16,
) -> Response {
    let back = page_of(vm);
    let body = html! {
        (form.summary())
        @if let Some(error) = error { (explain(error)) }
        @if !added.is_empty() { p.notice.warn { "⚠ Of these, some were added before: " (added.join(", ")) "." } }
        section {
            (super::vm::add_forward(visit, vm.name.as_str(), form))
            p.actions { a.button href=(visit.to(&back)) { "Cancel" } }
        }
    };
    let title = format!("Add a forward to VM {}", vm.name);
    Page::new(&title, body).from(&back, vm.name.as_str()).answer_with(visit, status)
}

/// `POST /vms/NAME/forwards/remove`
pub(crate) async fn remove_forward(Path(name): Path<String>, Posted(visit, form): Posted) -> Answer {
    let listen: HostPort = form
        .get("listen")
        .parse()
        .map_err(|error| ApiError::caused_by(ErrorKind::Usage, "cannot remove a forward", &error))?;
    visit.client().remove_forward(&name, listen).await?;
    Ok(visit.go(&format!("/vms/{}", segment(&name)), format!("{listen} leads to the VM no more.")))
}
