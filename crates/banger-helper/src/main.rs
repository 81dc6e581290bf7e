//! The little that needs root, for `bangerd`: see `banger_types::helper` for what can be asked.
//!
//! It is run by `sudo -n`, does one thing, and ends; what goes on is a user's name server, which is that user's process. What is asked comes from a user who may be hostile, and so does everything in
//! the environment that this program was started in: nothing of that is used but what sudo itself says of the caller.

mod allocation;
mod caller;
mod connections;
mod device;
mod directory;
mod error;
mod firewall;
mod foreign;
mod hosts;
mod jail;
mod names;
mod network;
mod pool;
mod request;
mod state;
mod surroundings;
mod sysctl;
mod tool;
mod verbs;

use std::io::Write as _;
use std::process::ExitCode;

use banger_types::helper::{HelperAnswer, RUN_VMM};

fn main() -> ExitCode {
    surroundings::leave();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first() {
        Some(role) if role == names::ROLE => {
            // Nobody listens to why.
            let _ = names::serve(&arguments[1..]);
            return ExitCode::FAILURE;
        }
        Some(role) if role == RUN_VMM => return jail::run(&arguments[1..]),
        _ => {}
    }
    let answer = request::read(std::io::stdin().lock())
        .and_then(|verb| verbs::answer(&caller::Caller::of_this_process()?, verb))
        .unwrap_or_else(|error| HelperAnswer::Refused(error.into()));
    match say(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(answer: &HelperAnswer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line)
}
