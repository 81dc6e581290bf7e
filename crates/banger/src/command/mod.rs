//! One file for each verb or noun, and the table that leads to them.

mod artifact;
mod catalog;
mod completion;
mod config;
mod daemon;
mod engine;
mod events;
mod image;
mod input;
mod kernel;
mod operation;
mod space;
mod ssh_config;
mod version;
mod vm;
mod web;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::operation::Operation;
use serde::Serialize;

use self::space::Scope;
use crate::arguments::{
    Command, DaemonCommand, EngineCommand, ForwardCommand, ImageCommand, KernelCommand, OperationCommand,
    SystemCommand, VmCommand, WaitOptions,
};
use crate::context::Context;
use crate::error::CommandError;
use crate::progress;

/// What a command comes to: an exit code, or why it did not work.
type Outcome = Result<u8, CommandError>;

/// Exit code of success.
const DONE: u8 = 0;

/// Does what was typed and returns the exit code.
pub(crate) async fn execute(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Vm(command) => virtual_machine(context, command).await,
        Command::Image(command) => match command {
            ImageCommand::Ls(arguments) => artifact::list::<Image>(context, &arguments).await,
            ImageCommand::Show(arguments) => artifact::show::<Image>(context, &arguments).await,
            ImageCommand::Pull(arguments) => artifact::pull::<Image>(context, arguments).await,
            ImageCommand::Register(arguments) => image::register(context, arguments).await,
            ImageCommand::Rm(arguments) => artifact::remove::<Image>(context, &arguments).await,
            ImageCommand::Df(arguments) => space::usage(context, &arguments, Scope::Images).await,
            ImageCommand::Prune(arguments) => space::prune(context, &arguments, Scope::Images).await,
            ImageCommand::Catalog(arguments) => catalog::list(context, &arguments, |it| it.images).await,
        },
        Command::Kernel(command) => match command {
            KernelCommand::Ls(arguments) => artifact::list::<Kernel>(context, &arguments).await,
            KernelCommand::Show(arguments) => artifact::show::<Kernel>(context, &arguments).await,
            KernelCommand::Pull(arguments) => artifact::pull::<Kernel>(context, arguments).await,
            KernelCommand::Register(arguments) => kernel::register(context, arguments).await,
            KernelCommand::Rm(arguments) => artifact::remove::<Kernel>(context, &arguments).await,
            KernelCommand::Catalog(arguments) => catalog::list(context, &arguments, |it| it.kernels).await,
        },
        Command::Engine(command) => match command {
            EngineCommand::Ls(arguments) => engine::list(context, &arguments).await,
            EngineCommand::Install(arguments) => engine::install(context, arguments).await,
        },
        Command::Operation(command) => match command {
            OperationCommand::Ls(arguments) => operation::list(context, &arguments).await,
            OperationCommand::Show(arguments) => operation::show(context, &arguments).await,
            OperationCommand::Watch(arguments) => operation::watch(context, &arguments).await,
            OperationCommand::Cancel(arguments) => operation::cancel(context, &arguments).await,
            OperationCommand::Logs(arguments) => operation::logs(context, &arguments).await,
        },
        Command::Events(arguments) => events::events(context, arguments).await,
        Command::Daemon(command) => match command {
            DaemonCommand::Start => daemon::start(context).await,
            DaemonCommand::Stop => daemon::stop(context).await,
            DaemonCommand::Restart => daemon::restart(context).await,
            DaemonCommand::Status => daemon::status(context).await,
            DaemonCommand::Logs => daemon::logs(context),
        },
        Command::System(command) => match command {
            SystemCommand::Df(arguments) => space::usage(context, &arguments, Scope::Everything).await,
            SystemCommand::Prune(arguments) => space::prune(context, &arguments, Scope::Everything).await,
        },
        Command::Config(command) => config::config(context, command).await,
        Command::Web(arguments) => web::web(context, &arguments).await,
        Command::SshConfig(arguments) => ssh_config::ssh_config(context, &arguments).await,
        Command::Completion(arguments) => completion::completion(context, &arguments),
        Command::Version => version::version(context).await,
        Command::Run(arguments) => vm::run(context, arguments).await,
        Command::Ps(arguments) => vm::list(context, &arguments).await,
        Command::Exec(arguments) => vm::exec(context, &arguments).await,
        Command::Ssh(arguments) => vm::ssh(context, &arguments).await,
        Command::Cp(arguments) => vm::copy(context, &arguments).await,
        Command::Logs(arguments) => vm::logs(context, &arguments).await,
        Command::Start(arguments) => vm::start(context, &arguments).await,
        Command::Stop(arguments) => vm::stop(context, &arguments).await,
        Command::Rm(arguments) => vm::remove(context, &arguments).await,
        Command::Pull(arguments) => artifact::pull::<Image>(context, arguments).await,
        Command::Images(arguments) => artifact::list::<Image>(context, &arguments).await,
    }
}

