//! How the agent learns what process 1 is about to do.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use banger_types::guest::ShutdownAction;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::signals;

/// Returns whether systemd is process 1 (`sd_booted(3)`).
pub(crate) fn is_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// What our own init says before it ends everything: the signal that asked for it, passed on.
#[derive(Debug)]
pub(crate) struct Announcements {
    poweroff: Signal,
    reboot: Signal,
}

impl Announcements {
    /// Begins to listen.
    pub(crate) fn open() -> io::Result<Self> {
        let listen = |action| signal(SignalKind::from_raw(signals::request(action)));
        Ok(Self { poweroff: listen(ShutdownAction::Poweroff)?, reboot: listen(ShutdownAction::Reboot)? })
    }

    /// Waits for an announcement.
    pub(crate) async fn next(&mut self) -> ShutdownAction {
        tokio::select! {
            _ = self.poweroff.recv() => ShutdownAction::Poweroff,
            _ = self.reboot.recv() => ShutdownAction::Reboot,
        }
    }
}

/// Returns what systemd is doing when it has come to its last act.
///
/// Process 1 then is no longer `systemd` but `systemd-shutdown VERB …`, which ends all processes that are left: us by a
/// SIGTERM (systemd-shutdown(8)). When process 1 is anything else, somebody ended or restarted the agent alone.
pub(crate) fn announced_by_systemd() -> Option<ShutdownAction> {
    action_of(&std::fs::read("/proc/1/cmdline").ok()?)
}

fn action_of(command_line: &[u8]) -> Option<ShutdownAction> {
    let mut arguments = command_line.split(|&byte| byte == 0);
    let program = Path::new(OsStr::from_bytes(arguments.next()?));
    if program.file_name() != Some(OsStr::new("systemd-shutdown")) {
        return None;
    }
    match arguments.next()? {
        b"poweroff" | b"halt" => Some(ShutdownAction::Poweroff),
        b"reboot" | b"kexec" | b"soft-reboot" => Some(ShutdownAction::Reboot),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_systemds_last_act_announces_anything() {
        let lines: [(&[u8], _); 5] = [
            (b"/lib/systemd/systemd-shutdown\0poweroff\0--log-level\x006\0", Some(ShutdownAction::Poweroff)),
            (b"/usr/lib/systemd/systemd-shutdown\0reboot\0", Some(ShutdownAction::Reboot)),
            (b"/sbin/init\0", None),
            (b"/lib/systemd/systemd\0poweroff\0", None),
            (b"", None),
        ];
        for (line, expected) in lines {
            assert_eq!(action_of(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
