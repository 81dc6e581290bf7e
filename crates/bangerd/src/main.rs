//! The daemon that owns a user's virtual machines and their images.

use std::process::ExitCode;

mod api;
mod artifact;
mod assignment;
mod catalog;
mod daemon;
mod event;
mod failure;
mod fault;
mod layout;
mod operation;
mod programs;
mod random;
mod ready;
mod reconcile;
mod settings;
mod space;
mod ssh;
mod startup;
mod take_up;
mod vm;

fn main() -> ExitCode {
    startup::main()
}
