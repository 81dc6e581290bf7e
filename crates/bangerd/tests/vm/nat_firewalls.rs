//! VMs on a host where Docker and ufw, the real ones, have their own idea of what may pass.

use std::net::{IpAddr, SocketAddr};

use banger_testkit::{Environment, NetworkHost, Running, are_installed, shell, start_docker, wait_until};

use crate::guest::EchoServer;
use crate::names::{finds, serve_name};
use crate::nat::{WORLD, WORLD_V6, addresses, create, host_and_world, place_of};
use crate::network::reaches;

/// A name that the host's name server knows.
const NAME: &str = "world.example";

/// Everything that other firewalls have, without their counts: iptables(8) of both families, and what ufw(8) says.
const RULES: &str = "for tool in iptables ip6tables; do $tool -w -S | sort; $tool -w -t nat -S | sort; done; ufw status; \
                     cat /etc/ufw/user.rules /etc/ufw/user6.rules";

/// Two guests, one with a place in a network of the helper's and one without, and all ways that are to be open.
struct Ways<'a> {
    host: &'a NetworkHost,
    environment: &'a Environment,
    /// Servers beyond the host.
    servers: Vec<String>,
    _served: Vec<Running>,
    _guests: Vec<EchoServer>,
    /// What nobody opens.
    _hosts: Running,
}

impl<'a> Ways<'a> {
    /// Makes the guests, and all who are to be reached.
    fn new(host: &'a NetworkHost, world: &NetworkHost, environment: &'a Environment) -> Self {
        let forwards = ["-p", "127.0.0.1:0:8000", "-p", "127.0.0.1:0:8000/udp"];
        for (vm, net) in [("web", "nat"), ("plain", "user")] {
            let said = create(environment, vm, &[&["--net", net], &forwards[..]].concat());
            assert!(!said.contains("warning"), "{said}");
        }
        let servers: Vec<String> = ["80", "80/udp"]
            .iter()
            .flat_map(|port| [format!("{WORLD}:{port}"), format!("[{WORLD_V6}]:{port}")])
            .collect();
        let guests = ["web", "plain"].iter().flat_map(|vm| {
            ["[::]:8000", "[::]:8000/udp"].map(|address| EchoServer::inside(environment, vm, address))
        });
        Self {
            _served: servers.iter().map(|server| world.serve(server)).collect(),
            _guests: guests.collect(),
            _hosts: host.serve("0.0.0.0:8080"),
            host,
            environment,
            servers,
        }
    }

    /// Returns those that are not open, and those that are and should not be.
    fn wrong(&self) -> Vec<String> {
        let (host, environment) = (self.host, self.environment);
        let mut wrong = Vec::new();
        let mut see = |way: String, is_right: bool| wrong.extend((!is_right).then_some(way));
        for vm in ["web", "plain"] {
            for server in &self.servers {
                see(format!("{vm} to {server}"), reaches(environment, vm, server));
            }
            see(format!("{vm} asks for {NAME}"), finds(environment, vm, NAME, WORLD));
            for (index, forward) in forwards(environment, vm).iter().enumerate() {
                see(format!("forward {index} of {vm}"), host.reaches(forward));
            }
            see(format!("{vm} to its host"), !reaches(environment, vm, "203.0.113.1:8080"));
        }
        let gateway = place_of(environment, "web")["network"]["gateway"].as_str().unwrap().to_owned();
        see("web asks for its host".to_owned(), finds(environment, "web", "host.banger", &gateway));
        let own = addresses(environment, "web");
        let found: Vec<IpAddr> = host.resolve("web.banger");
        see("the name of web".to_owned(), own.iter().all(|address| found.contains(address)));
        for address in found {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let web = SocketAddr::new(address, 8000).to_string();
            see(format!("the host to web by {family}"), host.reaches(&web));
        }
        wrong
    }
}

/// Returns the addresses of the host's that lead into a guest because somebody wants that.
fn forwards(environment: &Environment, vm: &str) -> Vec<String> {
    let shown = environment.vm(vm);
    let forwards = shown["forwards"].as_array().unwrap().iter();
    forwards.map(|forward| forward["listen"].as_str().unwrap().to_owned()).collect()
}

/// Returns what networks could have left on a host. Docker makes some of its chains anew, which then stand elsewhere.
fn state(host: &NetworkHost) -> String {
    let state = host.state();
    let mut lines: Vec<&str> = state.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn docker_and_ufw_together_let_everything_through_whatever_becomes_of_them_and_keep_nothing() {
    let test = "docker_and_ufw_together_let_everything_through";
    if !are_installed(test, &["dockerd", "curl", "ufw", "iptables", "dnsmasq"]) {
        return;
    }
    let Some((host, world)) = host_and_world(test) else { return };
    let _names = serve_name(&world, WORLD, NAME);
    host.names_are_asked_of(WORLD);
    let docker = start_docker(&host);
    // Loaded anew, it has two rules for IPv6 that it has not at first.
    shell(&host, "ufw --force enable && ufw reload");
    for tool in ["iptables", "ip6tables"] {
        let forward = host.run(&format!("{tool} -w -S FORWARD"));
        assert!(forward.contains("-P FORWARD DROP"), "{forward}");
    }
    let (rules, state) = (shell(&host, RULES), state(&host));
    let environment = Environment::new().on(&host);
    let ways = Ways::new(&host, &world, &environment);
    let nothing: [&str; 0] = [];
    assert_eq!(ways.wrong(), nothing);

    shell(&host, "ufw reload");
    assert_eq!(ways.wrong(), nothing, "after ufw has loaded its rules anew");
    drop(docker);
    let _docker = start_docker(&host);
    assert_eq!(ways.wrong(), nothing, "after Docker's restart");

    // Somebody who takes away what both were told is noticed at the next start of a VM.
    let place = place_of(&environment, "web");
    let [bridge, gateway] =
        ["bridge", "gateway"].map(|field| place["network"][field].as_str().unwrap().to_owned());
    shell(&host, "iptables -w -F DOCKER-USER");
    shell(&host, &format!("ufw route delete allow in on {bridge}"));
    shell(&host, &format!("ufw delete allow in on {bridge} to {gateway} port 53"));
    let mut closed: Vec<String> = ways.servers.iter().map(|server| format!("web to {server}")).collect();
    closed.extend([format!("web asks for {NAME}"), "web asks for its host".to_owned()]);
    assert_eq!(ways.wrong(), closed);
    create(&environment, "api", &["--net", "nat"]);
    assert_eq!(ways.wrong(), nothing, "told anew");

    drop(ways);
    environment.succeed(&["vm", "rm", "--yes", "--force", "web", "plain", "api"]);
    shell(&host, "iptables -w -A DOCKER-USER -j RETURN");
    wait_until(|| self::state(&host), |seen| seen == state);
    assert_eq!(shell(&host, RULES), rules);
}
