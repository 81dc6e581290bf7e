//! The program `banger` as its users see it: against a fake daemon that speaks the API, and a fake
//! monitor with a real SSH server behind it, both in this process.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the test's")]

mod completion;
mod config;
mod copy;
mod daemon;
mod engine;
mod errors;
mod exec;
mod forward;
mod help;
mod image;
mod kernel;
mod operation;
mod plain;
mod run;
mod space;
mod ssh;
mod ssh_config;
mod support;
mod terminal;
mod version;
mod vm;
mod wait;
