//! What goes through the networks that the helper makes, and what does not. In the place of VMs there are hosts made of namespaces,
//! behind cables with the names of their devices: the rules know devices by their names.

use banger_testkit::NetworkHost;
use banger_types::helper::{VmPlace, VmTerms};

use crate::host::{ALICE, BOB, Host, terms};

/// What is beyond the host.
pub(crate) const WORLD: &str = "203.0.113.9";
pub(crate) const WORLD_V6: &str = "2001:db8::9";

/// Puts a host in the place of a VM.
pub(crate) fn guest(host: &Host, place: &VmPlace) -> NetworkHost {
    let device = &place.device;
    host.run(&format!("ip link delete {}", device.device));
    let guest = host.0.peer(&device.device);
    host.run(&format!("sysctl -qw net.ipv6.conf.{}.disable_ipv6=1", device.device));
    host.run(&format!("ip link set {} master {}", device.device, place.network.bridge));
    configure(&guest, place, &device.mac, &device.address.to_string());
    guest
}

fn configure(guest: &NetworkHost, place: &VmPlace, mac: &str, address: &str) {
    guest.run("ip link set eth0 down");
    guest.run("ip address flush dev eth0");
    guest.run(&format!("ip link set eth0 address {mac}"));
    guest.run("ip link set eth0 up");
    guest.run(&format!("ip address replace {address}/{} dev eth0", place.network.block.prefix()));
    guest.run(&format!("ip route replace default via {}", place.network.gateway));
    if let (Some(own), Some((gateway, prefix))) = (place.device.address_v6, place.network.gateway_v6) {
        guest.run(&format!("ip address replace {own}/{prefix} dev eth0 nodad"));
        guest.run(&format!("ip route replace default via {gateway}"));
    }
    guest.names_are_asked_of(&place.network.gateway.to_string());
}

/// Returns a host that is reached through this one alone, and knows nothing of what is behind it.
pub(crate) fn world(host: &Host) -> NetworkHost {
    let world = host.0.peer("wan0");
    host.run("ip address add 203.0.113.1/24 dev wan0");
    host.run("ip address add 2001:db8::1/64 dev wan0 nodad");
    world.run(&format!("ip address add {WORLD}/24 dev eth0"));
    world.run(&format!("ip address add {WORLD_V6}/64 dev eth0 nodad"));
    world
}

