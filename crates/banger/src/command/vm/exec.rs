//! `banger vm exec`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use banger_session::{Program, SessionRequest};
use banger_types::bytes::ByteString;
use banger_types::guest::ExecRequest;

use super::Outcome;
use crate::arguments::{ExecArguments, SessionOptions};
use crate::context::Context;
use crate::session;

/// Runs a command in a VM and returns its exit code.
pub(in crate::command) async fn exec(context: &Context, arguments: &ExecArguments) -> Outcome {
    let name = arguments.name();
    let target = context.daemon().await?.session(&name).await?;
    let request = exact(arguments.command(), arguments.variables(), &arguments.session);
    session::perform(&target, request).await.map_err(|error| error.in_vm(target.name.as_str()))
}

/// Returns the request for exactly this command.
pub(super) fn exact(
    command: &[OsString],
    environment: Vec<(ByteString, ByteString)>,
    options: &SessionOptions,
) -> SessionRequest {
    let bytes = |text: &OsString| ByteString(text.as_bytes().to_vec());
    SessionRequest {
        program: Program::Command(ExecRequest {
            argv: command.iter().map(bytes).collect(),
            environment,
            directory: options.directory.as_ref().map(bytes),
        }),
        user: options.user.clone(),
        terminal: options.tty.then(session::current_terminal),
        agent: None,
    }
}
