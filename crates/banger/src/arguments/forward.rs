//! `banger vm forward …`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::NameArguments;
use super::parse::{self, Forwards};

/// `banger vm forward …`.
#[derive(Debug, Subcommand)]
pub enum ForwardCommand {
    /// List a VM's forwards: those in force while it runs, else those that it will have
    Ls(NameArguments),
    /// Lead ports into a VM, now and after later starts
    Add(ForwardArguments),
    /// Lead ports into a VM no more; open connections go on
    Rm(ForwardArguments),
}

/// Arguments of `vm forward add` and `vm forward rm`.
#[derive(Debug, Args)]
pub struct ForwardArguments {
    /// The VM's name or id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub name: String,
    /// Ports: [ADDRESS:]HOST:GUEST[/udp], or ranges of them, on 127.0.0.1 without an address; host port 0 takes a free one
    #[arg(required = true, value_name = "HOST:GUEST", value_parser = parse::forwards)]
    pub forwards: Vec<Forwards>,
}
