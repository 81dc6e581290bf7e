//! `banger op …`.

use banger_types::ErrorKind;
use banger_types::operation::{Asker, Operation, Progress, Unit};
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::{DONE, Outcome};
use crate::arguments::{IdArguments, ListArguments, WatchArguments};
use crate::context::Context;
use crate::printer::{Table, ago, duration};
use crate::progress;

/// Lists operations.
pub(super) async fn list(context: &Context, arguments: &ListArguments) -> Outcome {
    let operations = context.daemon().await?.operations().await?;
    if context.printer.is_json() {
        context.printer.document(&operations)?;
    } else if arguments.quiet {
        context.printer.lines(operations.iter().map(|operation| operation.id.as_str()))?;
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(["ID", "KIND", "SUBJECT", "STATUS", "BEGAN", "PHASE"]);
        for operation in operations {
            table.row([
                operation.id.to_string(),
                operation.kind.describe().to_owned(),
                operation.subject.clone(),
                operation.status.to_string(),
                ago(operation.created_at, now),
                phase(&operation),
            ]);
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}

/// Shows everything about an operation.
pub(super) async fn show(context: &Context, arguments: &IdArguments) -> Outcome {
    let operation = context.daemon().await?.operation(&arguments.id).await?;
    if context.printer.is_json() {
        context.printer.document(&operation)?;
        return Ok(DONE);
    }
    let now = Timestamp::now();
    let mut table = Table::of_properties();
    table.property("Id", operation.id.to_string());
    table.property("Kind", operation.kind.describe());
    table.property("Subject", operation.subject.clone());
    table.property("Status", operation.status.to_string());
    table.properties("Asked by", operation.asked_by.as_ref().map(asker));
    table.property("Began", ago(operation.created_at, now));
    table.property("Changed", ago(operation.updated_at, now));
    table.property("Phase", phase(&operation));
    let finished = &operation.finished_phases;
    table.properties(
        "Finished",
        finished.iter().map(|p| format!("{} ({})", p.stage, duration(p.duration_ms))),
    );
    if !operation.status.is_final() {
        table.property("Can be cancelled", if operation.may_cancel { "yes" } else { "not now" });
    }
    table.properties("Warning", &operation.warnings);
    if let Some(made) = &operation.made {
        let id = made.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
        table.property("Made", format!("{}{id}", made.name));
    }
    if let Some(pruned) = &operation.pruned {
        let names = pruned.items.iter().map(|item| &*item.name).collect::<Vec<_>>().join(", ");
        let names = if names.is_empty() { names } else { format!(" ({names})") };
        table.property("Deleted", format!("{}{names}", human_bytes(pruned.bytes)));
    }
    if let Some(error) = &operation.error {
        table.property("Error", error.what.clone());
        table.properties("Because", &error.why);
        table.properties("Try", &error.fix);
    }
    context.printer.table(&table)?;
    Ok(DONE)
}

/// Follows an operation; with `--json`, each of its changes is a line.
pub(super) async fn watch(context: &Context, arguments: &WatchArguments) -> Outcome {
    let client = context.daemon().await?;
    if !context.printer.is_json() {
        let operation =
            progress::follow(context, client.operation(&arguments.id).await?, arguments.on_interrupt).await?;
        context.printer.line(&operation.subject)?;
        return Ok(DONE);
    }
    let mut changes = client.watch_operation(&arguments.id).await?;
    let mut last: Option<Operation> = None;
    let gone = |error| progress::left_by_a_daemon(error, &arguments.id);
    while let Some(operation) = changes.next().await.map_err(gone)? {
        context.printer.item(&operation)?;
        last = Some(operation);
    }
    match last {
        Some(operation) if operation.status.is_final() => progress::into_result(operation).map(|_| DONE),
        _ => Err(progress::left(&arguments.id)),
    }
}

/// Cancels an operation and waits until it is undone.
pub(super) async fn cancel(context: &Context, arguments: &IdArguments) -> Outcome {
    let client = context.daemon().await?;
    let operation = client.cancel_operation(&arguments.id).await?;
    let operation = match progress::follow(context, operation, None).await {
        // That is what was wanted.
        Err(error) if error.is(ErrorKind::Cancelled) => client.operation(&arguments.id).await?,
        other => other?,
    };
    if context.printer.is_json() {
        context.printer.document(&operation)?;
    } else {
        context.printer.line(&operation.status.to_string())?;
    }
    Ok(DONE)
}

/// Prints an operation's log.
pub(super) async fn logs(context: &Context, arguments: &IdArguments) -> Outcome {
    let mut pieces = context.daemon().await?.operation_log(&arguments.id).await?;
    let mut log = context.printer.log();
    while let Some(piece) = pieces.next().await? {
        log.write(&piece)?;
    }
    log.finish()?;
    Ok(DONE)
}

fn asker(asker: &Asker) -> String {
    match asker.pid {
        Some(pid) => format!("{}, process {pid}", asker.program),
        None => asker.program.clone(),
    }
}

pub(super) fn phase(operation: &Operation) -> String {
    let Some(progress) = &operation.progress else { return String::new() };
    let counted = match (progress.unit, progress.total) {
        (Unit::Bytes, Some(total)) => format!("{} of {}", human_bytes(progress.done), human_bytes(total)),
        (Unit::Bytes, None) => human_bytes(progress.done),
        (Unit::None, _) => return progress.stage.clone(),
    };
    format!("{} ({counted}{})", progress.stage, pace(progress))
}

/// Returns how quickly it goes and how long that takes, as far as that is known.
fn pace(progress: &Progress) -> String {
    let rate = progress.rate.map(|rate| format!(", {}/s", human_bytes(rate))).unwrap_or_default();
    let left = progress.remaining_ms.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    rate + &left
}
