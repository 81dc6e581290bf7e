//! `banger vm …` and its short forms.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use banger_types::VmName;
use banger_types::bytes::ByteString;
use banger_types::monitor::Forward;
use banger_types::size::Mebibytes;
use banger_types::vm::NetworkMode;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueEnum};

use super::{ListArguments, WaitOptions, parse};

/// `banger vm …`.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Make a VM and boot it
    Create(CreateArguments),
    /// Make a VM and run a command or a login shell in it
    Run(RunArguments),
    /// List VMs
    Ls(ListArguments),
    /// Show everything about a VM
    Show(NameArguments),
    /// Run a command, exactly as given, in a running VM
    Exec(ExecArguments),
    /// Open a login shell in a running VM, or run a command line with the user's shell
    Ssh(SshArguments),
    /// Boot VMs
    Start(NamesArguments),
    /// Ask VMs to shut down, and stop those that do not in time
    Stop(StopArguments),
    /// Stop VMs at once, without asking their guests
    Kill(NamesArguments),
    /// Delete VMs and their disks
    Rm(RemoveArguments),
    /// Print a VM's serial console
    Logs(LogsArguments),
    /// Connect standard input and output to a VM's SSH server, as ssh's proxy
    #[command(hide = true)]
    Proxy(ProxyArguments),
}

/// What a VM is made of.
#[derive(Debug, Args)]
pub struct Machine {
    /// Name or source of the image [default: the default image]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub image: Option<String>,
    /// Number of virtual CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub vcpus: Option<u32>,
    /// Memory, as 512M or 2G
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Mebibytes>,
    /// Size of the private disk, as 20G; it takes space only as it fills
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Mebibytes>,
    /// Name or source of the kernel [default: the default kernel]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub kernel: Option<String>,
    /// Its network
    #[arg(long = "net", value_enum, default_value_t = NetworkArgument::User)]
    pub network: NetworkArgument,
    /// Lead a TCP port of this host into it: [ADDRESS:]HOST:GUEST, on 127.0.0.1 without an address
    #[arg(short = 'p', long = "publish", value_name = "HOST:GUEST", value_parser = parse::forward)]
    pub forwards: Vec<Forward>,
    /// Set a variable in its sessions: NAME=VALUE, or NAME for the value it has here
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable())]
    pub environment: Vec<OsString>,
}

impl Machine {
    /// Returns the variables for its sessions, as `(name, value)`.
    pub fn variables(&self) -> Vec<(ByteString, ByteString)> {
        parse::environment(&self.environment, |name| std::env::var_os(name))
    }
}

/// `--net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkArgument {
    /// Outward connections, without root
    User,
    /// No network card; exec and ssh work all the same
    None,
}

impl From<NetworkArgument> for NetworkMode {
    fn from(argument: NetworkArgument) -> Self {
        match argument {
            NetworkArgument::User => Self::User,
            NetworkArgument::None => Self::None,
        }
    }
}

/// Arguments of `vm create`.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name [default: one is made up]
    pub name: Option<VmName>,
    /// What it is made of.
    #[command(flatten)]
    pub machine: Machine,
    /// Leave it stopped
    #[arg(long)]
    pub no_start: bool,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Arguments of `vm run`.
#[derive(Debug, Args)]
#[command(after_help = "Without CMD: a login shell. The exit code is the program's own: 128+N after \
                        signal N, 125 when banger itself failed.")]
pub struct RunArguments {
    /// Its name [default: one is made up]
    #[arg(long)]
    pub name: Option<VmName>,
    /// What it is made of.
    #[command(flatten)]
    pub machine: Machine,
    /// Delete it when the program ends, or this client does, however it ends
    #[arg(long)]
    pub rm: bool,
    /// Where and as whom to run.
    #[command(flatten)]
    pub session: SessionOptions,
    /// The command and its arguments, taken as they are
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

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

/// The VM that a verb is about.
#[derive(Debug, Args)]
pub struct NameArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

/// The VMs that a verb is about.
#[derive(Debug, Args)]
pub struct NamesArguments {
    /// Names or ids of VMs
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// How to wait for them.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Arguments of `vm stop`.
#[derive(Debug, Args)]
pub struct StopArguments {
    /// The VMs, and how to wait.
    #[command(flatten)]
    pub vms: NamesArguments,
    /// Seconds that the guest may take before it is killed
    #[arg(short, long, value_name = "SECONDS", default_value = "30", value_parser = super::seconds)]
    pub timeout: Duration,
}

/// Arguments of `vm rm`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The VMs, and how to wait.
    #[command(flatten)]
    pub vms: NamesArguments,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Do not ask, and kill it first if it runs
    #[arg(short, long)]
    pub force: bool,
}

/// Arguments of `vm logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// What the guest printed on its serial console (this is the default)
    #[arg(long, group = "kind")]
    pub serial: bool,
    /// What the program that runs the VM printed
    #[arg(long, group = "kind")]
    pub engine: bool,
    /// What the VM's monitor printed
    #[arg(long, group = "kind")]
    pub monitor: bool,
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

/// Arguments of `vm proxy`.
#[derive(Debug, Args)]
pub struct ProxyArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

/// Returns the parser of `-e`.
fn variable() -> impl clap::builder::TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|text| parse::variable(&text).map(|()| text))
}
