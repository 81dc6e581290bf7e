//! Two users of one host, on real Firecracker: the root helper through real sudo, and networks that are each one's own.

use banger_testkit::{Outcome, TestHost, User, wait_until};
use banger_types::helper::HELPER_PREFIX;
use serde_json::Value;

use crate::guest::BUSYBOX;

/// The data directory of each.
const fn data(user: User) -> &'static str {
    match user {
        User::Sudoer => "data-of-dev",
        _ => "data-of-plain",
    }
}

/// Gives the first user's data a file system that takes part in jails, as most hosts' do: the test host's own is an overlay.
const MAKE_DISK: &str = "set -e
    truncate --size 4G /srv/banger/disk
    mkfs.ext4 -q /srv/banger/disk
    mkdir /srv/banger/scratch/data-of-plain
    mount -o loop /srv/banger/disk /srv/banger/scratch/data-of-plain
    rmdir /srv/banger/scratch/data-of-plain/lost+found
    cp --archive --sparse=always /srv/banger/seed/. /srv/banger/scratch/data-of-plain
    chown --recursive plain: /srv/banger/scratch/data-of-plain";

/// Gives the second user what nobody may link who has not made it.
const PLANT: &str = "cp --archive --sparse=always /srv/banger/seed /srv/banger/scratch/data-of-dev
    chown --recursive dev: /srv/banger/scratch/data-of-dev";

/// A server of the host's own, and its end.
const SERVE: &str = "mkfifo /run/hold
    { sleep infinity > /run/hold & } && echo $! > /run/hold.pid
    setsid \"$0\" serve 0.0.0.0:9000 < /run/hold > /dev/null 2>&1 &";
const END_SERVER: &str = "kill $(cat /run/hold.pid) && rm /run/hold /run/hold.pid";
/// What is beyond the host.
const WORLD: &str = "203.0.113.9";
const PROBE: &str = "/srv/banger/programs/banger-test-probe";

/// Makes a namespace beyond the host with a server for each protocol in it.
const MAKE_WORLD: &str = "set -e
    ip netns add world
    ip link add wan0 type veth peer name eth0 netns world
    ip address add 203.0.113.1/24 dev wan0
    ip link set wan0 up
    ip netns exec world ip address add 203.0.113.9/24 dev eth0
    ip netns exec world ip link set eth0 up
    for address in 203.0.113.9:80 203.0.113.9:80/udp; do
        tail -f /dev/null | setsid ip netns exec world \"$0\" serve $address > /dev/null 2>&1 &
    done";

/// What of the host the networks could have changed.
const STATE: &str = "ip -brief link; nft list ruleset; cat /etc/hosts /proc/sys/net/ipv4/ip_forward \
                     /proc/sys/net/ipv6/conf/all/forwarding; ls /run/banger 2>/dev/null | grep -v lock; mount; ss -Hlun";

fn helper() -> String {
    format!("{HELPER_PREFIX}{}", env!("CARGO_PKG_VERSION"))
}

fn root(host: &TestHost, script: &str) -> String {
    host.succeed(User::Root, &["sh", "-c", script, PROBE])
}

fn banger(host: &TestHost, user: User, arguments: &[&str]) -> Outcome {
    let outcome = host.banger(user, data(user), arguments);
    assert_eq!(outcome.code, 0, "{user:?} {arguments:?}: {}{}", outcome.text(), outcome.stderr);
    outcome
}

/// Returns what the user's daemon says of the helper.
fn readiness(host: &TestHost, user: User) -> String {
    let status = banger(host, user, &["daemon", "status", "--json"]).json();
    status["helper"]["state"].as_str().unwrap().to_owned()
}

/// Whether a user's program on the host reaches an address.
fn reaches(host: &TestHost, user: User, address: &str) -> bool {
    host.run(user, &[PROBE, "ask", address]).code == 0
}

/// Whether a user's guest does.
fn guest_reaches(host: &TestHost, user: User, address: &str) -> bool {
    let asked = host.banger(user, data(user), &["exec", "web", "--", BUSYBOX.probe, "ask", address]);
    assert!([0, 1].contains(&asked.code), "{}", asked.stderr);
    asked.code == 0
}

fn vm(host: &TestHost, user: User) -> Value {
    banger(host, user, &["vm", "show", "web", "--json"]).json()
}

