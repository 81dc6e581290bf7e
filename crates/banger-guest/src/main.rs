//! Init, agent and SSH server of a banger guest: one static binary, put beside the image, not in it.

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        banger_guest::boot::run();
    }
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("agent") => banger_guest::agent::run(),
        Some("sftp") => banger_guest::sftp::run(),
        Some("session") => banger_guest::login::run(arguments.next().as_deref()),
        Some("console") => banger_guest::console::run(),
        Some("service") => banger_guest::service::run(),
        _ => {
            banger_guest::log!(
                "usage: banger-guest agent | sftp | session FD | service | console (or, as process 1, nothing)"
            );
            ExitCode::from(2)
        }
    }
}
