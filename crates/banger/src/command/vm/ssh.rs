//! `banger vm ssh`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use banger_session::{Program, SessionRequest};

use super::Outcome;
use crate::arguments::SshArguments;
use crate::context::Context;
use crate::error::CommandError;
use crate::session;

/// Opens a login shell, or runs a command line, and returns its exit code.
pub(in crate::command) async fn ssh(context: &Context, arguments: &SshArguments) -> Outcome {
    let agent = if arguments.forward_agent { Some(agent_socket()?) } else { None };
    let target = context.daemon().await?.session(&arguments.name).await?;
    let (program, tty) = match arguments.command_line() {
        Some(line) => (Program::CommandLine(line), arguments.tty),
        None => (Program::Shell, arguments.tty || std::io::stdin().is_terminal()),
    };
    let terminal = tty.then(session::current_terminal);
    let request = SessionRequest { program, user: arguments.user.clone(), terminal, agent };
    session::perform(&target, request).await.map_err(|error| error.in_vm(target.name.as_str()))
}

fn agent_socket() -> Result<PathBuf, CommandError> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| {
        CommandError::usage("there is no SSH agent to forward: SSH_AUTH_SOCK is not set", "eval $(ssh-agent)")
    })
}
