//! `banger system df`, `banger system prune`, and the same for images alone.

use std::collections::BTreeMap;

use banger_types::size::human_bytes;
use banger_types::space::{PruneRequest, PruneRules, Pruned, SpaceItem, SpaceKind, SpaceName, SpaceUsage};

use super::{DONE, Outcome, confirm, follow_or_print};
use crate::arguments::{DfArguments, PruneArguments, WaitOptions};
use crate::context::Context;
use crate::printer::Table;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    /// Images and the layers that they were made of.
    Images,
}

impl Scope {
    const fn has(self, kind: SpaceKind) -> bool {
        match self {
            Self::Everything => true,
            Self::Images => matches!(kind, SpaceKind::Image | SpaceKind::Layer),
        }
    }
}

/// Shows what takes space.
pub(super) async fn usage(context: &Context, arguments: &DfArguments, scope: Scope) -> Outcome {
    let mut usage = context.daemon().await?.space().await?;
    usage.items.retain(|item| scope.has(item.kind));
    if scope != Scope::Everything {
        usage.total = usage.items.iter().map(|item| item.bytes).sum();
    }
    if context.printer.is_json() {
        context.printer.document(&usage)?;
    } else if arguments.verbose || scope == Scope::Images {
        context.printer.table(&by_item(&usage.items, usage.total))?;
    } else {
        context.printer.table(&by_kind(&usage))?;
    }
    Ok(DONE)
}

fn by_kind(usage: &SpaceUsage) -> Table {
    let mut kinds: BTreeMap<SpaceKind, Vec<&SpaceItem>> = BTreeMap::new();
    for item in &usage.items {
        kinds.entry(item.kind).or_default().push(item);
    }
    let mut table = Table::new(["WHAT", "COUNT", "SIZE", "CAN GO"]);
    let sum = |items: &[&SpaceItem]| items.iter().map(|item| item.bytes).sum();
    for (kind, items) in kinds {
        let going: Vec<_> = items.iter().copied().filter(|item| item.may_go).collect();
        let is_counted = !matches!(kind, SpaceKind::Layer | SpaceKind::Cache | SpaceKind::Own);
        let count = if is_counted { items.len().to_string() } else { String::new() };
        let can_go = if going.is_empty() { String::new() } else { human_bytes(sum(&going)) };
        table.row([plural(kind).to_owned(), count, human_bytes(sum(&items)), can_go]);
    }
    let going: Vec<_> = usage.items.iter().filter(|item| item.may_go).collect();
    table.row(["all".to_owned(), String::new(), human_bytes(usage.total), human_bytes(sum(&going))]);
    table.row(["free".to_owned(), String::new(), human_bytes(usage.available), String::new()]);
    table
}

fn by_item(items: &[SpaceItem], total: u64) -> Table {
    let mut table = Table::new(["WHAT", "NAME", "SIZE", "CAN GO", "USED BY"]);
    for item in items {
        let can_go = if item.may_go { "yes" } else { "no" };
        table.row([
            singular(item.kind).to_owned(),
            item.name.clone(),
            human_bytes(item.bytes),
            can_go.to_owned(),
            item.used_by.join(", "),
        ]);
    }
    table.row(["all", "", &human_bytes(total), "", ""].map(str::to_owned));
    table
}

const fn plural(kind: SpaceKind) -> &'static str {
    match kind {
        SpaceKind::Image => "images",
        SpaceKind::Kernel => "kernels",
        SpaceKind::Vm => "VMs",
        SpaceKind::Layer => "layers",
        SpaceKind::Engine => "engines",
        SpaceKind::Cache => "caches",
        SpaceKind::Own => "banger's own",
    }
}

const fn singular(kind: SpaceKind) -> &'static str {
    match kind {
        SpaceKind::Image => "image",
        SpaceKind::Kernel => "kernel",
        SpaceKind::Vm => "VM",
        SpaceKind::Layer => "layers",
        SpaceKind::Engine => "engine",
        SpaceKind::Cache => "cache",
        SpaceKind::Own => "banger's own",
    }
}

/// Deletes what nobody uses, after showing it and asking.
pub(super) async fn prune(context: &Context, arguments: &PruneArguments, scope: Scope) -> Outcome {
    let rules = PruneRules {
        images_only: scope == Scope::Images,
        all: arguments.all,
        older_than_seconds: arguments.older_than,
        keep: arguments.keep,
    };
    let client = context.daemon().await?;
    if arguments.yes && !arguments.dry_run {
        return take(context, &PruneRequest { rules, only: None }, arguments.wait).await;
    }
    let plan = client.prunable(&rules).await?;
    if arguments.dry_run || plan.items.is_empty() {
        return shown(context, &plan);
    }
    if context.printer.is_json() {
        // There is one document, of what is gone.
        let names: Vec<_> = plan.items.iter().map(|item| &*item.name).collect();
        confirm(&format!("Delete {} ({})?", names.join(", "), human_bytes(plan.bytes)))?;
    } else {
        shown(context, &plan)?;
        confirm("Delete all of that?")?;
    }
    // Not what has become idle since.
    let names = plan.items.into_iter().map(|SpaceItem { kind, name, id, .. }| SpaceName { kind, name, id });
    let request = PruneRequest { rules, only: Some(names.collect()) };
    take(context, &request, arguments.wait).await
}

/// Has it taken away, and shows what of it is gone: also when that was not all, or somebody has cancelled it.
async fn take(context: &Context, request: &PruneRequest, wait: WaitOptions) -> Outcome {
    let was_shown = request.only.is_some() && !context.printer.is_json();
    let show = |pruned: &Pruned| if was_shown { Ok(sum_up(context, pruned)) } else { shown(context, pruned) };
    let client = context.daemon().await?;
    let operation = client.prune(request).await?;
    let id = operation.id.clone();
    match follow_or_print(context, operation, wait).await {
        Ok(None) => Ok(DONE),
        Ok(Some(operation)) => show(&operation.pruned.unwrap_or_default()),
        Err(error) => {
            let ended = client.operation(id.as_str()).await.ok().filter(|it| it.status.is_final());
            let pruned = ended.and_then(|operation| operation.pruned);
            if let Some(pruned) = pruned.filter(|pruned| !pruned.items.is_empty()) {
                show(&pruned)?;
            }
            Err(error)
        }
    }
}

fn warn(context: &Context, pruned: &Pruned) {
    for note in &pruned.notes {
        context.printer.warning(note);
    }
}

/// Says how much is gone of what was shown before.
fn sum_up(context: &Context, pruned: &Pruned) -> u8 {
    warn(context, pruned);
    context.printer.note(&format!("deleted {}", human_bytes(pruned.bytes)));
    DONE
}

/// Prints what is gone, or would be.
fn shown(context: &Context, pruned: &Pruned) -> Outcome {
    warn(context, pruned);
    if context.printer.is_json() {
        context.printer.document(pruned)?;
    } else if pruned.items.is_empty() {
        context.printer.note("there is nothing to delete");
    } else {
        context.printer.table(&by_item(&pruned.items, pruned.bytes))?;
    }
    Ok(DONE)
}
