//! `banger completion`.

use clap::CommandFactory as _;
use serde::Serialize;

use super::{DONE, Outcome};
use crate::arguments::{Arguments, CompletionArguments};
use crate::context::Context;

/// What `banger completion SHELL --json` prints.
#[derive(Debug, Serialize)]
struct Completion {
    shell: String,
    script: String,
}

/// Prints the script that completes command lines in a shell.
pub(super) fn completion(context: &Context, arguments: &CompletionArguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "banger", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if context.printer.is_json() {
        context.printer.document(&Completion { shell: arguments.shell.to_string(), script })?;
    } else {
        context.printer.text(&script)?;
    }
    Ok(DONE)
}
