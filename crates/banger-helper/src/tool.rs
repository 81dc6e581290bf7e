//! Programs of the host's, by their absolute paths, with arguments of ours and an environment of nothing.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::Refusal;

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    /// Where distributions have it.
    places: &'static [&'static str],
}

/// ip(8).
pub(crate) const IP: Tool =
    Tool { name: "ip", places: &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"] };
/// bridge(8).
pub(crate) const BRIDGE: Tool =
    Tool { name: "bridge", places: &["/usr/sbin/bridge", "/sbin/bridge", "/usr/bin/bridge"] };
/// nft(8).
pub(crate) const NFT: Tool = Tool { name: "nft", places: &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"] };

/// iptables(8), of whichever kind the host has.
pub(crate) const IPTABLES: Tool =
    Tool { name: "iptables", places: &["/usr/sbin/iptables", "/sbin/iptables"] };
/// The same for IPv6.
pub(crate) const IP6TABLES: Tool =
    Tool { name: "ip6tables", places: &["/usr/sbin/ip6tables", "/sbin/ip6tables"] };
/// ufw(8).
pub(crate) const UFW: Tool = Tool { name: "ufw", places: &["/usr/sbin/ufw"] };
/// firewall-cmd(1).
pub(crate) const FIREWALL_CMD: Tool = Tool { name: "firewall-cmd", places: &["/usr/bin/firewall-cmd"] };

/// How long a program may take: everybody else waits meanwhile.
const LIMIT: Duration = Duration::from_secs(15);

/// Returns what a program says, and whether it was ended because it took too long.
fn output_in_time(child: Child) -> io::Result<(Output, bool)> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (done, ended) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let is_late = ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        // It may have ended at this moment.
        is_late && pidfd_send_signal(&process, Signal::KILL).is_ok()
    });
    let output = child.wait_with_output();
    drop(done);
    let was_late = watch.join().unwrap_or_default();
    Ok((output?, was_late))
}

impl Tool {
    /// Runs it with this on its standard input. Returns what it printed.
    pub(crate) fn run(self, arguments: &[&str], input: &str) -> Result<String, Refusal> {
        let failed = |reason: String| Refusal::Tool { tool: self.name, reason };
        let mut child = Command::new(self.find()?)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        // It reads all of it before it prints anything that could fill a pipe.
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
        }
        let (output, was_late) = output_in_time(child).map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if was_late {
            return Err(failed(format!(
                "it was ended after {} s, in which it had not done it",
                LIMIT.as_secs()
            )));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(said.trim().chars().take(1000).collect()))
    }

    fn find(self) -> Result<&'static Path, Refusal> {
        let mut places = self.places.iter().map(Path::new);
        places.find(|place| place.is_file()).ok_or(Refusal::NoTool(self.name))
    }
}
