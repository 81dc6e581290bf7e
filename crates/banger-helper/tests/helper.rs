//! The real helper, as root, on a host of its own: in namespaces of network and mounts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};

use banger_types::helper::{
    DeviceTerms, HELPER_PROTOCOL, HelperAnswer, HelperRefusalKind, HelperRequest, HelperVerb, NetworkTerms,
    UserNetwork, VmDevice, VmNaming,
};
use banger_types::{VmId, VmName};

const ALICE: &str = "1001";
const BOB: &str = "1002";

/// A host, as far as network, `/run` and `/etc/hosts` go. Nothing of it outlives the test.
struct Host {
    holder: Child,
    hosts: tempfile::NamedTempFile,
}

impl Host {
    /// Returns one, or says that the test is not run.
    fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            banger_testkit::not_run(test, "only root can make a host of its own");
            return None;
        }
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "127.0.0.1 localhost\n").unwrap();
        // It ends with its standard input, and that with this process.
        let script = "mount -t tmpfs none /run && mount -t sysfs none /sys && mount --bind \"$0\" /etc/hosts && ip link set lo up && \
                      ip address add 192.168.7.5/24 dev lo && echo there && exec cat";
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--mount", "sh", "-c", script]).arg(hosts.path());
        let mut holder = hold.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Some(Self { holder, hosts })
    }

    fn command(&self, program: &str) -> Command {
        // Absolute, for the environment of what is run says nothing of where programs are.
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "-m", "--", program]);
        command
    }

    /// Returns what a program prints.
    fn run(&self, words: &str) -> String {
        let mut words = words.split(' ');
        let output = self.command(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the helper as sudo does for this user.
    fn start(&self, uid: &str) -> Child {
        let mut helper = self.command(env!("CARGO_BIN_EXE_banger-helper"));
        // What of the environment a hostile user could have got through.
        helper.env_clear().env("PATH", "/tmp").env("LD_PRELOAD", "/tmp/evil.so").env("SUDO_UID", uid);
        helper.env("SUDO_USER", if uid == ALICE { "alice" } else { "bob" });
        helper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ask_raw(&self, uid: &str, request: &[u8]) -> Output {
        let mut helper = self.start(uid);
        // It may have refused before it has read all of it.
        helper.stdin.take().unwrap().write_all(request).ok();
        helper.wait_with_output().unwrap()
    }

    fn ask(&self, uid: &str, verb: HelperVerb) -> HelperAnswer {
        let request = serde_json::to_vec(&HelperRequest { protocol: HELPER_PROTOCOL, verb }).unwrap();
        answer_of(&self.ask_raw(uid, &request))
    }

    fn network(&self, uid: &str) -> UserNetwork {
        let terms = NetworkTerms { v6: true };
        match self.ask(uid, HelperVerb::NetworkAdd(terms)) {
            HelperAnswer::Network(network) => network,
            other => panic!("{other:?}"),
        }
    }

    fn device(&self, uid: &str, vm: u64) -> VmDevice {
        match self.ask(uid, HelperVerb::DeviceAdd(terms(vm))) {
            HelperAnswer::Device(device) => device,
            other => panic!("{other:?}"),
        }
    }

    fn name(&self, uid: &str, vm: u64, name: &str) -> String {
        let naming = VmNaming { vm: VmId::from_random(vm), name: name.parse::<VmName>().unwrap() };
        match self.ask(uid, HelperVerb::NameAdd(naming)) {
            HelperAnswer::Name(name) => name,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that a helper could have left: interfaces, addresses, rules, settings, names, files.
    fn state(&self) -> String {
        let hosts = std::fs::read_to_string(self.hosts.path()).unwrap();
        let words = [
            "ip -brief address",
            "nft list ruleset",
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/lo/accept_ra",
            "find /run -name *.json*",
        ];
        words.iter().map(|words| self.run(words)).chain([hosts]).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

fn terms(vm: u64) -> DeviceTerms {
    DeviceTerms { vm: VmId::from_random(vm), allow_host: false, reaches_others: true }
}

fn answer_of(output: &Output) -> HelperAnswer {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(answer: HelperAnswer) -> (HelperRefusalKind, String) {
    match answer {
        HelperAnswer::Refused(refusal) => (refusal.kind, refusal.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_makes_is_the_callers_and_goes_without_a_trace() {
    let Some(host) = Host::new("what_it_makes_is_the_callers") else { return };
    let before = host.state();
    let (alice, bob) = (host.network(ALICE), host.network(BOB));
    assert_eq!((alice.bridge.as_str(), bob.bridge.as_str()), ("bgr1001", "bgr1002"));
    assert!(!alice.block.overlaps(bob.block));
    assert_eq!(host.network(ALICE), alice, "asked again");
    let (first, second, bobs) = (host.device(ALICE, 1), host.device(ALICE, 2), host.device(BOB, 3));
    assert_eq!(host.device(ALICE, 1), first, "asked again");
    assert!(
        first.address != second.address
            && alice.block.contains(first.address)
            && bob.block.contains(bobs.address)
    );
    // Its owner, and nobody else, may open it.
    let owner = |device: &str| host.run(&format!("cat /sys/class/net/{device}/owner"));
    assert_eq!((owner(&first.device).trim(), owner(&bobs.device).trim()), (ALICE, BOB));
    let master = host.run(&format!("ip -brief link show master {}", alice.bridge));
    assert!(
        master.contains(&first.device) && master.contains(&second.device) && !master.contains(&bobs.device)
    );

    assert_eq!(host.name(ALICE, 1, "web"), "web.banger");
    assert_eq!(host.name(BOB, 3, "web"), "web.bob.banger");
    assert_eq!(
        host.run("getent ahostsv4 web.banger").split_whitespace().next().unwrap(),
        first.address.to_string()
    );
    assert_eq!(
        host.run("getent ahostsv4 web.bob.banger").split_whitespace().next().unwrap(),
        bobs.address.to_string()
    );
    assert_eq!(host.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");

    assert_eq!(host.ask(ALICE, HelperVerb::NameRemove(VmId::from_random(1))), HelperAnswer::Done);
    for _ in 0..2 {
        assert_eq!(host.ask(ALICE, HelperVerb::DeviceRemove(VmId::from_random(1))), HelperAnswer::Done);
    }
    assert!(!host.run("ip -brief link").contains(&first.device));
    for uid in [ALICE, ALICE, BOB] {
        assert_eq!(host.ask(uid, HelperVerb::NetworkRemove), HelperAnswer::Done);
    }
    assert_eq!(host.state(), before);
}

#[test]
fn another_users_things_are_not_touched() {
    let Some(host) = Host::new("another_users_things_are_not_touched") else { return };
    host.network(ALICE);
    host.device(ALICE, 1);
    let vm = VmId::from_random(1);
    let naming = VmNaming { vm: vm.clone(), name: "web".parse().unwrap() };
    host.network(BOB);
    let before = host.state();
    for verb in [
        HelperVerb::DeviceAdd(terms(1)),
        HelperVerb::DeviceRemove(vm.clone()),
        HelperVerb::NameAdd(naming),
        HelperVerb::NameRemove(vm),
    ] {
        let (kind, message) = refusal(host.ask(BOB, verb.clone()));
        assert_eq!(
            (kind, message.as_str()),
            (HelperRefusalKind::NotPermitted, "VM 000000000001 is another user's"),
            "{verb:?}"
        );
    }
    assert_eq!(host.state(), before);
}

#[test]
fn what_is_no_request_changes_nothing() {
    let Some(host) = Host::new("what_is_no_request_changes_nothing") else { return };
    let before = host.state();
    let long = format!(r#"{{"protocol":1,"verb":"{}"}}"#, "x".repeat(1 << 20));
    for request in [
        "",
        "reboot",
        r#"{"protocol":0,"verb":"hello"}"#,
        r#"{"protocol":2,"verb":"hello"}"#,
        r#"{"protocol":1,"verb":"reboot"}"#,
        r#"{"protocol":1,"verb":{"device_remove":"eth0"}}"#,
        r#"{"protocol":1,"verb":{"device_remove":"../../../../"}}"#,
        r#"{"protocol":1,"verb":{"name_add":{"vm":"000000000001","name":"a b"}}}"#,
        r#"{"protocol":1,"verb":{"name_add":{"vm":"000000000001","name":"$(reboot)"}}}"#,
        r#"{"protocol":1,"verb":{"network_add":{"v6":false,"pool":"10.0.0.0/8"}}}"#,
        r#"{"protocol":1,"verb":{"network_add":{"v6":false,"bridge":"eth0"}}}"#,
        &long,
    ] {
        let (kind, _) = refusal(answer_of(&host.ask_raw(ALICE, request.as_bytes())));
        assert_eq!(kind, HelperRefusalKind::Request, "{request}");
    }
    let (kind, message) = refusal(host.ask(ALICE, HelperVerb::DeviceAdd(terms(1))));
    assert_eq!((kind, message.as_str()), (HelperRefusalKind::Missing, "user 1001 has no network"));
    assert_eq!(host.state(), before);
}

#[test]
fn a_caller_whom_sudo_does_not_name_is_nobody() {
    let Some(host) = Host::new("a_caller_whom_sudo_does_not_name_is_nobody") else { return };
    for uid in ["", "x", "-1", "99999999999"] {
        let (kind, message) = refusal(host.ask(uid, HelperVerb::NetworkRemove));
        assert_eq!(
            (kind, message.as_str()),
            (HelperRefusalKind::NotPermitted, "SUDO_UID is no number of a user")
        );
    }
    // Without root it is nothing.
    let mut plain = host.command("setpriv");
    plain.args(["--reuid", ALICE, "--regid", ALICE, "--clear-groups", env!("CARGO_BIN_EXE_banger-helper")]);
    let mut plain = plain.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    plain.stdin.take().unwrap().write_all(br#"{"protocol":1,"verb":"network_remove"}"#).unwrap();
    let output = plain.wait_with_output().unwrap();
    // Its way there may be closed to others altogether.
    if !output.stdout.is_empty() {
        assert_eq!(refusal(answer_of(&output)).0, HelperRefusalKind::NotPermitted);
    }
}

#[test]
fn many_at_once_come_one_after_another() {
    let Some(host) = Host::new("many_at_once_come_one_after_another") else { return };
    host.network(ALICE);
    host.network(BOB);
    let vms: Vec<u64> = (1..=12).collect();
    let uid = |vm: u64| if vm.is_multiple_of(2) { ALICE } else { BOB };
    let (host, uid) = (&host, &uid);
    let devices: Vec<VmDevice> = std::thread::scope(|scope| {
        let asked: Vec<_> = vms.iter().map(|vm| scope.spawn(move || host.device(uid(*vm), *vm))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let addresses: std::collections::BTreeSet<_> = devices.iter().map(|device| device.address).collect();
    assert_eq!(addresses.len(), vms.len());
    let rules = host.run("nft list ruleset");
    assert!(devices.iter().all(|device| rules.contains(&device.device)));
}

/// However far it had come: who asks again gets what was asked for, and who undoes it leaves nothing.
#[test]
fn one_that_is_killed_leaves_nothing_that_the_next_cannot_mend() {
    let Some(host) = Host::new("one_that_is_killed_leaves_nothing") else { return };
    let before = host.state();
    for round in 0..40 {
        let verb = match round % 3 {
            0 => HelperVerb::NetworkAdd(NetworkTerms { v6: true }),
            1 => HelperVerb::DeviceAdd(terms(1)),
            _ => HelperVerb::NetworkRemove,
        };
        let mut helper = host.start(ALICE);
        let request = serde_json::to_vec(&HelperRequest { protocol: HELPER_PROTOCOL, verb }).unwrap();
        helper.stdin.take().unwrap().write_all(&request).unwrap();
        // Somewhere between its beginning and its end.
        std::thread::sleep(std::time::Duration::from_micros(1000 * round));
        helper.kill().unwrap();
        helper.wait().unwrap();
        // Whoever asks next waits for what it has started.
        host.network(ALICE);
        host.device(ALICE, 1);
        if round % 4 == 3 {
            assert_eq!(host.ask(ALICE, HelperVerb::NetworkRemove), HelperAnswer::Done);
            assert_eq!(host.state(), before, "round {round}");
        }
    }
}
