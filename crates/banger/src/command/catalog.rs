//! What can be had by name.

use banger_types::catalog::{Catalog, CatalogEntry};

use super::{DONE, Outcome};
use crate::arguments::ListArguments;
use crate::context::Context;
use crate::printer::Table;

/// Lists the images or the kernels of the catalog.
pub(super) async fn list(
    context: &Context,
    arguments: &ListArguments,
    of: fn(Catalog) -> Vec<CatalogEntry>,
) -> Outcome {
    let catalog = context.daemon().await?.catalog().await?;
    for problem in &catalog.problems {
        context.printer.warning(problem);
    }
    let entries = of(catalog);
    if context.printer.is_json() {
        context.printer.document(&entries)?;
    } else if arguments.quiet {
        context.printer.lines(entries.iter().map(|entry| &*entry.name))?;
    } else {
        let shows_kernels = entries.iter().any(|entry| entry.kernel.is_some());
        let mut table = if shows_kernels {
            Table::new(["NAME", "HERE", "KERNEL", "DESCRIPTION", "SOURCES"])
        } else {
            Table::new(["NAME", "HERE", "DESCRIPTION", "SOURCES"])
        };
        for entry in entries {
            let name = if entry.is_default { format!("{} (default)", entry.name) } else { entry.name };
            let here = if entry.is_here { "yes" } else { "no" };
            let kernel = shows_kernels.then(|| entry.kernel.unwrap_or_default());
            let rest = [entry.description, entry.sources.join(", ")];
            table.row([name, here.to_owned()].into_iter().chain(kernel).chain(rest));
        }
        context.printer.table(&table)?;
    }
    Ok(DONE)
}
