//! Other firewalls, the real ones: what they would drop goes through, and nothing is left with them of what they were told.

use std::process::{Child, Command, Stdio};

use banger_testkit::{NetworkHost, wait_until};
use banger_types::helper::VmPlace;

use crate::host::{ALICE, Host};
use crate::traffic::{WORLD, guest, world};

/// A host with a firewall that is running, and how it is made to load its rules anew.
struct Firewall {
    host: Host,
    daemon: Option<Child>,
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.end();
    }
}

impl Firewall {
    /// Returns a host on which these programs are, or says that the test is not run.
    fn new(test: &str, programs: &[&str]) -> Option<Self> {
        for program in programs {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output().unwrap();
            if !found.status.success() {
                banger_testkit::not_run(test, &format!("{program} is not installed"));
                return None;
            }
        }
        Some(Self { host: Host::new(test)?, daemon: None })
    }

    /// Starts its daemon, whose whole tree ends with it.
    fn start(&mut self, script: &str, is_up: impl Fn(&Host) -> bool) {
        let mut start = self.host.0.command("unshare");
        start.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", script]);
        let daemon = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.daemon = Some(daemon.unwrap());
        wait_until(|| is_up(&self.host).to_string(), |is_up| is_up == "true");
    }

    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }

    fn shell(&self, script: &str) -> String {
        let output = self.host.0.command("sh").args(["-c", script]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        said
    }
}

/// A guest, a server beyond its host, and whether the one reaches the other by all ways that it has.
struct Ways {
    guest: NetworkHost,
    world: NetworkHost,
    place: VmPlace,
}

impl Ways {
    fn new(host: &Host) -> Self {
        let world = world(host);
        let place = host.place(ALICE, 1, "web");
        let guest = guest(host, &place);
        Self { guest, world, place }
    }

    fn are_open(&self, host: &Host) -> [bool; 4] {
        let _server = self.world.serve(&format!("{WORLD}:80"));
        let _guests = self.guest.serve("0.0.0.0:80");
        [
            self.guest.reaches(&format!("{WORLD}:80")),
            host.0.reaches(&format!("{}:80", self.place.device.address)),
            !self.guest.resolve("host.banger").is_empty(),
            // What none of them opens.
            !self.guest.reaches(&format!("{}:22", self.place.network.gateway)),
        ]
    }
}

/// Everything that iptables has, of both families, without its counts; its chains stay when their last rule has gone.
const RULES: &str = "for tool in iptables ip6tables; do $tool -w -S 2>/dev/null | sort; done";

#[test]
fn docker_lets_a_network_through_restarted_too_and_keeps_nothing() {
    let programs = ["dockerd", "iptables"];
    let Some(mut docker) = Firewall::new("docker_lets_a_network_through", &programs) else { return };
    docker.shell("mount -t cgroup2 none /sys/fs/cgroup || mount -t tmpfs none /sys/fs/cgroup");
    let script = "exec dockerd --data-root /run/docker-data --exec-root /run/docker-exec --pidfile /run/docker.pid \
                  -H unix:///run/docker.sock";
    let is_up = |host: &Host| {
        let asked = host.outcome("curl -sf --unix-socket /run/docker.sock http://docker/_ping");
        asked.status.success() && host.run("iptables -w -S FORWARD").contains("DOCKER-USER")
    };
    docker.start(script, is_up);
    let (before, drops) = (docker.shell(RULES), docker.host.run("iptables -w -S FORWARD"));
    assert!(drops.contains("-P FORWARD DROP"), "{drops}");
    // What its administrator forbids stays forbidden.
    docker.shell("iptables -w -I DOCKER-USER -p tcp --dport 81 -j DROP");
    let ways = Ways::new(&docker.host);
    assert_eq!(ways.are_open(&docker.host), [true; 4]);
    let forbidden = ways.world.serve(&format!("{WORLD}:81"));
    assert!(!ways.guest.reaches(&format!("{WORLD}:81")));
    drop(forbidden);
    docker.shell("iptables -w -D DOCKER-USER -p tcp --dport 81 -j DROP");
    let told = docker.host.run("iptables -w -S DOCKER-USER");
    assert_eq!(
        told.matches("--comment \"banger-1001\"").count() + told.matches("--comment banger-1001").count(),
        2,
        "{told}"
    );
    // Asked again, nothing is there twice.
    docker.host.place(ALICE, 1, "web");
    assert_eq!(docker.host.run("iptables -w -S DOCKER-USER"), told);

    docker.end();
    docker.shell("rm -f /run/docker.pid /run/docker.sock");
    docker.start(script, is_up);
    assert_eq!(ways.are_open(&docker.host), [true; 4], "after its restart");
    // Somebody who flushes everything is noticed at the next start of a VM.
    docker.shell("iptables -w -F DOCKER-USER");
    assert!(!ways.are_open(&docker.host)[0]);
    docker.host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&docker.host), [true; 4], "told anew");
    docker.host.remove(ALICE, &[1, 2]);
    docker.shell("iptables -w -A DOCKER-USER -j RETURN");
    assert_eq!(docker.shell(RULES), before);
}