/// Lets a user's guest serve, for as long as it runs.
fn serve(host: &TestHost, user: User, address: &str) {
    let script = format!("tail -f /dev/null | setsid {} serve {address} > /dev/null 2>&1 &", BUSYBOX.probe);
    banger(host, user, &["exec", "web", "--", "sh", "-c", &script]);
}

pub(crate) fn have_networks_of_their_own(host: &TestHost) {
    host.act_in_spite_of_the_emulator("two_users::have_networks_of_their_own", |host| {
        readiness_is_told(host);
        networks_are_their_owners(host);
    });
}

/// Each state of the helper's, as `daemon status` says it.
fn readiness_is_told(host: &TestHost) {
    root(host, MAKE_DISK);
    banger(host, User::Plain, &["daemon", "start"]);
    assert_eq!(readiness(host, User::Plain), "not_installed");
    let (place, version) = (helper(), env!("CARGO_PKG_VERSION"));
    root(host, &format!("install -D -m 755 /srv/banger/programs/banger-helper {place}"));
    assert_eq!(readiness(host, User::Plain), "needs_password");
    let lines = format!(
        "Defaults!{place} !use_pty, !pam_session, !pam_setcred\nplain ALL=(root) NOPASSWD: {place}\n"
    );
    root(
        host,
        &format!("printf '{lines}' > /etc/sudoers.d/banger && chmod 440 /etc/sudoers.d/banger && visudo -c"),
    );
    assert_eq!(readiness(host, User::Plain), "ready");
    for (spoil, mend) in [
        (format!("chmod g+w {place}"), format!("chmod g-w {place}")),
        (format!("chown plain {place}"), format!("chown root {place}")),
        ("chmod o+w /usr/libexec/banger".to_owned(), "chmod o-w /usr/libexec/banger".to_owned()),
        (format!("mv {place} /root/copy && ln -s /root/copy {place}"), format!("mv /root/copy {place}")),
    ] {
        root(host, &spoil);
        assert_eq!(readiness(host, User::Plain), "insecure", "{spoil}");
        root(host, &mend);
    }
    let other = place.replace(version, "9.9.9");
    root(host, &format!("mv {place} {other}"));
    assert_eq!(readiness(host, User::Plain), "wrong_version");
    root(host, &format!("mv {other} {place}"));
    assert_eq!(readiness(host, User::Plain), "ready");
}

/// A VMM that is nobody else: its owner ends it, lets it stand still and sees what it takes; it does not outlive its monitor.
fn is_in_a_jail(host: &TestHost, vm: &Value) {
    let isolation = &vm["isolation"];
    for what in ["own_user", "limits", "files", "system_calls"] {
        assert_eq!(isolation[what], true, "{what}: {isolation}");
    }
    let id = vm["id"].as_str().unwrap();
    let group = format!("/sys/fs/cgroup/banger/1001-{id}");
    let limits = root(host, &format!("cat {group}/memory.max {group}/pids.max {group}/cpu.max"));
    assert_eq!(limits, format!("{}\n128\n200000 100000\n", (128 + 256) << 20));
    let users = root(host, &format!("stat -c %u $(sed 's,^,/proc/,' {group}/cgroup.procs)"));
    // Beside them there is a thread of the kernel's, which is KVM's for this VM.
    let of_jail = users.lines().filter(|user| user.starts_with("188000"));
    assert_eq!(of_jail.count(), 2, "the VMM, and who watches over it: {users}");
    assert!(users.lines().all(|user| user == "0" || user.starts_with("188000")), "{users}");
    let parents = root(
        host,
        &format!(
            "for pid in $(cat {group}/cgroup.procs); do
                cat /proc/$(sed -n 's/^PPid:\t//p' /proc/$pid/status)/comm
            done"
        ),
    );
    assert!(parents.contains("banger-monitor") && !parents.contains("sudo"), "{parents}");
    // Nothing that it has made, or that was shown to it, is anybody's but its owner's.
    let directory = vm["directory"].as_str().unwrap();
    let others = root(host, &format!("find {directory} -not -user plain"));
    assert_eq!(others, "");

    let act = |verb: &str| banger(host, User::Plain, &["vm", verb, "web"]);
    let state = || self::vm(host, User::Plain)["state"].as_str().unwrap().to_owned();
    act("pause");
    assert_eq!((state(), root(host, &format!("cat {group}/cgroup.freeze"))), ("paused".into(), "1\n".into()));
    act("resume");
    act("restart");
    assert_eq!(state(), "running");
    act("kill");
    wait_until(|| root(host, &format!("ls {group} 2>/dev/null; true")), str::is_empty);
    act("start");
    // Nor does it outlive its monitor.
    let status = String::from_utf8(host.read(&format!("{directory}/status.json"))).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    root(host, &format!("kill -9 {}", status["monitor_pid"]));
    wait_until(state, |state| state == "failed");
    wait_until(|| root(host, &format!("cat {group}/cgroup.procs 2>/dev/null; true")), str::is_empty);
    act("start");
    // A daemon that comes after this one knows all of it.
    banger(host, User::Plain, &["daemon", "restart"]);
    assert_eq!(self::vm(host, User::Plain)["isolation"], *isolation);
}

