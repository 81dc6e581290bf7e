//! `banger image …`.

use banger_api::request::PullRequest;
use banger_types::ErrorKind;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::{DONE, Deleted, Failures, Outcome, confirm, follow_or_print, quoted};
use crate::arguments::{DeleteArguments, ListArguments, PullArguments};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{Table, ago};

/// Lists images.
pub(super) async fn list(context: &Context, arguments: &ListArguments) -> Outcome {
    let images = context.daemon().await?.images().await?;
    if context.printer.is_json() {
        context.printer.document(&images)?;
    } else if arguments.quiet {
        images.iter().try_for_each(|image| context.printer.line(&image.name))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(["NAME", "ID", "SIZE", "ON DISK", "CREATED", "SOURCE"]);
        for image in images {
            table.row([
                image.name,
                image.id.to_string(),
                human_bytes(image.size),
                human_bytes(image.disk_usage),
                ago(image.created_at, now),
                image.source,
            ]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Makes an image and prints its name.
pub(super) async fn pull(context: &Context, arguments: PullArguments) -> Outcome {
    let client = context.daemon().await?;
    let request = PullRequest { source: arguments.source, name: arguments.name };
    let operation = client.pull_image(&request).await?;
    let Some(operation) = follow_or_print(context, operation, arguments.wait).await? else {
        return Ok(DONE);
    };
    if context.printer.is_json() {
        let name = &operation.subject;
        let image = client.images().await?.into_iter().find(|image| image.name == *name);
        let image = image.ok_or_else(|| {
            CommandError::failed(
                ErrorKind::NotFound,
                format!("image '{name}' was made and is gone again"),
                "banger image ls",
            )
        })?;
        context.printer.document(&image)?;
    } else {
        context.printer.line(&operation.subject)?;
    }
    Ok(DONE)
}

/// Deletes images, after asking.
pub(super) async fn remove(context: &Context, arguments: &DeleteArguments) -> Outcome {
    if !arguments.yes {
        confirm(&format!("Delete image {}?", quoted(&arguments.names)))?;
    }
    let client = context.daemon().await?;
    let mut failures = Failures::default();
    for name in &arguments.names {
        let deleted = async {
            client.delete_image(name).await?;
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
