//! The daemon that owns a user's virtual machines and their images.

use std::process::ExitCode;

mod api;
mod artifact;
mod catalog;
mod configuration;
mod daemon;
mod failure;
mod layout;
mod operation;
mod programs;
mod random;
mod ready;
mod reconcile;
mod startup;
mod vm;

fn main() -> ExitCode {
    startup::main()
}
