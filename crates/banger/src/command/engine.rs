//! Engines, as `banger engine …` shows them.

use banger_api::request::EngineInstallRequest;
use banger_types::engine::EngineStatus;

use super::{DONE, Outcome, follow_or_print};
use crate::arguments::{EngineInstallArguments, ListArguments};
use crate::context::Context;
use crate::printer::Table;

/// Lists them.
pub(super) async fn list(context: &Context, arguments: &ListArguments) -> Outcome {
    let engines = context.daemon().await?.engines().await?;
    if context.printer.is_json() {
        context.printer.document(&engines)?;
    } else if arguments.quiet {
        let usable = engines.iter().filter(|engine| engine.problem.is_none());
        let names: Vec<String> = usable.map(|engine| engine.kind.to_string()).collect();
        context.printer.lines(names.iter().map(String::as_str))?;
    } else {
        let mut table = Table::new(["NAME", "VERSION", "PROGRAM"]);
        for engine in &engines {
            let program = match &engine.program {
                Some(program) => program.display().to_string(),
                None => engine.problem.clone().unwrap_or_default(),
            };
            table.row([engine.kind.to_string(), engine.version.clone().unwrap_or_default(), program]);
        }
        context.printer.table(&table)?;
        for engine in &engines {
            if let Some(fix) = &engine.fix {
                context.printer.note(&format!("{}: {fix}", engine.kind));
            }
        }
    }
    Ok(DONE)
}

/// Installs one and prints which one it is.
pub(super) async fn install(context: &Context, arguments: EngineInstallArguments) -> Outcome {
    let client = context.daemon().await?;
    let request =
        EngineInstallRequest { engine: arguments.engine, url: arguments.url, digest: arguments.sha256 };
    let operation = client.install_engine(&request).await?;
    if follow_or_print(context, operation, arguments.wait).await?.is_none() {
        return Ok(DONE);
    }
    let engines = client.engines().await?;
    let installed = engines.iter().filter(|engine| engine.kind == arguments.engine);
    for engine in installed {
        if context.printer.is_json() {
            context.printer.document(engine)?;
        } else {
            context.printer.line(&line(engine))?;
        }
    }
    Ok(DONE)
}

fn line(engine: &EngineStatus) -> String {
    let words = [Some(engine.kind.to_string()), engine.version.clone(), engine.problem.clone()];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
