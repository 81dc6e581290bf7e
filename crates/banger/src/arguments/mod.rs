//! Everything that can be typed after `banger`, as data.
//!
//! Nothing here acts: documentation, completion and manual pages can be made from
//! [`Arguments`] alone.

mod config;
mod copy;
mod filter;
mod forward;
mod machine;
mod parse;
mod session;
mod space;
mod vm;

use std::path::PathBuf;
use std::time::Duration;

use banger_types::digest::Digest;
use banger_types::event::EventKind;
use banger_types::vm::EngineKind;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};

pub use config::{
    ConfigCommand, ConfigSetArguments, ConfigShowArguments, ConfigValidateArguments, KeyArguments,
};
pub use copy::{CopyArguments, Place};
pub use filter::Filter;
pub use forward::{ForwardArguments, ForwardCommand};
pub use machine::{
    Changes, CreateArguments, Machine, NetworkArgument, RestartArgument, RunArguments, SetArguments,
};
pub use session::{ExecArguments, ProxyArguments, SessionOptions, SshArguments};
pub use space::{DfArguments, PruneArguments, SystemCommand};
pub use vm::{
    Goal, LogsArguments, NameArguments, NamesArguments, PortsArguments, RemoveArguments, RenameArguments,
    StatsArguments, StopArguments, VmCommand, VmListArguments, WaitArguments,
};

/// Real virtual machines for developers, in about the time a container takes.
#[derive(Debug, Parser)]
#[command(name = "banger", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// Print JSON: one document, or one line for each item of a stream
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The nouns, and short forms of their commonest verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, use and look after virtual machines
    #[command(subcommand, arg_required_else_help = true)]
    Vm(VmCommand),
    /// Look after images: root file systems that VMs are made from
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageCommand),
    /// Look after kernels that VMs boot
    #[command(subcommand, arg_required_else_help = true)]
    Kernel(KernelCommand),
    /// Look after engines: the programs that run VMs
    #[command(subcommand, arg_required_else_help = true)]
    Engine(EngineCommand),
    /// Look after operations: long pieces of work
    #[command(subcommand, name = "op", arg_required_else_help = true)]
    Operation(OperationCommand),
    /// Print what changes, as it happens
    Events(EventsArguments),
    /// Look after bangerd, the daemon that owns your VMs and images
    #[command(subcommand, arg_required_else_help = true)]
    Daemon(DaemonCommand),
    /// See and change what is set: defaults of new VMs, mirrors, the web console's address
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// See what takes space, and delete what nobody uses
    #[command(subcommand, arg_required_else_help = true)]
    System(SystemCommand),
    /// Print a link that signs a browser in to the web console, once
    Web(WebArguments),
    /// Print how ssh, scp, sftp, rsync and editors reach the VMs, as NAME.banger
    SshConfig(SshConfigArguments),
    /// Print a script that completes command lines of banger in a shell
    Completion(CompletionArguments),
    /// Print the versions of banger and of bangerd
    Version,
    /// Short for 'vm run': make a VM and run a command or a shell in it
    Run(RunArguments),
    /// Short for 'vm ls': list VMs
    Ps(VmListArguments),
    /// Short for 'vm exec': run a command in a VM
    Exec(ExecArguments),
    /// Short for 'vm ssh': open a shell in a VM
    Ssh(SshArguments),
    /// Short for 'vm cp': copy files into a VM, or out of it
    Cp(CopyArguments),
    /// Short for 'vm logs': print a VM's serial console
    Logs(LogsArguments),
    /// Short for 'vm start': boot VMs
    Start(NamesArguments),
    /// Short for 'vm stop': stop VMs in order
    Stop(StopArguments),
    /// Short for 'vm rm': delete VMs
    Rm(RemoveArguments),
    /// Short for 'image pull': make an image
    Pull(PullArguments),
    /// Short for 'image ls': list images
    Images(ListArguments),
}

impl Command {
    /// Returns whether the exit code is that of a program in the guest, so that banger's own
    /// failures need one of their own.
    pub fn is_session(&self) -> bool {
        match self {
            Self::Run(arguments) | Self::Vm(VmCommand::Run(arguments)) => !arguments.service,
            Self::Exec(_) | Self::Ssh(_) | Self::Vm(VmCommand::Exec(_) | VmCommand::Ssh(_)) => true,
            _ => false,
        }
    }
}

/// `banger image …`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List images
    Ls(ListArguments),
    /// Show everything about an image
    Show(ArtifactArguments),
    /// Make an image: of a registry's NAME, oci:DIR, tar:FILE, debian:RELEASE and more
    Pull(PullArguments),
    /// Use a root file system of your own where it is, and perhaps a kernel; never written to
    Register(RegisterArguments),
    /// Delete images that no VM uses
    Rm(DeleteArguments),
    /// Show the space that images and their layers take, and how much of it could go
    Df(DfArguments),
    /// Delete images that were superseded and that no VM uses, and layers that were not used for a week
    Prune(PruneArguments),
    /// List images that can be had by name
    Catalog(ListArguments),
}

