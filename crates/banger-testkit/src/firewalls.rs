//! Daemons of other people's on a host made of namespaces, the real ones: firewalls before all.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::network_host::{NetworkHost, wait_until};
use crate::not_run;

/// Whether these programs are on this machine; if one is not, it is said that the test is not run.
pub fn are_installed(test: &str, programs: &[&str]) -> bool {
    for program in programs {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        if !found.expect("run a shell").status.success() {
            not_run(test, &format!("{program} is not installed"));
            return false;
        }
    }
    true
}

/// Runs a shell's script on a host, which must succeed. Returns what it printed on both of its streams.
pub fn shell(host: &NetworkHost, script: &str) -> String {
    let output = host.command("sh").args(["-c", script]).output().expect("run a shell");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    said
}

/// A daemon of a host's. Its whole process tree ends with it, by force, as in a crash.
#[derive(Debug)]
pub struct HostDaemon(Child);

impl HostDaemon {
    /// Starts what a shell's script becomes, and waits until it is up.
    pub fn start(host: &NetworkHost, script: &str, is_up: impl Fn() -> bool) -> Self {
        let mut start = host.command("unshare");
        start.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", script]);
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self(start.spawn().expect("start a daemon"));
        wait_until(|| is_up().to_string(), |is_up| is_up == "true");
        daemon
    }

    /// Returns the first process of its namespace, with whose end all others' comes first (`pid_namespaces(7)`).
    fn first_process(&self) -> Option<Pid> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }
}

impl Drop for HostDaemon {
    fn drop(&mut self) {
        match self.first_process() {
            Some(first) => drop(kill_process(first, Signal::KILL)),
            None => drop(self.0.kill()),
        }
        self.0.wait().ok();
    }
}

/// Starts Docker on a host, or starts it again where one was.
pub fn start_docker(host: &NetworkHost) -> HostDaemon {
    // What it leaves behind when it is killed, and takes for another that runs.
    let tidy = "rm -rf /run/docker.pid /run/docker.sock /run/docker-exec";
    // Control groups are not those of the machine around it: no container is ever started.
    let groups = "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || mount -t tmpfs none /sys/fs/cgroup";
    shell(host, &format!("{tidy} && {{ {groups}; }}"));
    let script = "exec dockerd --data-root /run/docker-data --exec-root /run/docker-exec --pidfile /run/docker.pid \
                  -H unix:///run/docker.sock";
    HostDaemon::start(host, script, || {
        let asked = host.outcome("curl -sf --unix-socket /run/docker.sock http://docker/_ping");
        asked.status.success() && host.run("iptables -w -S FORWARD").contains("DOCKER-USER")
    })
}
