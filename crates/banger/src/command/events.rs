//! `banger events`.

use banger_api::request::EventQuery;
use banger_types::event::{Change, Event, EventKind};
use banger_types::operation::Operation;

use super::Outcome;
use super::operation::phase;
use crate::arguments::EventsArguments;
use crate::context::Context;
use crate::error::CommandError;

/// Prints what changes until it is interrupted, or the daemon ends.
pub(super) async fn events(context: &Context, arguments: EventsArguments) -> Outcome {
    let kinds: Vec<_> = arguments.kind.iter().map(|kind| kind.as_str()).collect();
    let query = EventQuery {
        kind: (!kinds.is_empty()).then(|| kinds.join(",")),
        vm: arguments.vm,
        operation: None,
        current: arguments.current,
        after: arguments.after,
    };
    let mut events = context.daemon().await?.events(&query).await?;
    while let Some(event) = events.next().await? {
        if context.printer.is_json() {
            context.printer.item(&event)?;
        } else if let Some(line) = line(&event) {
            context.printer.line(&line)?;
        } else if event.change == Change::Missed {
            context.printer.warning("some events were missed");
        }
    }
    Err(CommandError::failed(
        banger_types::ErrorKind::Unreachable,
        "bangerd ended, and with it its events",
        "banger events",
    ))
}

/// Returns an event as people read it: when, about what, about which, and what.
fn line(event: &Event) -> Option<String> {
    let (name, became) = match &event.change {
        Change::Operation { operation } => (operation.subject.as_str(), of_operation(operation)),
        Change::Vm { vm } => (vm.name.as_str(), vm.state.to_string()),
        Change::Image { image } => (image.name.as_str(), "there".to_owned()),
        Change::Kernel { kernel } => (kernel.name.as_str(), "there".to_owned()),
        Change::VmDeleted { gone } | Change::ImageDeleted { gone } | Change::KernelDeleted { gone } => {
            (gone.name.as_str(), "deleted".to_owned())
        }
        Change::Current | Change::Missed => return None,
    };
    let about = event.change.kind().map_or("", EventKind::as_str);
    let at = event.at.strftime("%H:%M:%S%.3f");
    Some(format!("{at} {about:<9} {name} {became}"))
}

fn of_operation(operation: &Operation) -> String {
    let phase = Some(phase(operation)).filter(|it| !it.is_empty() && !operation.status.is_final());
    let phase = phase.map(|phase| format!(": {phase}")).unwrap_or_default();
    format!("{} {}, {}{phase}", operation.id, operation.kind.describe(), operation.status)
}
