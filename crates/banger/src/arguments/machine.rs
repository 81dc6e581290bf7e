//! What a VM is made of: `vm create`, `vm run`, `vm set`.

use std::ffi::OsString;

use banger_types::VmName;
use banger_types::bytes::ByteString;
use banger_types::size::Mebibytes;
use banger_types::vm::{EngineKind, NetworkMode, RestartPolicy};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::parse::{self, Forwards};
use super::session::{SessionOptions, variable};
use super::{OnInterrupt, WaitOptions};

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
    /// Its network [default: nat if the root helper is ready, else user]
    #[arg(long = "net", value_name = "NETWORK", value_enum)]
    pub network: Option<NetworkArgument>,
    /// Let it reach this host's own addresses, but for the loopback
    #[arg(long)]
    pub allow_host: bool,
    /// Keep it and your other VMs apart, which else reach each other by nat
    #[arg(long)]
    pub no_peers: bool,
    /// What runs it
    #[arg(long, value_enum, default_value_t = EngineArgument::Auto)]
    pub engine: EngineArgument,
    /// Lead ports of this host into it: [ADDRESS:]HOST:GUEST[/udp], or ranges of them, on 127.0.0.1 without an address
    #[arg(short = 'p', long = "publish", value_name = "HOST:GUEST", value_parser = parse::forwards)]
    pub forwards: Vec<Forwards>,
    /// Lead to what listens in it from 127.0.0.1 by itself, by the same port or the next free one [default: on]
    #[arg(long = "auto-forward", value_name = "WHETHER", value_enum)]
    pub automatic_forwards: Option<Switch>,
    /// Set a variable in its sessions: NAME=VALUE, or NAME for the value it has here
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable())]
    pub environment: Vec<OsString>,
    /// Give it a label to find it by: NAME=VALUE, or NAME alone
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = parse::label)]
    pub labels: Vec<(String, String)>,
    /// When to start it again after it has ended
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = RestartArgument::No)]
    pub restart: RestartArgument,
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
    /// Addresses of its own, and a name that this host resolves; needs the root helper
    Nat,
    /// No network card; exec and ssh work all the same
    None,
}

impl From<NetworkArgument> for NetworkMode {
    fn from(argument: NetworkArgument) -> Self {
        match argument {
            NetworkArgument::User => Self::User,
            NetworkArgument::Nat => Self::Nat,
            NetworkArgument::None => Self::None,
        }
    }
}

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineArgument {
    /// Firecracker where KVM can be used, else QEMU
    Auto,
    /// Firecracker, with KVM
    Firecracker,
    /// QEMU, with KVM where it can be used, else by emulation
    Qemu,
}

impl From<EngineArgument> for Option<EngineKind> {
    fn from(argument: EngineArgument) -> Self {
        match argument {
            EngineArgument::Auto => None,
            EngineArgument::Firecracker => Some(EngineKind::Firecracker),
            EngineArgument::Qemu => Some(EngineKind::Qemu),
        }
    }
}

/// Whether something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch == Switch::On
    }
}

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RestartArgument {
    /// Never
    No,
    /// When it has failed, or the host went down while it ran
    OnFailure,
    /// Then, and when its guest has powered itself off
    Always,
}

impl From<RestartArgument> for RestartPolicy {
    fn from(argument: RestartArgument) -> Self {
        match argument {
            RestartArgument::No => Self::No,
            RestartArgument::OnFailure => Self::OnFailure,
            RestartArgument::Always => Self::Always,
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
    /// Run the image's own command in it from every boot on, print the VM's name, and return
    #[arg(long, conflicts_with_all = ["rm", "interactive", "tty", "user", "directory"])]
    pub service: bool,
    /// Where and as whom to run.
    #[command(flatten)]
    pub session: SessionOptions,
    /// What Ctrl-C does while it is made: cancel that, or detach [default: ask; cancel without a terminal]
    #[arg(long, value_name = "detach|cancel", hide_possible_values = true)]
    pub on_interrupt: Option<OnInterrupt>,
    /// The command and its arguments, taken as they are
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `vm set`.
#[derive(Debug, Args)]
#[command(override_usage = "banger vm set [OPTIONS] <NAME>")]
#[command(
    after_help = "vCPUs, memory, disk, network and engine change while the VM is stopped, the others at any time."
)]
pub struct SetArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// What to change.
    #[command(flatten)]
    pub changes: Changes,
}

/// What `vm set` changes.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Changes {
    /// Number of virtual CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub vcpus: Option<u32>,
    /// Memory, as 512M or 2G
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<Mebibytes>,
    /// Size of the private disk, as 20G; it can only grow
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<Mebibytes>,
    /// What runs it: firecracker or qemu
    #[arg(long, value_name = "ENGINE", value_parser = parse::engine_kind)]
    pub engine: Option<EngineKind>,
    /// When to start it again after it has ended
    #[arg(long, value_name = "POLICY", value_enum)]
    pub restart: Option<RestartArgument>,
    /// Lead to what listens in it from 127.0.0.1 by itself
    #[arg(long = "auto-forward", value_name = "WHETHER", value_enum)]
    pub automatic_forwards: Option<Switch>,
    /// Its network
    #[arg(long = "net", value_name = "NETWORK", value_enum)]
    pub network: Option<NetworkArgument>,
    /// Keep it and your other VMs apart, from its next start on
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub no_peers: Option<Switch>,
    /// Let it reach this host's own addresses, but for the loopback, from its next start on
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub allow_host: Option<Switch>,
    /// Give it a label, or a label another value: NAME=VALUE, or NAME alone
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = parse::label)]
    pub labels: Vec<(String, String)>,
    /// Take a label away
    #[arg(long = "remove-label", value_name = "NAME", value_parser = parse::label_name)]
    pub removed_labels: Vec<String>,
}
