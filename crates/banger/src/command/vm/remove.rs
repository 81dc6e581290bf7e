//! `banger vm rm`.

use super::{Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::RemoveArguments;
use crate::context::Context;

/// Deletes VMs, after asking, and prints the name of each.
pub(in crate::command) async fn remove(context: &Context, arguments: &RemoveArguments) -> Outcome {
    let names = &arguments.vms.names;
    if !arguments.yes && !arguments.force {
        confirm(&format!("Delete {} with all that is on its disk?", quoted(names)))?;
    }
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for (index, name) in names.iter().enumerate() {
        let deleted = async {
            let operation = client.delete_vm(name, arguments.force).await?;
            let Some(operation) = follow_or_print(context, operation, arguments.vms.wait).await? else {
                return Ok(());
            };
            if context.printer.is_json() {
                context.printer.item(&Deleted { deleted: &operation.subject })?;
            } else {
                context.printer.line(&operation.subject)?;
            }
            Ok(())
        };
        failures.note_one_of(context, deleted.await, &names[index + 1..])?;
    }
    failures.outcome()
}
