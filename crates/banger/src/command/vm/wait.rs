//! `banger vm wait`.

use std::time::Duration;

use banger_api::{Client, ClientError};
use banger_types::guest::{ListeningSocket, Transport};
use banger_types::vm::{Vm, VmState};
use banger_types::{ApiError, ErrorKind};
use tokio::task::JoinSet;

use super::{Deleted, Failures, Outcome, print_vm};
use crate::arguments::{Goal, WaitArguments};
use crate::context::Context;
use crate::error::CommandError;

/// Waits for VMs, all at once, and prints the name of each as soon as it is there.
pub(in crate::command) async fn wait(context: &Context, arguments: WaitArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut waiting = JoinSet::new();
    for name in arguments.names {
        waiting.spawn(with_limit(client.clone(), name, arguments.goal, arguments.timeout));
    }
    let mut failures = Failures::default();
    while let Some(ended) = waiting.join_next().await {
        let ended = ended.map_err(|source| CommandError::io("cannot wait", &source))?;
        let told = ended.and_then(|ended| match ended {
            Ended::Reached(vm) => print_vm(context, &vm),
            Ended::Deleted(name) if context.printer.is_json() => {
                Ok(context.printer.item(&Deleted { deleted: &name })?)
            }
            Ended::Deleted(name) => Ok(context.printer.line(&name)?),
        });
        failures.note(context, told)?;
    }
    failures.outcome()
}

const STOPPED: Goal = Goal::State(VmState::Stopped);

/// How a wait ended well.
enum Ended {
    Reached(Box<Vm>),
    Deleted(String),
}

async fn with_limit(
    client: Client,
    name: String,
    wanted: Goal,
    limit: Option<Duration>,
) -> Result<Ended, CommandError> {
    let mut seen = None;
    let until = until(&client, &name, wanted, &mut seen);
    let Some(limit) = limit else { return until.await };
    match tokio::time::timeout(limit, until).await {
        Ok(ended) => ended,
        Err(_) => Err(too_late(&name, wanted, seen, limit)),
    }
}

/// Follows a VM until it is in the wanted state, or can be in it no more. `seen` is its last state.
async fn until(
    client: &Client,
    name: &str,
    wanted: Goal,
    seen: &mut Option<VmState>,
) -> Result<Ended, CommandError> {
    let mut changes = client.watch_vm(name).await?;
    let mut id = None;
    let mut was_alive = false;
    let mut looking = JoinSet::new();
    while let Some(vm) = changes.next().await? {
        match verdict(wanted, &vm, was_alive, seen.is_none()) {
            Verdict::Reached => return Ok(Ended::Reached(Box::new(vm))),
            Verdict::Hopeless => return Err(hopeless(wanted, &vm)),
            Verdict::Wait => {}
        }
        if matches!(wanted, Goal::Port(_)) && vm.state == VmState::Running && looking.is_empty() {
            looking.spawn(look_each_second(client.clone(), vm.id.to_string()));
        }
        was_alive |= vm.state.is_alive();
        *seen = Some(vm.state);
        id = Some(vm.id);
    }
    // The stream ends with the VM, or with the daemon. Its name may be another VM's by now.
    match client.vm(id.as_ref().map_or(name, |id| id.as_str())).await {
        Err(ClientError::Api(error)) if error.kind == ErrorKind::NotFound => {
            if wanted == STOPPED {
                return Ok(Ended::Deleted(name.to_owned()));
            }
            let what = format!("VM '{name}' was deleted; it will not {}", reached(wanted));
            Err(ApiError::new(ErrorKind::NotFound, what).into())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(CommandError::failed(
            ErrorKind::Unreachable,
            format!("bangerd stopped telling about VM '{name}'"),
            format!("banger vm wait {name}"),
        )),
    }
}

/// Looks at what listens in a VM, for as long as its kernel does not tell by itself. What is found, the VM tells.
async fn look_each_second(client: Client, name: String) {
    // A guest that is too busy to answer is asked again.
    while client.vm_ports(&name).await.map_or(true, |ports| !ports.told) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    Wait,
    Hopeless,
}

/// Returns what a state means to a wait.
///
/// A VM that has ended is waited for only if nothing has been seen of it before: whoever starts it may
/// have begun to wait first. One that is being made is shown stopped before its first boot.
fn verdict(wanted: Goal, vm: &Vm, was_alive: bool, is_first: bool) -> Verdict {
    if is_reached(wanted, vm) {
        return Verdict::Reached;
    }
    match vm.state {
        _ if vm.restart_at.is_some() => Verdict::Wait,
        // It has stopped, but not as it should have; nothing more will come.
        VmState::Failed if wanted == STOPPED || !is_first => Verdict::Hopeless,
        VmState::Stopped if was_alive => Verdict::Hopeless,
        _ => Verdict::Wait,
    }
}

fn is_reached(wanted: Goal, vm: &Vm) -> bool {
    match wanted {
        Goal::State(state) => vm.state == state,
        // A VM is said to run when it serves sessions.
        Goal::Ssh => vm.state == VmState::Running,
        Goal::Port(port) => {
            let listens = |socket: &ListeningSocket| socket.protocol == Transport::Tcp && socket.port == port;
            vm.state == VmState::Running && vm.sockets.iter().any(listens)
        }
    }
}

/// Returns what a VM has become that has reached a goal, as the end of a sentence.
fn reached(wanted: Goal) -> String {
    match wanted {
        Goal::State(state) => format!("be {state}"),
        Goal::Ssh => "serve SSH".to_owned(),
        Goal::Port(port) => format!("listen on port {port}"),
    }
}

/// Returns what a VM has not become that has not reached a goal.
fn not_reached(wanted: Goal) -> String {
    match wanted {
        Goal::State(state) => format!("was not {state}"),
        goal => format!("did not {}", reached(goal)),
    }
}

fn hopeless(wanted: Goal, vm: &Vm) -> CommandError {
    let name = &vm.name;
    let became =
        if vm.state == VmState::Failed { "has failed".to_owned() } else { format!("is {}", vm.state) };
    let what = format!("VM '{name}' {became}; waited for it to {}", reached(wanted));
    let mut error = ApiError::new(ErrorKind::Failed, what);
    error.why.extend(vm.reason.clone());
    error.fix(format!("see what became of it: banger vm logs {name}")).into()
}

fn too_late(name: &str, wanted: Goal, seen: Option<VmState>, limit: Duration) -> CommandError {
    let seconds = limit.as_secs();
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let what = format!("VM '{name}' {} after {seconds} {unit}", not_reached(wanted));
    let error = ApiError::new(ErrorKind::Failed, what);
    let error = match seen {
        Some(seen) => error.because(format!("it is {seen}")),
        None => error.because("bangerd said nothing about it"),
    };
    error.fix(format!("banger vm show {name}")).into()
}
