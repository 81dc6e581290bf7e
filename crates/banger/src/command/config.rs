//! `banger config …`: the configuration file, and what is in force.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use banger_configuration::{
    Applies, ConfigurationError, ConfigurationFile, EditError, Effective, KEYS, Key, reference, set, unset,
};
use banger_types::setting::Setting;
use banger_types::{ApiError, ErrorKind};
use fs_err as fs;
use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, Outcome, ask};
use crate::arguments::{
    ConfigCommand, ConfigSetArguments, ConfigShowArguments, ConfigValidateArguments, KeyArguments,
};
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::Table;

/// Variables that name an editor, in the order in which they count.
const EDITORS: [&str; 2] = ["VISUAL", "EDITOR"];
/// Editors that are tried where none is named: the one that Debian's administrator chose, and those that most hosts have.
const USUAL_EDITORS: [&str; 3] = ["editor", "nano", "vi"];

/// Does what was typed after `config`.
pub(super) async fn config(context: &Context, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Show(arguments) => show(context, &arguments).await,
        ConfigCommand::Get(arguments) => get(context, &arguments),
        ConfigCommand::Set(arguments) => change(context, &arguments).await,
        ConfigCommand::Unset(arguments) => take_out(context, &arguments).await,
        ConfigCommand::Edit => {
            // They are the editor's, which would be left alone at the terminal.
            let _interrupts = [SignalKind::interrupt(), SignalKind::quit()].map(signal);
            edit(context)
        }
        ConfigCommand::Path => path(context),
        ConfigCommand::Validate(arguments) => validate(context, arguments),
    }
}

/// Shows what the daemon goes by if it runs, and else what it would.
async fn show(context: &Context, arguments: &ConfigShowArguments) -> Outcome {
    let settings = match in_force(context).await? {
        Some(settings) => settings,
        None => effective(context)?.settings,
    };
    if context.printer.is_json() {
        context.printer.document(&settings)?;
        return Ok(DONE);
    }
    let mut table = if arguments.origin {
        Table::new(["SETTING", "VALUE", "FROM"])
    } else {
        Table::new(["SETTING", "VALUE"])
    };
    for setting in settings {
        let Setting { name, value, origin, at_restart, .. } = setting;
        let value = match at_restart {
            Some(next) if next.is_empty() => format!("{value} (unset after banger daemon restart)"),
            Some(next) => format!("{value} ({next} after banger daemon restart)"),
            None => value,
        };
        let origin = arguments.origin.then(|| origin.to_string());
        table.row([name, value].into_iter().chain(origin));
    }
    context.printer.table(&table)?;
    Ok(DONE)
}

/// Returns the settings of the daemon, if it runs.
async fn in_force(context: &Context) -> Result<Option<Vec<Setting>>, CommandError> {
    match context.daemon_as_it_is().settings().await.map_err(CommandError::from) {
        Ok(settings) => Ok(Some(settings)),
        Err(error) if error.is(ErrorKind::Unreachable) => Ok(None),
        Err(error) => Err(error),
    }
}

fn effective(context: &Context) -> Result<Effective, CommandError> {
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(Effective::read(&context.locations, environment)?)
}

fn get(context: &Context, arguments: &KeyArguments) -> Outcome {
    let effective = effective(context)?;
    let name = Key::normal_name(&arguments.key).map_err(|error| refused(&error))?;
    let found: Vec<_> = effective.settings.iter().filter(|setting| setting.name == name).collect();
    if found.iter().all(|setting| setting.value.is_empty()) {
        let fix = format!("banger config set {} VALUE", arguments.key);
        return Err(CommandError::failed(ErrorKind::NotFound, format!("'{name}' is not set"), fix));
    }
    if context.printer.is_json() {
        context.printer.document(&found)?;
    } else {
        context.printer.lines(found.iter().map(|setting| setting.value.as_str()))?;
    }
    Ok(DONE)
}

async fn change(context: &Context, arguments: &ConfigSetArguments) -> Outcome {
    let file = file(context)?;
    file.change(|text| set(text, &arguments.key, &arguments.value).map_err(Refused::Edit))
        .map_err(|why| failed(&file, why))?;
    say_when(context, &arguments.key).await
}

