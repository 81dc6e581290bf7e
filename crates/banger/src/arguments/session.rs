//! Programs in a guest: `vm exec`, `vm ssh`, `vm proxy`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use banger_types::bytes::ByteString;
use clap::Args;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};

use super::parse;

/// How a session is opened.
#[derive(Debug, Args)]
pub struct SessionOptions {
    /// Keep standard input open; it always is, so this is for Docker's '-it'
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User to run as [default: the image's, else root]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Directory to run in [default: the image's, else the user's home]
    #[arg(short = 'w', long = "workdir", value_name = "DIR")]
    pub directory: Option<OsString>,
}

/// Arguments of `vm exec`.
#[derive(Debug, Args)]
#[command(override_usage = "banger exec [OPTIONS] NAME [--] CMD...")]
#[command(
    after_help = "Arguments arrive unchanged, and no shell is involved. Signals are passed on; a second \
                        Ctrl-C within two seconds ends the client. The exit code is the program's own: \
                        128+N after signal N, 125 when banger itself failed."
)]
pub struct ExecArguments {
    /// Where and as whom to run.
    #[command(flatten)]
    pub session: SessionOptions,
    /// Set a variable: NAME=VALUE, or NAME for the value it has here
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable())]
    pub environment: Vec<OsString>,
    /// The VM's name or id, then the command and its arguments, taken as they are
    // One list, so that nothing after the name is ever taken for an option of banger's.
    #[arg(value_names = ["NAME", "CMD"], num_args = 2.., required = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

impl ExecArguments {
    /// Returns the VM's name or id.
    pub fn name(&self) -> String {
        self.words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Returns the command and its arguments.
    pub fn command(&self) -> &[OsString] {
        match self.words.get(1..) {
            Some([separator, command @ ..]) if separator == "--" && !command.is_empty() => command,
            Some(command) => command,
            None => &[],
        }
    }

    /// Returns the variables to set, as `(name, value)`.
    pub fn variables(&self) -> Vec<(ByteString, ByteString)> {
        parse::environment(&self.environment, |name| std::env::var_os(name))
    }
}

/// Arguments of `vm ssh`.
#[derive(Debug, Args)]
#[command(after_help = "CMD's words are joined with spaces and given to the user's shell, as ssh does. \
                        The exit code is the shell's own.")]
pub struct SshArguments {
    /// User to log in as [default: the image's, else root]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Give CMD a terminal; a login shell has one where standard input is one
    #[arg(short, long)]
    pub tty: bool,
    /// Let the guest use this host's SSH agent while the session lasts
    #[arg(short = 'A', long)]
    pub forward_agent: bool,
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// A command line for the user's shell
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

impl SshArguments {
    /// Returns the command line, or `None` for a login shell.
    pub fn command_line(&self) -> Option<Vec<u8>> {
        if self.command.is_empty() {
            return None;
        }
        Some(self.command.join(std::ffi::OsStr::new(" ")).into_vec())
    }
}

/// Arguments of `vm proxy`.
#[derive(Debug, Args)]
pub struct ProxyArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

/// Returns the parser of `-e`.
pub(super) fn variable() -> impl clap::builder::TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|text| parse::variable(&text).map(|()| text))
}
