//! `banger vm forward …`.

use banger_api::Client;
use banger_types::ErrorKind;
use banger_types::monitor::Forward;

use super::list::forward as shown;
use super::{DONE, Deleted, Failures, Outcome};
use crate::arguments::{ForwardArguments, NameArguments};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::Table;

/// Lists a VM's forwards.
pub(in crate::command) async fn list_forwards(context: &Context, arguments: &NameArguments) -> Outcome {
    let forwards = context.daemon().await?.forwards(&arguments.name).await?;
    if context.printer.is_json() {
        context.printer.document(&forwards)?;
    } else {
        let mut table = Table::new(["HOST", "GUEST"]);
        for forward in forwards {
            table.row([forward.listen.to_string(), forward.guest_port.to_string()]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Adds forwards and prints each with the port that it has.
pub(in crate::command) async fn add_forwards(context: &Context, arguments: &ForwardArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for forward in arguments.forwards.iter().flat_map(|forwards| &forwards.0) {
        let added = async {
            let forward = client.add_forward(&arguments.name, forward).await?;
            if context.printer.is_json() {
                context.printer.item(&forward)?;
            } else {
                context.printer.line(&shown(&forward))?;
            }
            Ok(())
        };
        failures.note(context, added.await)?;
    }
    failures.outcome()
}

/// Ends forwards and prints each.
pub(in crate::command) async fn remove_forwards(context: &Context, arguments: &ForwardArguments) -> Outcome {
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for forward in arguments.forwards.iter().flat_map(|forwards| &forwards.0) {
        let removed = async {
            remove(client, &arguments.name, forward).await?;
            let text = shown(forward);
            if context.printer.is_json() {
                context.printer.item(&Deleted { deleted: &text })?;
            } else {
                context.printer.line(&text)?;
            }
            Ok(())
        };
        failures.note(context, removed.await)?;
    }
    failures.outcome()
}

/// Ends a forward, if it leads where the user thinks that it does.
async fn remove(client: &Client, name: &str, forward: &Forward) -> Result<(), CommandError> {
    let forwards = client.forwards(name).await?;
    let present = forwards.iter().find(|present| present.listen == forward.listen);
    if let Some(present) = present.filter(|present| present.guest_port != forward.guest_port) {
        let what = format!("VM '{name}' has no forward {}, but {}", shown(forward), shown(present));
        return Err(CommandError::failed(
            ErrorKind::NotFound,
            what,
            format!("banger vm forward rm {name} {present}"),
        ));
    }
    Ok(client.remove_forward(name, forward.listen).await?)
}
