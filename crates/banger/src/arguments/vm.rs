//! `banger vm …`, and its verbs that look after VMs.

use std::time::Duration;

use banger_types::VmName;
use banger_types::vm::VmState;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::filter::Filter;
use super::{
    CopyArguments, CreateArguments, ExecArguments, ForwardCommand, ProxyArguments, RunArguments,
    SetArguments, SshArguments, WaitOptions, seconds,
};

/// `banger vm …`.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// Make a VM and boot it
    Create(CreateArguments),
    /// Make a VM and run a command or a login shell in it
    Run(RunArguments),
    /// List VMs
    Ls(VmListArguments),
    /// Show everything about a VM
    Show(NameArguments),
    /// Run a command, exactly as given, in a running VM
    Exec(ExecArguments),
    /// Open a login shell in a running VM, or run a command line with the user's shell
    Ssh(SshArguments),
    /// Copy files and directories into a running VM, or out of it
    Cp(CopyArguments),
    /// Boot VMs
    Start(NamesArguments),
    /// Ask VMs to shut down, and stop those that do not in time
    Stop(StopArguments),
    /// Stop VMs as 'stop' does, and boot them again
    Restart(StopArguments),
    /// Stop VMs at once, without asking their guests
    Kill(NamesArguments),
    /// Make VMs stand still, as they are, in memory
    Pause(NamesArguments),
    /// Let paused VMs go on
    Resume(NamesArguments),
    /// Give the host the space back that VMs do not use any more on their disks
    Trim(NamesArguments),
    /// Delete VMs and their disks
    Rm(RemoveArguments),
    /// Give a VM another name
    Rename(RenameArguments),
    /// Change what a VM is made of
    Set(SetArguments),
    /// Wait until VMs are in a state
    Wait(WaitArguments),
    /// Print what listens in a VM, and what reaches it from this host
    Ports(PortsArguments),
    /// Print what VMs take: processors, memory, disk, network, and what that costs the host
    Stats(StatsArguments),
    /// Show what all VMs that run take, those that take most first
    Top,
    /// Look after the ports of this host that lead into a VM
    #[command(subcommand, arg_required_else_help = true)]
    Forward(ForwardCommand),
    /// Attach to a VM's serial console, where Enter has a shell even if nothing else answers
    Console(NameArguments),
    /// Print a VM's serial console, or another of its logs
    Logs(LogsArguments),
    /// Connect standard input and output to a VM's SSH server, as ssh's proxy
    #[command(hide = true)]
    Proxy(ProxyArguments),
}

/// Arguments of `vm stats`.
#[derive(Debug, Args)]
pub struct StatsArguments {
    /// Names or ids of VMs [default: all that run]
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// Look again each second, until it is interrupted
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `vm ports`.
#[derive(Debug, Args)]
pub struct PortsArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Look again each second, and print what has changed, until it is interrupted
    #[arg(short, long)]
    pub watch: bool,
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

/// Arguments of `vm ls`.
#[derive(Debug, Args)]
pub struct VmListArguments {
    /// Print names alone, one a line
    #[arg(short, long)]
    pub quiet: bool,
    /// List only those that match all of these: name=GLOB, or a part of the name; state=STATE;
    /// label=NAME or label=NAME=VALUE; image=NAME
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<Filter>,
}

/// Arguments of `vm stop` and `vm restart`.
#[derive(Debug, Args)]
pub struct StopArguments {
    /// The VMs, and how to wait.
    #[command(flatten)]
    pub vms: NamesArguments,
    /// Seconds that the guest may take before it is killed
    #[arg(short, long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
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

/// Arguments of `vm rename`.
#[derive(Debug, Args)]
#[command(after_help = "The guest's own host name follows when it is next booted.")]
pub struct RenameArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Its new name
    #[arg(value_name = "NEW")]
    pub new_name: VmName,
}

/// Arguments of `vm wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "A VM that is deleted counts as stopped. One that ends otherwise than waited for, and \
                        that nothing starts again, is an error at once."
)]
pub struct WaitArguments {
    /// Names or ids of VMs
    #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub names: Vec<String>,
    /// A state (stopped, running, paused, failed), ssh for sessions, or port:NUMBER for what listens
    #[arg(long = "for", value_name = "WHAT", default_value = "stopped", value_parser = goal)]
    pub goal: Goal,
    /// Seconds after which to give up [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The VM is in this state.
    State(VmState),
    /// It serves sessions.
    Ssh,
    /// A program in it listens on this TCP port.
    Port(u16),
}

fn goal(text: &str) -> Result<Goal, String> {
    match text {
        "stopped" => Ok(Goal::State(VmState::Stopped)),
        "running" => Ok(Goal::State(VmState::Running)),
        "paused" => Ok(Goal::State(VmState::Paused)),
        "failed" => Ok(Goal::State(VmState::Failed)),
        "ssh" => Ok(Goal::Ssh),
        _ => {
            let port = text.strip_prefix("port:").and_then(|port| port.parse().ok());
            port.filter(|port| *port != 0).map(Goal::Port).ok_or_else(|| {
                "choose among stopped, running, paused, failed, ssh, and port:NUMBER, as port:8080".to_owned()
            })
        }
    }
}

/// Arguments of `vm logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Go on with what is printed later, until the VM is deleted or Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with this many of the last lines [default: all]
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<u64>,
    /// What the guest printed on its serial console (this is the default)
    #[arg(long, group = "kind")]
    pub serial: bool,
    /// The beginning of what the guest printed since it was last booted
    #[arg(long, group = "kind")]
    pub boot: bool,
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