async fn take_out(context: &Context, arguments: &KeyArguments) -> Outcome {
    let file = file(context)?;
    let mut was_there = false;
    let without = |text: &str| {
        let (text, found) = unset(text, &arguments.key)?;
        was_there = found;
        Ok::<_, Refused>(text)
    };
    file.change(without).map_err(|why| failed(&file, why))?;
    if !was_there {
        context.printer.note(&format!("'{}' was not set in {}", arguments.key, file.path().display()));
        return Ok(DONE);
    }
    say_when(context, &arguments.key).await
}

/// Says what a setting is now, and from when on.
async fn say_when(context: &Context, key: &str) -> Outcome {
    let name = Key::normal_name(key).map_err(|error| refused(&error))?;
    let effective = effective(context)?;
    let found = effective.settings.iter().find(|setting| setting.name == name);
    if context.printer.is_json() {
        let settings: Vec<_> = effective.settings.iter().filter(|setting| setting.name == name).collect();
        context.printer.document(&settings)?;
        return Ok(DONE);
    }
    context.printer.note(&match found {
        Some(setting) if !setting.value.is_empty() => {
            format!("{name} is {} ({})", setting.value, setting.origin)
        }
        _ => format!("{name} is unset"),
    });
    let Some(known) = KEYS.iter().find(|known| known.name == name) else { return Ok(DONE) };
    if let Some(variable) = known.variable.filter(|it| std::env::var_os(it).is_some_and(|it| !it.is_empty()))
    {
        context.printer.warning(&format!("{variable} is set here, and counts over the file"));
    }
    if known.applies == Applies::AtRestart && in_force(context).await.is_ok_and(|settings| settings.is_some())
    {
        context.printer.note("it is in force after: banger daemon restart");
    }
    Ok(DONE)
}

fn path(context: &Context) -> Outcome {
    let file = file(context)?;
    if context.printer.is_json() {
        context.printer.document(&file.path())?;
    } else {
        context.printer.line(&file.path().display().to_string())?;
    }
    Ok(DONE)
}

fn validate(context: &Context, arguments: ConfigValidateArguments) -> Outcome {
    let file = match arguments.file {
        // Whoever names a file means one that is there.
        Some(named) => {
            let missing = |source: io::Error| CommandError::io("cannot read the file", &source);
            ConfigurationFile::new(fs::canonicalize(named).map_err(missing)?)
        }
        None => file(context)?,
    };
    file.read().map_err(ApiError::from)?;
    context.printer.note(&format!("{} has no mistake", file.path().display()));
    Ok(DONE)
}

/// Lets the user's editor change a copy, which takes the file's place once it has no mistake.
fn edit(context: &Context) -> Outcome {
    let file = file(context)?;
    let unreadable = |source: io::Error| CommandError::io("cannot edit the configuration file", &source);
    let before = file.text().map_err(unreadable)?;
    let shown = if before.is_empty() { template() } else { before.clone() };
    let mut copy =
        tempfile::Builder::new().prefix("banger-").suffix(".config.toml").tempfile().map_err(unreadable)?;
    copy.write_all(shown.as_bytes()).map_err(unreadable)?;
    let copy = copy.into_temp_path();
    loop {
        let edited = match run_editor(&copy).and_then(|()| fs::read_to_string(&copy).map_err(unreadable)) {
            Ok(edited) => edited,
            Err(error) => return Err(with_copy(error, copy, &shown)),
        };
        if edited == shown {
            context.printer.note("nothing was changed");
            return Ok(DONE);
        }
        let Err(mistake) = file.check(&edited) else {
            return replace(context, &file, &before, &edited, copy);
        };
        let error = as_edited(mistake);
        if may_ask() {
            context.printer.error(&error);
            if ask("Edit it again?").unwrap_or(false) {
                continue;
            }
        }
        return Err(with_copy(error.into(), copy, &shown));
    }
}

