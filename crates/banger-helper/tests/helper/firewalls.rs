//! Other firewalls, the real ones: what they would drop goes through, and nothing is left with them of what they were told.

use banger_testkit::{HostDaemon, NetworkHost, are_installed, shell, start_docker, wait_until};
use banger_types::helper::VmPlace;

use crate::host::{ALICE, BOB, Host};
use crate::traffic::{WORLD, guest, world};

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
    let test = "docker_lets_a_network_through";
    if !are_installed(test, &["dockerd", "iptables", "curl"]) {
        return;
    }
    let Some(host) = Host::new(test) else { return };
    let docker = start_docker(&host.0);
    let (before, drops) = (shell(&host.0, RULES), host.run("iptables -w -S FORWARD"));
    assert!(drops.contains("-P FORWARD DROP"), "{drops}");
    // What its administrator forbids stays forbidden.
    shell(&host.0, "iptables -w -I DOCKER-USER -p tcp --dport 81 -j DROP");
    let ways = Ways::new(&host);
    assert_eq!(ways.are_open(&host), [true; 4]);
    let forbidden = ways.world.serve(&format!("{WORLD}:81"));
    assert!(!ways.guest.reaches(&format!("{WORLD}:81")));
    drop(forbidden);
    shell(&host.0, "iptables -w -D DOCKER-USER -p tcp --dport 81 -j DROP");
    let told = host.run("iptables -w -S DOCKER-USER");
    assert_eq!(
        told.matches("--comment \"banger-1001\"").count() + told.matches("--comment banger-1001").count(),
        2,
        "{told}"
    );
    // Asked again, nothing is there twice.
    host.place(ALICE, 1, "web");
    assert_eq!(host.run("iptables -w -S DOCKER-USER"), told);

    drop(docker);
    let _docker = start_docker(&host.0);
    assert_eq!(ways.are_open(&host), [true; 4], "after its restart");
    // Somebody who flushes everything is noticed at the next start of a VM.
    shell(&host.0, "iptables -w -F DOCKER-USER");
    assert!(!ways.are_open(&host)[0]);
    host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&host), [true; 4], "told anew");
    host.remove(ALICE, &[1, 2]);
    shell(&host.0, "iptables -w -A DOCKER-USER -j RETURN");
    assert_eq!(shell(&host.0, RULES), before);
}

#[test]
fn ufw_lets_a_network_through_reloaded_too_and_keeps_nothing() {
    let test = "ufw_lets_a_network_through";
    if !are_installed(test, &["ufw", "iptables"]) {
        return;
    }
    let Some(host) = Host::new(test) else { return };
    shell(&host.0, "ufw --force enable");
    let rules = "ufw status; cat /etc/ufw/user.rules /etc/ufw/user6.rules";
    let before = shell(&host.0, rules);
    assert!(host.run("iptables -w -S FORWARD").contains("-P FORWARD DROP"));
    let ways = Ways::new(&host);
    assert_eq!(ways.are_open(&host), [true; 4]);
    shell(&host.0, "ufw reload");
    assert_eq!(ways.are_open(&host), [true; 4], "after it has loaded its rules anew");
    shell(&host.0, "ufw route delete allow in on bgr1001");
    assert!(!ways.are_open(&host)[0]);
    host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&host), [true; 4], "told anew");
    host.remove(ALICE, &[1, 2]);
    assert_eq!(shell(&host.0, rules), before);
}

#[test]
fn firewalld_lets_a_network_through_reloaded_too_and_keeps_nothing() {
    let test = "firewalld_lets_a_network_through";
    if !are_installed(test, &["firewalld", "firewall-cmd", "dbus-daemon"]) {
        return;
    }
    let Some(host) = Host::new(test) else { return };
    let script = "mkdir -p /run/dbus && rm -f /run/dbus/* && { dbus-daemon --system --nofork --nopidfile & } \
                  && exec firewalld --nofork --nopid";
    let is_up = || host.outcome("firewall-cmd --state").status.success();
    let _firewalld = HostDaemon::start(&host.0, script, is_up);
    let zones = "firewall-cmd --get-active-zones; firewall-cmd --permanent --zone=trusted --list-all";
    let before = shell(&host.0, zones);
    let ways = Ways::new(&host);
    assert_eq!(ways.are_open(&host), [true; 4]);
    shell(&host.0, "firewall-cmd --reload");
    assert_eq!(ways.are_open(&host), [true; 4], "after it has loaded its rules anew");
    shell(&host.0, "firewall-cmd --zone=trusted --remove-interface=bgr1001");
    assert!(!ways.are_open(&host)[0]);
    host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&host), [true; 4], "told anew");
    host.remove(ALICE, &[1, 2]);
    assert_eq!(shell(&host.0, zones), before);
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

/// Ends the name servers of networks.
fn end_names(host: &Host) {
    shell(&host.0, "kill $(ss -Hlunp | grep banger-names | sed 's/.*pid=\\([0-9]*\\).*/\\1/')");
    wait_until(|| host.run("ss -Hlunp"), |servers| !servers.contains("banger-names"));
}

/// What a restart of the host leaves of it: what files have that last.
fn restart(host: &Host) {
    let script = "for link in $(ls /sys/class/net | grep -E '^bg[rt]'); do ip link delete $link; done; \
                  nft list tables | grep banger | while read line; do nft delete $line; done; \
                  rm /run/banger/state.json; echo 0 > /proc/sys/net/ipv4/ip_forward";
    end_names(host);
    shell(&host.0, script);
}

#[test]
fn what_lasting_firewalls_were_told_is_taken_back_after_a_restart_of_the_host() {
    let test = "what_lasting_firewalls_were_told";
    if !are_installed(test, &["ufw", "iptables"]) {
        return;
    }
    let Some(host) = Host::new(test) else { return };
    shell(&host.0, "ufw --force enable");
    let rules = "ufw status; cat /etc/ufw/user.rules /etc/ufw/user6.rules";
    let before = shell(&host.0, rules);
    let ways = Ways::new(&host);
    assert!(shell(&host.0, rules).contains("53 on bgr1001"));
    // Its name server ends, and somebody takes the usual port: ufw is told of the other, and of that one no more.
    end_names(&host);
    let taken = host.0.serve("0.0.0.0:53/udp");
    host.place(ALICE, 2, "api");
    assert_eq!(ways.are_open(&host), [true; 4]);
    drop((taken, ways));
    let told = shell(&host.0, rules);
    assert!(told.contains("600 on bgr1001") && !told.contains("53 on bgr1001"), "{told}");
    restart(&host);
    assert_eq!(shell(&host.0, rules), told);
    // Whoever comes first: it need not be the one whom it was for.
    host.remove(BOB, &[1]);
    assert_eq!(shell(&host.0, rules), before);
    assert!(host.outcome("ls /var/lib/banger").stdout.is_empty());
}
