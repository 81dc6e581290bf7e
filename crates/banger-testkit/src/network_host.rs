//! Hosts made of namespaces: for what is about networks and needs no kernel of its own.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use banger_types::helper::HELPER_PREFIX;
use rustix::process::{Pid, Signal, kill_process};

use crate::environment::programs;
use crate::not_run;

/// A host, as far as network, `/run`, `/etc` and `/var/lib` go. Nothing of it outlives the test.
#[derive(Debug)]
pub struct NetworkHost {
    holder: Running,
}

impl NetworkHost {
    /// Returns one, or says that the test is not run.
    pub fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            not_run(test, "only root can make a host of its own");
            return None;
        }
        Some(Self::make())
    }

    /// Returns a host on the other side of a cable, whose end here has this name; there it is `eth0`.
    #[must_use]
    pub fn peer(&self, device: &str) -> Self {
        let peer = Self::make();
        let process = peer.holder.0.id();
        self.run(&format!("ip link add {device} type veth peer name eth0 netns {process}"));
        self.run(&format!("ip link set {device} up"));
        peer.run("ip link set eth0 up");
        peer
    }

    fn make() -> Self {
        // What /sys shows of interfaces is of the namespace in which it was mounted; and /etc is this host's, so that one's is not
        // changed by another's.
        let script = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mount -t sysfs none /sys && mkdir /run/etc && cp -a /etc/. /run/etc \
                      && mount --bind /run/etc /etc && rm -f /etc/hosts /etc/resolv.conf && : > /etc/resolv.conf \
                      && mkdir /run/banger && echo 127.0.0.1 localhost > /etc/hosts && ip link set lo up && echo there && exec cat";
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--mount", "--", "sh", "-c", script]);
        Self { holder: Running::start(&mut hold, "there") }
    }

    /// Installs the root helper, as its package does.
    pub fn install_helper(&self) {
        let script = "mount -t tmpfs -o mode=755 none /usr/libexec && install -D -m 755 \"$0\" \"$1\"";
        let place = format!("{HELPER_PREFIX}{}", env!("CARGO_PKG_VERSION"));
        let mut install = self.command("sh");
        install.args(["-c", script]).arg(programs().join("banger-helper")).arg(place);
        assert!(install.status().expect("run a shell").success());
    }

    /// Returns where a file of it is, for whoever is outside.
    fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.0.id()))
    }

    /// Returns a program in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Absolute, for the environment of what is run may say nothing of where programs are.
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(self.entrance()).arg(program);
        command
    }

    /// Returns the arguments with which `nsenter` starts a program in it.
    pub(crate) fn entrance(&self) -> [String; 5] {
        ["-t", &self.holder.0.id().to_string(), "-n", "-m", "--"].map(str::to_owned)
    }

    /// Runs a program to its end.
    pub fn outcome(&self, words: &str) -> Output {
        let mut words = words.split(' ');
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words).output().expect("run a program")
    }

    /// Returns what a program prints, which must succeed.
    pub fn run(&self, words: &str) -> String {
        let output = self.outcome(words);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns everything that networks could have left on it: interfaces, addresses, rules without their counts, settings, names,
    /// files, servers.
    pub fn state(&self) -> String {
        let words = [
            "ip -brief address",
            "nft --stateless list ruleset",
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/lo/accept_ra",
        ];
        // The order of these is nobody's promise.
        let unordered = ["find /run/banger /var/lib -type f -not -name lock*", "ss -Hlun", "ss -Hltn"];
        let said = words.iter().map(|words| self.run(words));
        let sorted = unordered.iter().map(|words| sorted(&self.run(words)));
        said.chain(sorted).chain([self.hosts()]).collect::<Vec<_>>().join("\n")
    }

    /// Waits until that is so again.
    pub fn wait_for_state(&self, wanted: &str) {
        wait_until(|| self.state(), |state| state == wanted);
    }

    /// Returns its `/etc/hosts`.
    pub fn hosts(&self) -> String {
        std::fs::read_to_string(self.file("/etc/hosts")).expect("read a file")
    }

    /// Names its name servers.
    pub fn names_are_asked_of(&self, server: &str) {
        std::fs::write(self.file("/etc/resolv.conf"), format!("nameserver {server}\n"))
            .expect("write a file");
    }

    /// Starts a server that answers with what it gets, at an address as `banger-test-probe` takes it: `10.0.0.1:80`, or
    /// `10.0.0.1:53/udp`.
    pub fn serve(&self, address: &str) -> Running {
        let mut serve = self.command(programs().join("banger-test-probe"));
        Running::start(serve.args(["serve", address]), "serving")
    }

    /// Whether such a server is reached from here.
    pub fn reaches(&self, address: &str) -> bool {
        let mut ask = self.command(programs().join("banger-test-probe"));
        ask.args(["ask", address]).status().expect("run the probe").success()
    }

    /// Returns the addresses that a name has here.
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let said = self.outcome(&format!("getent ahosts {name}"));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut found: Vec<IpAddr> =
            text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        found.dedup();
        found
    }
}

/// What it has started itself, as a network's name server, would go on for ever.
impl Drop for NetworkHost {
    fn drop(&mut self) {
        let own = self.holder.0.id();
        let namespace = |process: u32| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let wanted = namespace(own);
        if wanted.is_none() || wanted == namespace(std::process::id()) {
            return;
        }
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for process in numbers.filter(|process| *process != own && namespace(*process) == wanted) {
            if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                kill_process(process, Signal::KILL).ok();
            }
        }
    }
}

/// Returns lines in their order.
fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// How long what is done by and by may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until what is seen is as wanted.
pub fn wait_until(look: impl Fn() -> String, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if wanted(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "it stays like this: {seen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that says when it has begun, and ends with its standard input.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it and waits for its first line.
    pub fn start(command: &mut Command, line: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("read its output");
        assert_eq!(said.trim_end(), line, "{command:?}");
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}
