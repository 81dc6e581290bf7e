//! `banger vm run`.

use std::io::IsTerminal as _;

use banger_api::Client;
use banger_session::{Program, SessionRequest};
use banger_types::ErrorKind;
use banger_types::vm::VmCreateRequest;

use super::create::machine_request;
use super::exec::exact;
use super::{DONE, Outcome, follow_and_print_vm};
use crate::arguments::{RunArguments, WaitOptions};
use crate::context::Context;
use crate::error::CommandError;
use crate::progress;
use crate::session;

/// Makes a VM, runs a command or a login shell in it, and returns its exit code.
///
/// With `--rm` the daemon deletes the VM as soon as this process ends, however it ends. Deleting it
/// here as well is what lets the command return only when it is gone.
pub(in crate::command) async fn run(context: &Context, arguments: RunArguments) -> Outcome {
    if arguments.service {
        return service(context, arguments).await;
    }
    let session = request(&arguments)?;
    let create =
        VmCreateRequest { name: arguments.name, remove: arguments.rm, ..machine_request(arguments.machine)? };
    let on_interrupt = arguments.on_interrupt;
    let client = context.daemon().await?;
    let operation = client.create_vm(&create).await?;
    // With --rm it is this process that the VM lives as long as.
    let followed = if arguments.rm {
        progress::follow_to_the_end(context, operation, on_interrupt).await
    } else {
        progress::follow(context, operation, on_interrupt).await
    };
    let name = match followed {
        Ok(operation) => operation.subject,
        // The user waits no longer; the program that was wanted has not run.
        Err(CommandError::Reported(_)) => return Err(CommandError::Reported(125)),
        Err(error) => return Err(error),
    };
    let outcome = in_vm(client, &name, session).await;
    if arguments.rm {
        let removed = delete(context, client, &name).await;
        // The program's own end is what the user asked about, unless only the deletion failed.
        return outcome.and_then(|code| removed.map(|()| code));
    }
    outcome
}

/// Makes a VM that runs the image's own command from every boot on, and prints its name.
async fn service(context: &Context, arguments: RunArguments) -> Outcome {
    if !arguments.command.is_empty() {
        return Err(CommandError::usage(
            "a service is the image's own command, and takes no other",
            "leave CMD out, or leave --service out; a service of another command needs an image that names it",
        ));
    }
    let create =
        VmCreateRequest { name: arguments.name, service: true, ..machine_request(arguments.machine)? };
    let on_interrupt = arguments.on_interrupt;
    let operation = context.daemon().await?.create_vm(&create).await?;
    follow_and_print_vm(context, operation, WaitOptions { no_wait: false, on_interrupt }).await?;
    Ok(DONE)
}

fn request(arguments: &RunArguments) -> Result<SessionRequest, CommandError> {
    let options = &arguments.session;
    if !arguments.command.is_empty() {
        // The environment is the VM's, and so in every session already.
        return Ok(exact(&arguments.command, Vec::new(), options));
    }
    if options.directory.is_some() {
        return Err(CommandError::usage(
            "a login shell starts in the user's home; -w needs a command",
            "-w DIR CMD",
        ));
    }
    let tty = options.tty || std::io::stdin().is_terminal();
    Ok(SessionRequest {
        program: Program::Shell,
        user: options.user.clone(),
        terminal: tty.then(session::current_terminal),
        agent: None,
    })
}

async fn in_vm(client: &Client, name: &str, request: SessionRequest) -> Outcome {
    let target = client.session(name).await?;
    session::perform(&target, request).await.map_err(|error| error.in_vm(name))
}

async fn delete(context: &Context, client: &Client, name: &str) -> Result<(), CommandError> {
    let deleted = async {
        let operation = client.delete_vm(name, true).await?;
        progress::quietly(context, operation).await
    };
    match deleted.await {
        // The VM ended by itself, and the daemon was quicker.
        Err(error) if error.is(ErrorKind::NotFound) => Ok(()),
        other => other.map(drop),
    }
}
