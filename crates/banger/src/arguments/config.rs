//! The configuration file.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

/// `banger config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting in force
    Show(ConfigShowArguments),
    /// Print what a setting is
    Get(KeyArguments),
    /// Set a setting in the configuration file; the rest of the file stays as it is
    Set(ConfigSetArguments),
    /// Take a setting out of the configuration file
    Unset(KeyArguments),
    /// Open the configuration file in your editor; it takes the place of the old one once it has no mistake
    Edit,
    /// Print where the configuration file is
    Path,
    /// Look for mistakes in the configuration file, or in another
    Validate(ConfigValidateArguments),
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub struct ConfigShowArguments {
    /// Show where each one is from
    #[arg(long)]
    pub origin: bool,
}

/// The setting that a verb is about.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// Its name, as vm.memory
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
}

/// Arguments of `config set`.
#[derive(Debug, Args)]
pub struct ConfigSetArguments {
    /// Its name, as vm.memory
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub key: String,
    /// What it is to be; several with commas between them
    #[arg(allow_hyphen_values = true)]
    pub value: String,
}

/// Arguments of `config validate`.
#[derive(Debug, Args)]
pub struct ConfigValidateArguments {
    /// Another file
    pub file: Option<PathBuf>,
}