#[test]
fn a_guest_reaches_the_world_and_its_neighbours_and_nobody_else() {
    let Some(host) = Host::new("a_guest_reaches_the_world") else { return };
    let world = world(&host);
    let [first, second] = [(1, "web"), (2, "api")].map(|(vm, name)| host.place(ALICE, vm, name));
    let trusted = host.place_as(ALICE, VmTerms { allow_host: true, ..terms(3, "trusted") });
    let alone = host.place_as(ALICE, VmTerms { reaches_others: false, ..terms(4, "alone") });
    let bobs = host.place(BOB, 5, "web");
    let [web, api, trusting, lonely, foreign] =
        [&first, &second, &trusted, &alone, &bobs].map(|place| guest(&host, place));
    let address = |place: &VmPlace| place.device.address;
    let v6 = |place: &VmPlace| place.device.address_v6.unwrap();

    // The world, by both families and both protocols; and it sees nobody but the host.
    let servers: Vec<_> = ["80", "80/udp"]
        .iter()
        .flat_map(|port| [format!("{WORLD}:{port}"), format!("[{WORLD_V6}]:{port}")])
        .collect();
    let _served: Vec<_> = servers.iter().map(|address| world.serve(address)).collect();
    for guest in [&web, &lonely, &foreign] {
        for server in &servers {
            assert!(guest.reaches(server), "{server}");
        }
    }
    // Neighbours, but for who is alone; the host, by address and by name.
    let _listening: Vec<_> =
        [&api, &lonely, &foreign].iter().map(|guest| guest.serve("0.0.0.0:80")).collect();
    let _v6 = api.serve("[::]:81");
    assert!(
        web.reaches(&format!("{}:80", address(&second))) && web.reaches(&format!("[{}]:81", v6(&second)))
    );
    assert!(host.0.reaches(&format!("{}:80", address(&second))));
    assert!(host.0.reaches(&format!("[{}]:81", v6(&second))));
    assert_eq!(web.resolve("api.banger")[0], std::net::IpAddr::from(v6(&second)));
    assert_eq!(host.0.resolve("api.banger").len(), 2);
    for (who, whom) in [(&web, &alone), (&web, &bobs), (&foreign, &second)] {
        assert!(!who.reaches(&format!("{}:80", address(whom))));
    }
    assert!(!lonely.reaches(&format!("{}:80", address(&second))));

    // The host's own addresses: those of the network, of its way out, of its loopback.
    let gateway = first.network.gateway;
    let _hosts = host.0.serve("0.0.0.0:8080");
    let _hosts_v6 = host.0.serve("[::]:8081");
    for own in [&format!("{gateway}:8080"), "203.0.113.1:8080", "192.168.7.5:8080"] {
        assert!(!web.reaches(own) && !foreign.reaches(own), "{own}");
        assert!(trusting.reaches(own), "{own}");
    }
    assert!(!web.reaches("[2001:db8::1]:8081") && trusting.reaches("[2001:db8::1]:8081"));
    // Not even by a route of its own making.
    for guest in [&web, &trusting] {
        guest.run(&format!("ip route add 169.254.0.0/16 via {gateway}"));
        host.run("ip address replace 169.254.169.254/32 dev lo");
        assert!(!guest.reaches("169.254.169.254:8080"), "where clouds tell of themselves");
    }
    host.run("ip address del 169.254.169.254/32 dev lo");
    // Nor a container of somebody's, behind a bridge of its own.
    host.run("ip link add cbr0 type bridge");
    let container = host.0.peer("cveth0");
    host.run("ip link set cveth0 master cbr0");
    host.run("ip link set cbr0 up");
    host.run("ip address add 172.30.0.1/24 dev cbr0");
    container.run("ip address add 172.30.0.2/24 dev eth0");
    container.run("ip route add default via 172.30.0.1");
    let _contained = container.serve("172.30.0.2:80");
    assert!(host.0.reaches("172.30.0.2:80"));
    assert!(!web.reaches("172.30.0.2:80") && !trusting.reaches("172.30.0.2:80"));
    // Nor a stranger, who uses the host as a router, anything; nor a guest.
    world.run(&format!("ip route add {} via 203.0.113.1", first.network.block));
    assert!(!world.reaches(&format!("{}:80", address(&second))));
    let third = host.0.peer("lan0");
    host.run("ip address add 198.51.100.1/24 dev lan0");
    third.run("ip address add 198.51.100.9/24 dev eth0");
    third.run("ip route add default via 198.51.100.1");
    world.run("ip route add 198.51.100.0/24 via 203.0.113.1");
    assert!(!third.reaches(&format!("{WORLD}:80")), "the host is nobody else's router");
}