fn networks_are_their_owners(host: &TestHost) {
    root(host, PLANT);
    root(host, MAKE_WORLD);
    let before = root(host, STATE);
    let create = ["vm", "create", "web", "--image", BUSYBOX.name, "--memory", "128M", "--vcpus", "1"];
    let said = banger(host, User::Plain, &create).stderr;
    assert!(said.contains("addresses of their own from the root helper"), "{said}");
    let said = banger(host, User::Sudoer, &create).stderr;
    assert!(said.contains("another user has its name on this host: it is web.dev.banger"), "{said}");
    let (plains, devs) = (vm(host, User::Plain), vm(host, User::Sudoer));
    assert_eq!(
        (&plains["spec"]["engine"], &plains["spec"]["network"]),
        (&"firecracker".into(), &"nat".into())
    );
    let address = |vm: &Value| vm["addresses"]["v4"].as_str().unwrap().to_owned();
    is_in_a_jail(host, &plains);
    serve(host, User::Plain, "0.0.0.0:8000");
    serve(host, User::Sudoer, "0.0.0.0:8000");
    let (plains_server, devs_server) =
        (format!("{}:8000", address(&plains)), format!("{}:8000", address(&devs)));
    wait_until(|| reaches(host, User::Plain, &plains_server).to_string(), |reached| reached == "true");
    wait_until(|| reaches(host, User::Sudoer, &devs_server).to_string(), |reached| reached == "true");

    // Each reaches what is theirs, and nobody another's: from the host, and from guest to guest.
    assert!(!reaches(host, User::Sudoer, &plains_server) && !reaches(host, User::Plain, &devs_server));
    assert!(
        !guest_reaches(host, User::Plain, &devs_server) && !guest_reaches(host, User::Sudoer, &plains_server)
    );
    let names = root(host, "getent ahostsv4 web.banger web.dev.banger");
    assert!(names.contains(&address(&plains)) && names.contains(&address(&devs)), "{names}");
    // The world, by both protocols; names; and not the host.
    for server in ["80", "80/udp"] {
        assert!(guest_reaches(host, User::Plain, &format!("{WORLD}:{server}")), "{server}");
    }
    root(host, SERVE);
    wait_until(|| reaches(host, User::Plain, "127.0.0.1:9000").to_string(), |reached| reached == "true");
    for own in ["203.0.113.1:9000", "10.213.0.1:9000", "127.0.0.1:9000", "169.254.169.254:9000"] {
        assert!(!guest_reaches(host, User::Plain, own), "{own}");
    }
    let asked =
        host.banger(User::Plain, data(User::Plain), &["exec", "web", "--", "nslookup", "host.banger"]);
    assert_eq!(asked.code, 0, "{}{}", asked.text(), asked.stderr);

    // Asked directly, the helper gives nobody another's.
    let id = devs["id"].as_str().unwrap();
    let ask =
        format!("echo '{{\"protocol\":1,\"verb\":{{\"vms_remove\":[\"{id}\"]}}}}' | sudo -n {}", helper());
    host.succeed(User::Plain, &["sh", "-c", &ask]);
    assert!(reaches(host, User::Sudoer, &devs_server));

    root(host, END_SERVER);
    for user in [User::Plain, User::Sudoer] {
        banger(host, user, &["vm", "rm", "--force", "--yes", "web"]);
    }
    wait_until(|| root(host, STATE), |state| state == before);
    for user in [User::Plain, User::Sudoer] {
        banger(host, user, &["daemon", "stop"]);
    }
}
