//! Names that guests ask for, on a host whose resolver and whose network are not always the same.

use banger_testkit::{Environment, HostDaemon, NetworkHost, Running, are_installed, shell, wait_until};

use crate::nat::{create, in_guest};
use crate::network::reaches;

/// Where a host's own resolver listens, as systemd-resolved does: no guest gets there.
const STUB: &str = "127.0.0.53";
/// Where that finds its name servers.
const UPSTREAMS: &str = "/run/upstreams.conf";

/// What every dnsmasq(8) here is told.
const DNSMASQ: &str = "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file --no-hosts --bind-interfaces";

/// Starts a name server at this address, which knows one name, below `example`, as its own; nobody is to ask for it again soon.
pub(crate) fn serve_name(host: &NetworkHost, address: &str, name: &str) -> HostDaemon {
    let knows = "--no-resolv --local=/example/ --local-ttl=600";
    let script = format!("{DNSMASQ} {knows} --address=/{name}/{address} --listen-address={address}");
    start(host, &script, address)
}

/// Starts a resolver on a host's loopback.
fn start_stub(host: &NetworkHost) -> HostDaemon {
    let asks = format!("--resolv-file={UPSTREAMS} --clear-on-reload");
    start(host, &format!("{DNSMASQ} {asks} --listen-address={STUB}"), STUB)
}

fn start(host: &NetworkHost, script: &str, address: &str) -> HostDaemon {
    HostDaemon::start(host, script, || host.run("ss -Hlun").contains(&format!(" {address}:53 ")))
}

/// Whether a guest finds this address for a name.
pub(crate) fn finds(environment: &Environment, vm: &str, name: &str, address: &str) -> bool {
    let asked = in_guest(environment, vm, &format!("nslookup {name}"));
    // It fails when there is no address of the other family.
    asked.text().lines().any(|line| line == format!("Address: {address}"))
}

/// A network that a host may be in: with a way out, a name server there, and a server that has the name which that knows.
struct Site {
    cable: &'static str,
    address: String,
    name: &'static str,
    _names: HostDaemon,
    _server: Running,
    _router: NetworkHost,
}

impl Site {
    /// Plugs a host in.
    fn new(host: &NetworkHost, cable: &'static str, network: &str, name: &'static str) -> Self {
        let router = host.peer(cable);
        let address = format!("{network}.9");
        router.run(&format!("ip address add {address}/24 dev eth0"));
        host.run(&format!("ip address add {network}.1/24 dev {cable}"));
        host.run(&format!("ip route add default via {address}"));
        let names = serve_name(&router, &address, name);
        let server = router.serve(&format!("{address}:80"));
        Self { cable, address, name, _names: names, _server: server, _router: router }
    }

    /// Pulls the cable out.
    fn leave(self, host: &NetworkHost) {
        host.run(&format!("ip link delete {}", self.cable));
    }

    /// Checks that guests find what is here by its name, and nothing by another's.
    fn is_where_they_are(&self, environment: &Environment, before: Option<&str>) {
        for vm in ["placed", "plain"] {
            let found = || in_guest(environment, vm, &format!("nslookup {}", self.name)).text();
            wait_until(found, |found| found.contains(&format!("Address: {}\n", self.address)));
            assert!(reaches(environment, vm, &format!("{}:80", self.address)), "{vm}: {}", self.name);
            if let Some(before) = before {
                let asked = in_guest(environment, vm, &format!("nslookup {before}"));
                assert_ne!(asked.code, 0, "{vm}: {}", asked.text());
                // There is somebody who says so.
                assert!(asked.text().contains("NXDOMAIN"), "{vm}: {}{}", asked.text(), asked.stderr);
            }
        }
    }
}

/// Returns a host with the helper, if this test can be run.
fn host(test: &str) -> Option<NetworkHost> {
    if !are_installed(test, &["dnsmasq"]) {
        return None;
    }
    let host = NetworkHost::new(test)?;
    host.install_helper();
    Some(host)
}

/// Makes a VM of each kind that has a network.
fn start_guests(host: &NetworkHost) -> Environment {
    let environment = Environment::new().on(host);
    create(&environment, "placed", &["--net", "nat"]);
    create(&environment, "plain", &["--net", "user"]);
    environment
}

#[test]
fn a_resolver_on_the_hosts_loopback_is_asked_and_whom_that_asks_may_change() {
    let Some(host) = host("a_resolver_on_the_hosts_loopback_is_asked") else { return };
    let home = Site::new(&host, "wan0", "203.0.113", "home.example");
    let ask = |site: &Site| shell(&host, &format!("echo nameserver {} > {UPSTREAMS}", site.address));
    ask(&home);
    host.names_are_asked_of(STUB);
    let _stub = start_stub(&host);
    let environment = start_guests(&host);
    home.is_where_they_are(&environment, None);

    home.leave(&host);
    let office = Site::new(&host, "wan1", "198.51.100", "office.example");
    ask(&office);
    office.is_where_they_are(&environment, Some("home.example"));
    // Whoever carries a laptop back finds everything as it was.
    office.leave(&host);
    let home = Site::new(&host, "wan0", "203.0.113", "home.example");
    ask(&home);
    home.is_where_they_are(&environment, Some("office.example"));
}

#[test]
fn whom_the_host_asks_is_looked_up_anew_in_whatever_file_is_there_now() {
    let Some(host) = host("whom_the_host_asks_is_looked_up_anew") else { return };
    let home = Site::new(&host, "wan0", "203.0.113", "home.example");
    host.names_are_asked_of(&home.address);
    let environment = start_guests(&host);
    home.is_where_they_are(&environment, None);

    // Another file in its place, as DHCP clients and NetworkManager put it there.
    home.leave(&host);
    let office = Site::new(&host, "wan1", "198.51.100", "office.example");
    let replace = "cd /etc && echo nameserver $0 > resolv.conf.new && mv resolv.conf.new resolv.conf";
    shell(&host, &replace.replace("$0", &office.address));
    office.is_where_they_are(&environment, Some("home.example"));
    // A link in its place that leads to a resolver's, as systemd-resolved has it.
    office.leave(&host);
    let hotel = Site::new(&host, "wan2", "192.0.2", "hotel.example");
    shell(&host, &format!("echo nameserver {} > {UPSTREAMS}", hotel.address));
    let _stub = start_stub(&host);
    shell(
        &host,
        &format!("echo nameserver {STUB} > /run/stub.conf && ln -sf /run/stub.conf /etc/resolv.conf"),
    );
    hotel.is_where_they_are(&environment, Some("office.example"));
}
