//! The small process that owns one VM: its VMM, console, exit status, forwards and control socket.
//!
//! `banger-monitor DIRECTORY` does what `banger_types::monitor` says. One thread, one event loop.
//!
//! # What dies with what
//!
//! - The daemon may die and be replaced: the monitor is the leader of a session of its own.
//! - The VMM and its helpers die with the monitor, even if it is killed by SIGKILL
//!   (`PR_SET_PDEATHSIG`, prctl(2)): a VMM without a monitor would have no console, no exit status
//!   and no control channel, and nobody would ever end it.
//! - The monitor ends, with code 0, when its VMM has ended and everybody who asked has been told. It starts its
//!   programs again when the guest reboots by itself and nobody wants the VM to end.

mod guest;
mod host;
mod monitor;
mod start;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    start::main()
}
