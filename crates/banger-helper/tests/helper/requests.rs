//! What may be asked, and what comes of it.

use std::io::Write as _;
use std::process::Stdio;

use banger_types::helper::{HelperAnswer, HelperRefusalKind, HelperVerb, VmPlace, VmTerms};

use rustix::process::Signal;

use crate::host::{ALICE, BOB, Host, answer_of, ids, refusal, request, terms};

#[test]
fn what_it_makes_is_the_callers_and_goes_without_a_trace() {
    let Some(host) = Host::new("what_it_makes_is_the_callers") else { return };
    let before = host.state();
    let (first, bobs) = (host.place(ALICE, 1, "web"), host.place(BOB, 3, "web"));
    let second = host.place(ALICE, 2, "api");
    assert_eq!((first.network.bridge.as_str(), bobs.network.bridge.as_str()), ("bgr1001", "bgr1002"));
    assert!(!first.network.block.overlaps(bobs.network.block));
    assert_eq!(second.network, first.network);
    assert_eq!(host.place(ALICE, 1, "web"), first, "asked again");
    let (one, two) = (&first.device, &second.device);
    assert!(one.address != two.address && first.network.block.contains(one.address));
    assert!(first.network.block.contains(two.address) && bobs.network.block.contains(bobs.device.address));
    // Its owner, and nobody else, may open it.
    let owner = |place: &VmPlace| host.run(&format!("cat /sys/class/net/{}/owner", place.device.device));
    assert_eq!((owner(&first).trim(), owner(&bobs).trim()), (ALICE, BOB));
    let master = host.run(&format!("ip -brief link show master {}", first.network.bridge));
    assert!(master.contains(&one.device) && master.contains(&two.device));
    assert!(!master.contains(&bobs.device.device));
    assert_eq!(host.run("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");

    assert_eq!((first.name.as_str(), bobs.name.as_str()), ("web.banger", "web.bob.banger"));
    let v6 = |place: &VmPlace| place.device.address_v6.unwrap();
    for place in [&first, &second, &bobs] {
        let mut found = host.0.resolve(&place.name);
        found.sort();
        assert_eq!(found, [place.device.address.into(), std::net::IpAddr::from(v6(place))], "{}", place.name);
    }
    // Another name, and other terms, in the same place.
    let renamed = host.place_as(ALICE, VmTerms { allow_host: true, ..terms(1, "www") });
    assert_eq!((&renamed.device, renamed.name.as_str()), (one, "www.banger"));
    assert!(host.0.resolve("web.banger").is_empty());

    // The gateway stays who it is, whoever comes and goes.
    let mac = || host.run("cat /sys/class/net/bgr1001/address");
    let gateway = mac();
    for _ in 0..2 {
        host.remove(ALICE, &[1]);
    }
    assert_eq!(mac(), gateway);
    assert!(!host.run("ip -brief link").contains(&one.device) && host.0.resolve("www.banger").is_empty());
    host.remove(ALICE, &[2, 9]);
    assert!(!host.run("ip -brief link").contains("bgr1001"));
    host.remove(BOB, &[3]);
    assert_eq!(host.state(), before);
}

/// Ids are no secret, and nobody's before somebody has a VM of one: another's of the same id is another VM.
#[test]
fn another_users_things_are_not_touched() {
    let Some(host) = Host::new("another_users_things_are_not_touched") else { return };
    host.place(BOB, 2, "web");
    let before = host.state();
    let alices = host.place(ALICE, 1, "mine");
    let bobs = host.place(BOB, 1, "mine");
    assert_ne!((&bobs.device.device, &bobs.name), (&alices.device.device, &alices.name));
    host.remove(BOB, &[1, 7]);
    assert_eq!(host.place(ALICE, 1, "mine"), alices);
    host.remove(ALICE, &[1, 2]);
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
        r#"{"protocol":1,"verb":{"vms_remove":["eth0"]}}"#,
        r#"{"protocol":1,"verb":{"vms_remove":["../../../../"]}}"#,
        r#"{"protocol":1,"verb":{"vm_add":{"vm":"000000000001","name":"a b","v6":true,"allow_host":true,"reaches_others":true}}}"#,
        r#"{"protocol":1,"verb":{"vm_add":{"vm":"000000000001","name":"$(reboot)","v6":true,"allow_host":true,"reaches_others":true}}}"#,
        r#"{"protocol":1,"verb":{"vm_add":{"vm":"000000000001","name":"a","v6":true,"allow_host":true,"reaches_others":true,"pool":"10.0.0.0/8"}}}"#,
        r#"{"protocol":1,"verb":{"vm_add":{"vm":"000000000001","name":"a","v6":true,"allow_host":true,"reaches_others":true,"bridge":"eth0"}}}"#,
        &long,
    ] {
        let (kind, _) = refusal(answer_of(&host.ask_raw(ALICE, request.as_bytes())));
        assert_eq!(kind, HelperRefusalKind::Request, "{request}");
    }
    host.remove(ALICE, &[1]);
    assert_eq!(host.state(), before);
}

