//! `banger vm run`.

use std::io::IsTerminal as _;

use banger_api::Client;
use banger_types::ErrorKind;
use banger_types::vm::VmCreateRequest;

use super::Outcome;
use super::create::machine_request;
use super::exec::exact;
use crate::arguments::RunArguments;
use crate::context::Context;
use crate::error::CommandError;
use crate::progress;
use crate::session::{self, Program, SessionRequest};

/// Makes a VM, runs a command or a login shell in it, and returns its exit code.
///
/// With `--rm` the daemon deletes the VM as soon as this process ends, however it ends. Deleting it
/// here as well is what lets the command return only when it is gone.
pub(in crate::command) async fn run(context: &Context, arguments: RunArguments) -> Outcome {
    let session = request(&arguments)?;
    let create =
        VmCreateRequest { name: arguments.name, remove: arguments.rm, ..machine_request(arguments.machine)? };
    let client = context.daemon().await?;
    let operation = client.create_vm(&create).await?;
    let name = match progress::follow(context, operation).await {
        Ok(operation) => operation.subject,
        // The operation goes on, but the program that was wanted has not run.
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
    Ok(SessionRequest { program: Program::Shell, user: options.user.clone(), tty, agent: None })
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