/// `banger kernel …`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// List kernels
    Ls(ListArguments),
    /// Show everything about a kernel
    Show(ArtifactArguments),
    /// Make a kernel from a source: debian:RELEASE, or https://…#sha256=DIGEST
    Pull(PullArguments),
    /// Use a kernel of your own where it is; never written to
    Register(KernelRegisterArguments),
    /// Delete kernels that no VM uses
    Rm(DeleteArguments),
    /// List kernels that can be had by name
    Catalog(ListArguments),
}

/// `banger engine …`.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// List engines: which of them are here
    Ls(ListArguments),
    /// Download an engine, check it and install it for yourself; no root is needed
    Install(EngineInstallArguments),
}

/// Arguments of `engine install`.
#[derive(Debug, Args)]
pub struct EngineInstallArguments {
    /// Which engine
    #[arg(default_value = "firecracker", value_parser = parse::engine_kind)]
    pub engine: EngineKind,
    /// Address of the archive of another release, or of a mirror's
    #[arg(long, requires = "sha256", value_parser = NonEmptyStringValueParser::new())]
    pub url: Option<String>,
    /// SHA-256 digest of that archive
    #[arg(long, requires = "url", value_name = "DIGEST")]
    pub sha256: Option<Digest>,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// `banger op …`.
#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// List operations, the newest first
    Ls(ListArguments),
    /// Show everything about an operation
    Show(IdArguments),
    /// Follow an operation until it ends; its failure is the exit code
    Watch(WatchArguments),
    /// Cancel an operation; what it had begun is undone
    Cancel(IdArguments),
    /// Print an operation's log
    Logs(IdArguments),
}

/// `banger daemon …`.
#[derive(Debug, Subcommand)]
pub enum DaemonCommand {
    /// Start bangerd; any command that needs it does so, too
    Start,
    /// Stop bangerd and wait until it is gone; VMs go on
    Stop,
    /// Stop bangerd if it runs, and start it; VMs go on
    Restart,
    /// Show whether bangerd runs, and where it keeps things
    Status,
    /// Print bangerd's log
    Logs,
}

/// Arguments of every `ls`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print names alone, one a line
    #[arg(short, long)]
    pub quiet: bool,
}

/// The image or kernel that a verb is about.
#[derive(Debug, Args)]
pub struct ArtifactArguments {
    /// Its name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
}

/// Arguments of `pull`.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// A name of the catalog, or a source
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub source: String,
    /// Name to give it [default: the source]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Arguments of `image register`.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// Root file system: ext4, squashfs or erofs, or a raw disk that has one on a partition
    #[arg(long, value_name = "FILE")]
    pub rootfs: PathBuf,
    /// Kernel that its VMs boot, a bzImage or an ELF file [default: that of every VM]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initramfs to take modules from that the kernel has not built in
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Name to give it [default: the file's, without its extension]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Arguments of `kernel register`.
#[derive(Debug, Args)]
pub struct KernelRegisterArguments {
    /// The kernel: a bzImage or an ELF file
    #[arg(value_name = "FILE")]
    pub kernel: PathBuf,
    /// Initramfs to take modules from that the kernel has not built in
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Name to give it [default: the file's]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Arguments of `image rm` and `kernel rm`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// Names or ids
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Do not ask
    #[arg(short, long, visible_short_alias = 'f')]
    pub yes: bool,
    /// How to wait for it.
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// The operation that a verb is about.
#[derive(Debug, Args)]
pub struct IdArguments {
    /// The operation's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
}

/// Arguments of `op watch`.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The operation's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    /// What Ctrl-C does: cancel it, or detach, so that it goes on by itself [default: ask; cancel without a terminal]
    #[arg(long, value_name = "detach|cancel", hide_possible_values = true)]
    pub on_interrupt: Option<OnInterrupt>,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only what is about these: operation, vm, image, kernel
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse::event_kind)]
    pub kind: Vec<EventKind>,
    /// Only what is about this VM, and operations on it
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub vm: Option<String>,
    /// Begin with what there is
    #[arg(long)]
    pub current: bool,
    /// Begin after the event of this id, as --json prints it
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub after: Option<String>,
}

/// Arguments of `web`.
#[derive(Debug, Args)]
pub struct WebArguments {
    /// Open it in your browser
    #[arg(long)]
    pub open: bool,
}

/// Arguments of `ssh-config`.
#[derive(Debug, Args)]
pub struct SshConfigArguments {
    /// Let ~/.ssh/config include it, so that 'ssh NAME.banger' works from then on
    #[arg(long)]
    pub install: bool,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(
    after_help = "For this bash alone: source <(banger completion bash). For every one: put the script into \
                        ~/.local/share/bash-completion/completions/banger."
)]
pub struct CompletionArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Whether to wait for an operation.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitOptions {
    /// Print the operation and return at once
    #[arg(long)]
    pub no_wait: bool,
    /// What Ctrl-C does: cancel it, or detach, so that it goes on by itself [default: ask; cancel without a terminal]
    #[arg(long, value_name = "detach|cancel", hide_possible_values = true, conflicts_with = "no_wait")]
    pub on_interrupt: Option<OnInterrupt>,
}

/// What an interrupt means to work that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OnInterrupt {
    /// It goes on without whoever waits.
    Detach,
    /// It is cancelled, and what it had begun is undone.
    Cancel,
}

/// Returns the duration that `text`, a number of seconds, says.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| format!("'{text}' is not a whole number of seconds"))
}