async fn virtual_machine(context: &Context, command: VmCommand) -> Outcome {
    match command {
        VmCommand::Create(arguments) => vm::create(context, arguments).await,
        VmCommand::Run(arguments) => vm::run(context, arguments).await,
        VmCommand::Ls(arguments) => vm::list(context, &arguments).await,
        VmCommand::Show(arguments) => vm::show(context, &arguments).await,
        VmCommand::Exec(arguments) => vm::exec(context, &arguments).await,
        VmCommand::Ssh(arguments) => vm::ssh(context, &arguments).await,
        VmCommand::Cp(arguments) => vm::copy(context, &arguments).await,
        VmCommand::Start(arguments) => vm::start(context, &arguments).await,
        VmCommand::Stop(arguments) => vm::stop(context, &arguments).await,
        VmCommand::Restart(arguments) => vm::restart(context, &arguments).await,
        VmCommand::Kill(arguments) => vm::kill(context, &arguments).await,
        VmCommand::Pause(arguments) => vm::pause(context, &arguments).await,
        VmCommand::Resume(arguments) => vm::resume(context, &arguments).await,
        VmCommand::Trim(arguments) => vm::trim(context, &arguments).await,
        VmCommand::Rm(arguments) => vm::remove(context, &arguments).await,
        VmCommand::Rename(arguments) => vm::rename(context, arguments).await,
        VmCommand::Set(arguments) => vm::set(context, arguments).await,
        VmCommand::Wait(arguments) => vm::wait(context, arguments).await,
        VmCommand::Ports(arguments) => vm::ports(context, &arguments).await,
        VmCommand::Stats(arguments) => vm::stats(context, &arguments).await,
        VmCommand::Top => vm::top(context).await,
        VmCommand::Forward(command) => match command {
            ForwardCommand::Ls(arguments) => vm::list_forwards(context, &arguments).await,
            ForwardCommand::Add(arguments) => vm::add_forwards(context, &arguments).await,
            ForwardCommand::Rm(arguments) => vm::remove_forwards(context, &arguments).await,
        },
        VmCommand::Console(arguments) => vm::console(context, &arguments).await,
        VmCommand::Logs(arguments) => vm::logs(context, &arguments).await,
        VmCommand::Proxy(arguments) => vm::proxy(context, &arguments).await,
    }
}

/// What a deletion prints with `--json`.
#[derive(Debug, Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

/// Failures among several things that were asked for: each is told at once, the first one decides
/// the exit code.
#[derive(Debug, Default)]
struct Failures(Option<u8>);

impl Failures {
    fn note(&mut self, context: &Context, result: Result<(), CommandError>) -> Result<(), CommandError> {
        match result {
            Ok(()) => Ok(()),
            // These end the whole command.
            Err(error @ (CommandError::BrokenPipe | CommandError::Reported(_))) => Err(error),
            Err(error) => {
                let code = context.explain(error).report(context.printer, false);
                self.0.get_or_insert(code);
                Ok(())
            }
        }
    }

    /// Notes what became of one of several things, of which `rest` is to come: nothing of it, when the user has interrupted
    /// this one.
    fn note_one_of(
        &mut self,
        context: &Context,
        result: Result<(), CommandError>,
        rest: &[String],
    ) -> Result<(), CommandError> {
        if rest.is_empty() || !context.is_interrupted() {
            return self.note(context, result);
        }
        if let Err(error @ CommandError::Failed(_)) = result {
            self.note(context, Err(error))?;
        }
        context.printer.note(&format!("not begun: {}", quoted(rest)));
        Err(CommandError::Reported(banger_types::ErrorKind::Cancelled.exit_code()))
    }

    fn outcome(self) -> Outcome {
        self.0.map_or(Ok(DONE), |code| Err(CommandError::Reported(code)))
    }
}

/// Follows an operation and returns it, or prints it and returns `None` when nobody wants to wait.
async fn follow_or_print(
    context: &Context,
    operation: Operation,
    wait: WaitOptions,
) -> Result<Option<Operation>, CommandError> {
    if !wait.no_wait {
        return progress::follow(context, operation, wait.on_interrupt).await.map(Some);
    }
    if context.printer.is_json() {
        context.printer.item(&operation)?;
    } else {
        context.printer.line(operation.id.as_str())?;
    }
    Ok(None)
}

/// Asks before something is lost. Without a terminal to ask on, an error names the flag.
fn confirm(question: &str) -> Result<(), CommandError> {
    let unasked =
        || CommandError::usage("this deletes something, and there is no terminal to ask on", "--yes");
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(unasked());
    }
    if ask(question).map_err(|_| unasked())? {
        return Ok(());
    }
    Err(CommandError::failed(
        banger_types::ErrorKind::Cancelled,
        "nothing is deleted",
        "answer y, or give --yes",
    ))
}

/// Asks whoever is at the terminal.
fn ask(question: &str) -> io::Result<bool> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "{} [y/N] ", crate::printer::printable(question))?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Returns `'a', 'b' and 'c'`.
fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