/// Returns the error with where that is which was written: it is kept, if it is anything.
fn with_copy(error: CommandError, copy: tempfile::TempPath, shown: &str) -> CommandError {
    let CommandError::Failed(error) = error else { return error };
    if fs::read(&copy).is_ok_and(|written| written == shown.as_bytes()) {
        return error.into();
    }
    match copy.keep() {
        Ok(kept) => {
            let kept = format!("the file is as it was; what you wrote is kept in {}", kept.display());
            let fix = error.fix.as_ref().map_or(kept.clone(), |fix| format!("{fix}\n{kept}"));
            error.fix(fix).into()
        }
        Err(lost) => CommandError::io("cannot keep what you wrote", &lost.error),
    }
}

fn replace(
    context: &Context,
    file: &ConfigurationFile,
    before: &str,
    edited: &str,
    copy: tempfile::TempPath,
) -> Outcome {
    let put = file.change(|now| {
        // Somebody else's change is not undone.
        if now == before { Ok(edited.to_owned()) } else { Err(Refused::Overtaken) }
    });
    if let Err(why) = put {
        return Err(with_copy(failed(file, why), copy, before));
    }
    context.printer.note(&format!("{} is changed", file.path().display()));
    Ok(DONE)
}

/// Returns the mistake of a text that is not in the file yet.
fn as_edited(error: ConfigurationError) -> ApiError {
    match error {
        ConfigurationError::Mistake { mistake, .. } => {
            let allowed = mistake.allowed.clone();
            let error =
                ApiError::new(ErrorKind::Usage, "there is a mistake in it").because(mistake.to_string());
            allowed.into_iter().fold(error, ApiError::fix)
        }
        other @ ConfigurationError::Io(_) => other.into(),
    }
}

/// Returns what is edited where there is no file yet: all that can be set, as comments.
fn template() -> String {
    reference().lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect()
}

fn may_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn run_editor(path: &Path) -> Result<(), CommandError> {
    let named =
        EDITORS.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let candidates: Vec<String> = match named {
        Some(editor) => vec![editor],
        None => USUAL_EDITORS.map(str::to_owned).to_vec(),
    };
    for candidate in &candidates {
        // Many have arguments there, as `code --wait`.
        let mut words = candidate.split_whitespace();
        let Some(program) = words.next() else { continue };
        match Command::new(program).args(words).arg(path).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => {
                let fix = "the file is as it was; set VISUAL or EDITOR to another editor";
                return Err(CommandError::failed(
                    ErrorKind::Failed,
                    format!("'{candidate}' ended with {status}"),
                    fix,
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CommandError::io(format!("cannot run '{candidate}'"), &error)),
        }
    }
    let fix = "set VISUAL or EDITOR to one, or use: banger config set";
    Err(CommandError::failed(
        ErrorKind::NotFound,
        format!("there is no editor {}", candidates.join(", ")),
        fix,
    ))
}

fn file(context: &Context) -> Result<ConfigurationFile, CommandError> {
    let path: Option<PathBuf> = context.locations.configuration.clone();
    path.map(ConfigurationFile::new).ok_or_else(|| {
        CommandError::usage(
            "cannot tell where the configuration file is: neither HOME nor XDG_CONFIG_HOME is an absolute path",
            "set HOME to a directory of yours",
        )
    })
}

/// Why the file is not changed.
enum Refused {
    Edit(EditError),
    Io(io::Error),
    Overtaken,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<EditError> for Refused {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

fn failed(file: &ConfigurationFile, why: Refused) -> CommandError {
    match why {
        Refused::Edit(EditError::Mistake(mistake)) => {
            ApiError::from(ConfigurationError::Mistake { path: file.path().to_owned(), mistake }).into()
        }
        Refused::Edit(error) => refused(&error),
        Refused::Io(error) => CommandError::io(format!("cannot change {}", file.path().display()), &error),
        Refused::Overtaken => CommandError::failed(
            ErrorKind::Conflict,
            "somebody else has changed the configuration file meanwhile",
            "banger config edit",
        ),
    }
}

fn refused(error: &EditError) -> CommandError {
    let fix = match error {
        EditError::Unknown { there, .. } => there.clone(),
        EditError::Several(_) => "banger config edit".to_owned(),
        EditError::Value { takes, .. } => format!("write {}", takes.words()),
        EditError::Mistake(mistake) => {
            mistake.allowed.clone().unwrap_or_else(|| "banger config edit".to_owned())
        }
    };
    CommandError::usage(error.to_string(), fix)
}