#[test]
fn a_guest_is_nobody_but_itself() {
    let Some(host) = Host::new("a_guest_is_nobody_but_itself") else { return };
    let (first, second) = (host.place(ALICE, 1, "web"), host.place(ALICE, 2, "api"));
    let victim = guest(&host, &second);
    let attacker = guest(&host, &first);
    let gateway = first.network.gateway;
    let knows = |guest: &NetworkHost| !guest.resolve("host.banger").is_empty();
    let neighbours = |of: &NetworkHost| of.run("ip neighbour");
    let own = second.device.mac.clone();
    let victims = second.device.address.to_string();
    // With another's address, with another's hardware address, with both.
    for (mac, address) in [
        (first.device.mac.as_str(), victims.as_str()),
        (own.as_str(), &first.device.address.to_string()),
        (own.as_str(), victims.as_str()),
    ] {
        configure(&attacker, &first, mac, address);
        attacker.outcome(&format!("arping -c 2 -w 2 -A -I eth0 {address}"));
        attacker.outcome(&format!("ping -c 1 -W 1 {gateway}"));
        assert!(!knows(&attacker), "{mac} {address}");
        assert!(knows(&victim), "{mac} {address}");
        assert!(!neighbours(&host.0).contains(&format!("{victims} dev bgr1001 lladdr {}", first.device.mac)));
    }
    configure(&attacker, &first, &first.device.mac, &first.device.address.to_string());
    assert!(knows(&attacker), "itself again");
    // Frames for bridges themselves (IEEE 802.1Q section 8.6.3) pass no rule, and teach nothing.
    let frames = "import socket, sys\n\
                  card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                  card.bind(('eth0', 0))\n\
                  source = bytes.fromhex(sys.argv[1].replace(':', ''))\n\
                  for last in (0x0e, 0x03, 0x05):\n\
                  \x20   card.send(bytes.fromhex('0180c20000') + bytes([last]) + source + b'\\x88\\xcc' + bytes(46))\n";
    let mut send = attacker.command("python3");
    assert!(send.args(["-c", frames, &own]).status().unwrap().success());
    let _served = victim.serve("0.0.0.0:80");
    assert!(host.0.reaches(&format!("{victims}:80")));
    assert!(!host.run("bridge fdb show br bgr1001").contains(&format!("{own} dev {} ", first.device.device)));
    // With another's address of IPv6, which it also says to neighbours is its own.
    let others = second.device.address_v6.unwrap();
    let (gateway_v6, prefix) = first.network.gateway_v6.unwrap();
    assert!(victim.run(&format!("ping -6 -c 1 -W 5 {gateway_v6}")).contains("1 received"));
    attacker.run(&format!("ip -6 address add {others}/{prefix} dev eth0 nodad"));
    host.run("ip -6 neighbour flush dev bgr1001");
    attacker.outcome(&format!("ping -6 -c 1 -W 1 -I {others} {gateway_v6}"));
    host.run(&format!("ping -6 -c 1 -W 5 {others}"));
    let found = neighbours(&host.0);
    assert!(found.contains(&format!("{others} dev bgr1001 lladdr {own}")), "{found}");
}

#[test]
fn names_are_answered_by_whom_the_host_asks_now_by_streams_too() {
    let Some(host) = Host::new("names_are_answered") else { return };
    let place = host.place(ALICE, 1, "web");
    let guest = guest(&host, &place);
    let gateway = place.network.gateway;
    // Its message is its own answer already, for a server that answers with what it gets.
    let asks = |guest: &NetworkHost| {
        let script =
            "exec 3<>/dev/udp/$0/53 && printf '\\x12\\x34\\x80\\0........' >&3 && timeout 5 head -c 2 <&3";
        let mut ask = guest.command("bash");
        ask.args(["-c", script, &gateway.to_string()]).output().unwrap().stdout == b"\x12\x34"
    };
    host.0.names_are_asked_of("127.0.0.53");
    let first = host.0.serve("127.0.0.53:53/udp");
    assert!(asks(&guest));
    drop(first);
    assert!(!asks(&guest));
    host.0.names_are_asked_of("127.0.0.54");
    let _second = host.0.serve("127.0.0.54:53/udp");
    assert!(asks(&guest));
    // Nobody else is answered: neither a neighbour of the host's, nor another user of it.
    let world = world(&host);
    world.run(&format!("ip route add {} via 203.0.113.1", place.network.block));
    assert!(!asks(&world));
    let as_user = |uid: &str| {
        let script =
            "exec 3<>/dev/udp/$0/53 && printf '\\x12\\x34\\x80\\0........' >&3 && timeout 5 head -c 2 <&3";
        let mut ask = host.0.command("setpriv");
        ask.args([
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "bash",
            "-c",
            script,
            &gateway.to_string(),
        ]);
        ask.output().unwrap().stdout == b"\x12\x34"
    };
    assert!(as_user(ALICE) && !as_user(BOB));
    // Its own network's names, whatever becomes of the world's.
    assert_eq!(guest.resolve("host.banger").len(), 1);
    // The server is the user's process, whatever becomes of it is theirs to mend, and it goes with the network.
    let listeners = host.run("ss -Hlunp sport = 53");
    let line = listeners.lines().find(|line| line.contains("banger-names")).unwrap();
    let server = line.split("pid=").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let status = host.run(&format!("cat /proc/{server}/status"));
    assert!(status.contains("Uid:\t1001\t1001\t1001\t1001") && status.contains("CapEff:\t0000000000000000"));
    host.run(&format!("kill -STOP {server}"));
    host.place(BOB, 9, "api");
    host.run(&format!("kill -KILL {server}"));
    host.place(ALICE, 1, "web");
    assert_eq!(guest.resolve("host.banger").len(), 1);
    host.remove(BOB, &[9]);

    let servers = host.run("ss -Hlunp sport = 53");
    assert!(servers.contains("banger-names"), "{servers}");
    host.remove(ALICE, &[1]);
    assert!(!host.run("ss -Hlunp").contains("banger-names"));
}

