//! `banger kernel …`.

use banger_api::request::PullRequest;
use banger_types::ErrorKind;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::{DeleteArguments, ListArguments, PullArguments};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{Table, ago};

/// Lists kernels.
pub(super) async fn list(context: &Context, arguments: &ListArguments) -> Outcome {
    let kernels = context.daemon().await?.kernels().await?;
    if context.printer.is_json() {
        context.printer.document(&kernels)?;
    } else if arguments.quiet {
        kernels.iter().try_for_each(|kernel| context.printer.line(&kernel.name))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(["NAME", "ID", "RELEASE", "ON DISK", "CREATED", "SOURCE"]);
        for kernel in kernels {
            table.row([
                kernel.name,
                kernel.id.to_string(),
                kernel.release,
                human_bytes(kernel.disk_usage),
                ago(kernel.created_at, now),
                kernel.source,
            ]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Makes a kernel and prints its name.
pub(super) async fn pull(context: &Context, arguments: PullArguments) -> Outcome {
    let client = context.daemon().await?;
    let request = PullRequest { source: arguments.source, name: arguments.name };
    let operation = client.pull_kernel(&request).await?;
    let Some(operation) = follow_or_print(context, operation, arguments.wait).await? else {
        return Ok(DONE);
    };
    if context.printer.is_json() {
        let name = &operation.subject;
        let kernel = client.kernels().await?.into_iter().find(|kernel| kernel.name == *name);
        let kernel = kernel.ok_or_else(|| {
            CommandError::failed(
                ErrorKind::NotFound,
                format!("kernel '{name}' was made and is gone again"),
                "banger kernel ls",
            )
        })?;
        context.printer.document(&kernel)?;
    } else {
        context.printer.line(&operation.subject)?;
    }
    Ok(DONE)
}

/// Deletes kernels, after asking.
pub(super) async fn remove(context: &Context, arguments: &DeleteArguments) -> Outcome {
    if !arguments.yes {
        confirm(&format!("Delete kernel {}?", quoted(&arguments.names)))?;
    }
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for name in &arguments.names {
        let deleted = async {
            client.delete_kernel(name).await?;
            if context.printer.is_json() {
                context.printer.item(&Deleted { deleted: name })?;
            } else {
                context.printer.line(name)?;
            }
            Ok(())
        };
        failures.note(context, deleted.await)?;
    }
    failures.outcome()
}
