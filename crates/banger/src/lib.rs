//! Real virtual machines for developers, in about the time a container takes: the command line.
//!
//! - [`arguments`]: what can be typed, as data.
//! - `command`: one file for each verb.
//! - `daemon`: reaching `bangerd`, and starting it.
//! - `session`: SSH into a guest, past the daemon, straight to the VM's monitor. `sftp`: files over it.
//!   `transfer`: copies of files and directories, both ways.
//! - `progress`: following an operation. `printer`: everything that is printed. `error`: the one
//!   error type, turned into an exit code here and nowhere else.

pub mod arguments;
mod command;
mod context;
mod daemon;
mod error;
mod printer;
mod progress;
mod session;
mod sftp;
mod transfer;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::Printer;

/// Reads the command line, does what it says, and returns the process's exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printer = Printer::new(arguments.json);
    ExitCode::from(run(arguments, printer))
}

fn run(arguments: Arguments, printer: Printer) -> u8 {
    let in_session = arguments.command.is_session();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let error = CommandError::io("cannot start", &source);
            return error.report(printer, in_session);
        }
    };
    let code = match Context::new(printer) {
        Ok(context) => runtime.block_on(async {
            match command::execute(&context, arguments.command).await {
                Ok(code) => code,
                Err(error) => context.explain(error).report(context.printer, in_session),
            }
        }),
        Err(error) => error.report(printer, in_session),
    };
    // Waiting for the threads of the pool could mean waiting for a terminal.
    runtime.shutdown_background();
    code
}