#[test]
fn where_the_usual_port_is_taken_names_are_answered_at_another() {
    let Some(host) = Host::new("where_the_usual_port_is_taken") else { return };
    let before = host.state();
    let others = [host.0.serve("0.0.0.0:53"), host.0.serve("0.0.0.0:53/udp")];
    let place = host.place(ALICE, 1, "web");
    assert!(place.warnings.is_empty(), "{:?}", place.warnings);
    let guest = guest(&host, &place);
    let finds = || guest.resolve("web.banger").contains(&place.device.address.into());
    assert!(finds());
    // Not there by its real number; nor is the other's server the guest's to ask.
    let servers = host.run("ss -Hlunp");
    let line = servers.lines().find(|line| line.contains("banger-names")).unwrap();
    let port = line.split_whitespace().find_map(|word| word.rsplit_once(':')).unwrap().1;
    assert_ne!(port, "53", "{servers}");
    assert!(!guest.reaches(&format!("{}:{port}", place.network.gateway)));
    // It stays there, though the usual one is free again, and the next network has that.
    drop(others);
    host.place(ALICE, 2, "api");
    assert!(finds());
    // Somebody who translates that port for all of the host's addresses, as Docker for a container's.
    host.run("nft add table ip other");
    let mut chain = host.0.command("nft");
    let hook = "{ type nat hook prerouting priority dstnat ; }";
    assert!(chain.args(["add", "chain", "ip", "other", "nat", hook]).status().unwrap().success());
    host.run("nft add rule ip other nat fib daddr type local udp dport 53 dnat to 192.168.7.5:5353");
    assert!(finds());
    host.run("nft delete table ip other");
    host.remove(ALICE, &[1, 2]);
    assert_eq!(host.state(), before);
}

