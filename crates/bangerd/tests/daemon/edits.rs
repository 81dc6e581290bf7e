//! Changes of a VM that exists: sizes, policy, labels, name; and how many forwards it may have.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use banger_types::ErrorKind;
use banger_types::size::Mebibytes;
use banger_types::vm::{RestartPolicy, VmRenameRequest, VmSetRequest, VmState, VmStopRequest};

use crate::support::{Daemon, assert_says};

fn set(change: impl FnOnce(&mut VmSetRequest)) -> VmSetRequest {
    let mut request = VmSetRequest::default();
    change(&mut request);
    request
}

#[test]
fn sizes_change_while_it_is_stopped_and_the_disk_only_grows() {
    let daemon = Daemon::new();
    daemon.create("vm", |request| request.disk = Some(Mebibytes(1024)));
    let larger = set(|set| {
        set.vcpus = Some(2);
        set.memory = Some(Mebibytes(300));
        set.disk = Some(Mebibytes(2048));
    });
    assert_says(&daemon.refused(daemon.client.set_vm("vm", &larger)), ErrorKind::Conflict, "it is running");
    daemon.succeed(daemon.client.stop_vm("vm", &VmStopRequest::default()));
    let vm = daemon.call(daemon.client.set_vm("vm", &larger)).unwrap();
    assert_eq!((vm.spec.vcpus, vm.spec.memory, vm.spec.disk), (2, Mebibytes(300), Mebibytes(2048)));
    let disk = std::fs::metadata(vm.directory.join("disk.ext4")).unwrap();
    assert_eq!(disk.len(), 2 << 30);
    assert!(disk.blocks() * 512 < 1 << 20, "it takes {} blocks", disk.blocks());

    for (bad, words) in [
        (set(|set| set.disk = Some(Mebibytes(1024))), "can only grow"),
        (set(|set| set.disk = Some(Mebibytes(u64::from(u32::MAX)))), "is not between"),
        (set(|set| set.memory = Some(Mebibytes(1))), "is less than"),
        (set(|set| set.memory = Some(Mebibytes(9 << 20))), "more than this host's"),
        (set(|set| set.vcpus = Some(0)), "0 virtual CPUs"),
        (set(|set| set.vcpus = Some(5000)), "5000 virtual CPUs"),
        (set(|set| set.labels = [("a b".to_owned(), None)].into()), "is not a label"),
    ] {
        assert_says(&daemon.refused(daemon.client.set_vm("vm", &bad)), ErrorKind::Usage, words);
    }
    // Nor what could not be done.
    let (path, aside) = (vm.directory.join("disk.ext4"), vm.directory.join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let grown = set(|set| set.disk = Some(Mebibytes(4096)));
    assert_says(&daemon.refused(daemon.client.set_vm("vm", &grown)), ErrorKind::Failed, "");
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    // Nothing of what was refused has come about.
    assert_eq!(daemon.vm("vm").spec, vm.spec);
    // A disk that could outgrow its host is a warning, not an error: it takes nothing yet.
    let huge = set(|set| set.disk = Some(Mebibytes(15 << 20)));
    let vm = daemon.call(daemon.client.set_vm("vm", &huge)).unwrap();
    assert!(vm.warnings[0].contains("may still grow"), "{:?}", vm.warnings);
    daemon.succeed(daemon.client.start_vm("vm"));
}

#[test]
fn labels_and_policy_change_at_any_time_and_are_remembered() {
    let daemon = Daemon::new();
    daemon.create("vm", |request| request.labels = [("a".to_owned(), "1".to_owned())].into());
    let change = set(|set| {
        set.restart = Some(RestartPolicy::Always);
        set.labels = BTreeMap::from([("a".to_owned(), None), ("team/x".to_owned(), Some("b c".to_owned()))]);
    });
    let before = daemon.vm("vm").generation;
    let vm = daemon.call(daemon.client.set_vm("vm", &change)).unwrap();
    assert!(vm.generation > before);
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    let vm = daemon.vm("vm");
    assert_eq!(vm.spec.restart, RestartPolicy::Always);
    assert_eq!(vm.spec.labels, BTreeMap::from([("team/x".to_owned(), "b c".to_owned())]));
}

#[test]
fn a_new_name_is_the_vms_at_once_and_the_old_one_free() {
    let daemon = Daemon::new();
    daemon.create("old", |_| ());
    daemon.create("taken", |request| request.no_start = true);
    let rename = |name: &str| VmRenameRequest { name: name.parse().unwrap() };
    let error = daemon.refused(daemon.client.rename_vm("old", &rename("taken")));
    assert_says(&error, ErrorKind::Conflict, "the name is taken");
    let id = daemon.vm("old").id;
    let vm = daemon.call(daemon.client.rename_vm("old", &rename("new"))).unwrap();
    assert_eq!((vm.id.clone(), vm.state), (id.clone(), VmState::Running));
    assert_says(&daemon.refused(daemon.client.vm("old")), ErrorKind::NotFound, "old");
    // Its own name is no change.
    daemon.call(daemon.client.rename_vm("new", &rename("new"))).unwrap();
    daemon.create("old", |request| request.no_start = true);
    let configuration = daemon.call(daemon.client.ssh_configuration()).unwrap();
    assert!(configuration.text.contains("Host new.banger\n"), "{}", configuration.text);
    assert_eq!(std::fs::read_to_string(configuration.file).unwrap(), configuration.text);
    daemon.environment.crash_daemon();
    daemon.environment.succeed(&["daemon", "start"]);
    assert_eq!(daemon.vm("new").id, id);
    daemon.succeed(daemon.client.delete_vm("new", true));
}

#[test]
fn a_range_of_ports_is_that_many_forwards_and_no_more_than_a_vm_may_have() {
    let daemon = Daemon::new();
    daemon.create("vm", |_| ());
    let added = daemon.environment.succeed(&["vm", "forward", "add", "vm", "0:7000-7255/udp"]);
    assert_eq!(added.lines().count(), 256);
    let outcome = daemon.environment.run(&["vm", "forward", "add", "vm", "0:7"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("257 forwards are more than the 256"), "{}", outcome.stderr);
    let first = added.lines().next().unwrap().split_once('/').unwrap().0;
    let outcome = daemon.environment.run(&["vm", "forward", "rm", "vm", &format!("{first}:7001/udp")]);
    assert!(
        outcome.stderr.contains(&format!("try: banger vm forward rm vm {first}:7000/udp")),
        "{}",
        outcome.stderr
    );
    daemon.environment.succeed(&["vm", "forward", "rm", "vm", &format!("{first}:7000/udp")]);
    // Whoever has changed one sees that at once, whatever its monitor has still to tell of before.
    let mut left = daemon.call(daemon.client.forwards("vm")).unwrap();
    assert_eq!(left.len(), 255);
    while let Some(last) = left.pop().filter(|_| left.len() > 200) {
        daemon.call(daemon.client.remove_forward("vm", last.listen)).unwrap();
        assert_eq!(daemon.call(daemon.client.forwards("vm")).unwrap(), left);
    }
}