#[test]
fn ufw_lets_a_network_through_reloaded_too_and_keeps_nothing() {
    let Some(ufw) = Firewall::new("ufw_lets_a_network_through", &["ufw", "iptables"]) else { return };
    ufw.shell("ufw --force enable");
    let rules = "ufw status; cat /etc/ufw/user.rules /etc/ufw/user6.rules";
    let before = ufw.shell(rules);
    assert!(ufw.host.run("iptables -w -S FORWARD").contains("-P FORWARD DROP"));
    let ways = Ways::new(&ufw.host);
    assert_eq!(ways.are_open(&ufw.host), [true; 4]);
    ufw.shell("ufw reload");
    assert_eq!(ways.are_open(&ufw.host), [true; 4], "after it has loaded its rules anew");
    ufw.shell("ufw route delete allow in on bgr1001");
    assert!(!ways.are_open(&ufw.host)[0]);
    ufw.host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&ufw.host), [true; 4], "told anew");
    ufw.host.remove(ALICE, &[1, 2]);
    assert_eq!(ufw.shell(rules), before);
}

#[test]
fn firewalld_lets_a_network_through_reloaded_too_and_keeps_nothing() {
    let programs = ["firewalld", "firewall-cmd", "dbus-daemon"];
    let Some(mut firewalld) = Firewall::new("firewalld_lets_a_network_through", &programs) else { return };
    let script = "mkdir -p /run/dbus && rm -f /run/dbus/* && { dbus-daemon --system --nofork --nopidfile & } \
                  && exec firewalld --nofork --nopid";
    firewalld.start(script, |host| host.outcome("firewall-cmd --state").status.success());
    let zones = "firewall-cmd --get-active-zones; firewall-cmd --permanent --zone=trusted --list-all";
    let before = firewalld.shell(zones);
    let ways = Ways::new(&firewalld.host);
    assert_eq!(ways.are_open(&firewalld.host), [true; 4]);
    firewalld.shell("firewall-cmd --reload");
    assert_eq!(ways.are_open(&firewalld.host), [true; 4], "after it has loaded its rules anew");
    firewalld.shell("firewall-cmd --zone=trusted --remove-interface=bgr1001");
    assert!(!ways.are_open(&firewalld.host)[0]);
    firewalld.host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&firewalld.host), [true; 4], "told anew");
    firewalld.host.remove(ALICE, &[1, 2]);
    assert_eq!(firewalld.shell(zones), before);
}

#[test]
fn a_chain_that_drops_and_is_nobodys_is_told_of() {
    let Some(host) = Host::new("a_chain_that_drops_and_is_nobodys") else { return };
    assert!(host.place(ALICE, 1, "web").warnings.is_empty());
    host.run("nft add table inet mine");
    let chain = "{ type filter hook forward priority 0 ; policy drop ; }";
    let mut add = host.0.command("nft");
    assert!(add.args(["add", "chain", "inet", "mine", "gate", chain]).status().unwrap().success());
    let warnings = host.place(ALICE, 1, "web").warnings;
    assert_eq!(
        warnings,
        [
            "the firewall chain 'gate' of the table 'inet mine' drops what it does not know: let pass what comes from and goes to bgr1001"
        ]
    );
}