#[test]
fn connections_of_who_is_gone_are_forgotten() {
    let Some(host) = Host::new("connections_of_who_is_gone") else { return };
    if !host.outcome("conntrack -C").status.success() {
        return banger_testkit::not_run("connections_of_who_is_gone", "there is no conntrack(8)");
    }
    let world = world(&host);
    let (first, second) = (host.place(ALICE, 1, "web"), host.place(ALICE, 2, "api"));
    let guests = [guest(&host, &first), guest(&host, &second)];
    let _served: Vec<_> = [format!("{WORLD}:80"), format!("[{WORLD_V6}]:80"), format!("{WORLD}:80/udp")]
        .iter()
        .map(|address| world.serve(address))
        .collect();
    for guest in &guests {
        assert!(guest.reaches(&format!("{WORLD}:80")) && guest.reaches(&format!("[{WORLD_V6}]:80")));
        assert!(guest.reaches(&format!("{WORLD}:80/udp")));
        guest.run(&format!("ping -c 1 -W 5 {WORLD}"));
    }
    let known = |place: &VmPlace| {
        let [v4, v6] = ["ipv4", "ipv6"].map(|family| host.run(&format!("conntrack -L -f {family}")));
        let of = |text: &str, address: String| {
            text.lines().filter(|line| line.contains(&format!("src={address} "))).count()
        };
        let address_v6 = place.device.address_v6.unwrap().to_string();
        (of(&v4, place.device.address.to_string()), of(&v6, address_v6))
    };
    let others = known(&second);
    let own = known(&first);
    assert!(own.0 >= 3 && own.1 >= 1, "{own:?}");
    host.remove(ALICE, &[1]);
    assert_eq!((known(&first), known(&second)), ((0, 0), others));
}

#[test]
fn forwarding_that_the_hosts_configuration_has_come_to_want_stays() {
    let Some(host) = Host::new("forwarding_that_the_hosts_configuration") else { return };
    let world = world(&host);
    let third = host.0.peer("lan0");
    host.run("ip address add 198.51.100.1/24 dev lan0");
    third.run("ip address add 198.51.100.9/24 dev eth0");
    third.run("ip route add default via 198.51.100.1");
    world.run("ip route add 198.51.100.0/24 via 203.0.113.1");
    let _served = world.serve(&format!("{WORLD}:80"));
    let forwards = || host.run("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
    assert_eq!(forwards(), "0");
    host.place(ALICE, 1, "web");
    assert!(!third.reaches(&format!("{WORLD}:80")), "because of our networks alone");
    // A VPN is installed meanwhile.
    let write = "mkdir -p /etc/sysctl.d && echo net.ipv4.ip_forward=1 > /etc/sysctl.d/99-vpn.conf";
    assert!(host.0.command("sh").args(["-c", write]).status().unwrap().success());
    host.place(ALICE, 2, "api");
    assert!(third.reaches(&format!("{WORLD}:80")), "it is for others as well");
    host.remove(ALICE, &[1, 2]);
    assert_eq!(forwards(), "1");
    assert!(third.reaches(&format!("{WORLD}:80")));
}

#[test]
fn a_guest_that_floods_leaves_room_for_others() {
    let Some(host) = Host::new("a_guest_that_floods") else { return };
    let world = world(&host);
    let (first, second) = (host.place(ALICE, 1, "web"), host.place(ALICE, 2, "api"));
    let (attacker, other) = (guest(&host, &first), guest(&host, &second));
    let _served = world.serve(&format!("{WORLD}:80"));
    let gateway = first.network.gateway;
    // Counting a connection takes longer the more there are: on a slow machine the first would be forgotten before the last has come.
    host.run("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=3600");
    // To whoever answers nothing, and to the name server, which has to ask who does not answer either.
    host.0.names_are_asked_of(WORLD);
    let flood = |address: String| {
        let mut flood = attacker.command(banger_testkit::programs().join("banger-test-probe"));
        flood.args(["flood", &address, "10000"]).spawn().unwrap()
    };
    let mut floods = [flood(format!("{WORLD}:9")), flood(format!("{gateway}:53"))];
    for _ in 0..3 {
        assert!(other.reaches(&format!("{WORLD}:80")));
        assert!(!other.resolve("web.banger").is_empty());
    }
    for flood in &mut floods {
        flood.wait().unwrap();
    }
    // What was counted is counted on when the rules change.
    host.place(ALICE, 3, "third");
    flood(format!("{WORLD}:9")).wait().unwrap();
    let connections: u32 = host.run("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse().unwrap();
    assert!((8_000..12_000).contains(&connections), "{connections}");
    assert!(other.reaches(&format!("{WORLD}:80")) && !other.resolve("web.banger").is_empty());
}