#[test]
fn a_caller_whom_sudo_does_not_name_is_nobody() {
    let Some(host) = Host::new("a_caller_whom_sudo_does_not_name_is_nobody") else { return };
    for uid in ["", "x", "-1", "99999999999"] {
        let (kind, message) = refusal(host.ask(uid, HelperVerb::VmsRemove(ids(&[1]))));
        assert_eq!(
            (kind, message.as_str()),
            (HelperRefusalKind::NotPermitted, "SUDO_UID is no number of a user")
        );
    }
    // Without root it is nothing.
    let mut plain = host.0.command("setpriv");
    plain.args(["--reuid", ALICE, "--regid", ALICE, "--clear-groups", env!("CARGO_BIN_EXE_banger-helper")]);
    let mut plain = plain.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    plain.stdin.take().unwrap().write_all(br#"{"protocol":1,"verb":"hello"}"#).unwrap();
    let output = plain.wait_with_output().unwrap();
    // Its way there may be closed to others altogether.
    if !output.stdout.is_empty() {
        assert_eq!(refusal(answer_of(&output)).0, HelperRefusalKind::NotPermitted);
    }
}

#[test]
fn what_is_typed_at_its_callers_terminal_is_not_heeded() {
    let Some(host) = Host::new("what_is_typed_at_its_callers_terminal") else { return };
    let mut helper = host.start(ALICE);
    // It waits for its request, having left its surroundings; nsenter has become it by then.
    let status = format!("/proc/{}/status", helper.id());
    let ignores = |status: &str| {
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap_or_default();
        // Of SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN and SIGTTOU (proc_pid_status(5)).
        u64::from_str_radix(ignored, 16).is_ok_and(|mask| mask & 0x38_0007 == 0x38_0007)
    };
    banger_testkit::wait_until(|| std::fs::read_to_string(&status).unwrap(), ignores);
    let pid = rustix::process::Pid::from_child(&helper);
    for signal in [Signal::TSTP, Signal::INT, Signal::HUP, Signal::QUIT, Signal::TTIN, Signal::TTOU] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    helper.stdin.take().unwrap().write_all(&request(HelperVerb::Hello)).unwrap();
    let answer = answer_of(&helper.wait_with_output().unwrap());
    assert!(matches!(answer, HelperAnswer::Hello { .. }), "{answer:?}");
}

#[test]
fn many_at_once_come_one_after_another() {
    let Some(host) = Host::new("many_at_once_come_one_after_another") else { return };
    let before = host.state();
    let vms: Vec<u64> = (1..=12).collect();
    let uid = |vm: u64| if vm.is_multiple_of(2) { ALICE } else { BOB };
    let (host, uid) = (&host, &uid);
    let add = |vm: u64| host.place(uid(vm), vm, &format!("vm{vm}"));
    let places: Vec<VmPlace> = std::thread::scope(|scope| {
        let asked: Vec<_> = vms.iter().map(|vm| scope.spawn(move || add(*vm))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let addresses: std::collections::BTreeSet<_> = places.iter().map(|place| place.device.address).collect();
    assert_eq!(addresses.len(), vms.len());
    let rules = host.run("nft list ruleset");
    assert!(places.iter().all(|place| rules.contains(&place.device.device)));
    std::thread::scope(|scope| {
        for vm in &vms {
            scope.spawn(move || host.remove(uid(*vm), &[*vm]));
        }
    });
    assert_eq!(host.state(), before);
}
