//! A database that cannot be used, or is not the one that the VMs are in: nothing of a user's is ever deleted for it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use banger_testkit::Environment;

use crate::support::{SMALL, named, names, refuse};

/// Where a database says which version of its schema it has: big-endian, 32 bits (SQLite's manual, "Database File
/// Format", section 1.3).
const USER_VERSION: std::ops::Range<usize> = 60..64;

/// Every file beneath a directory, by its identity and size.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, metadata) = (entry.path(), entry.metadata().unwrap());
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path, (metadata.ino(), metadata.len()));
    }
    found
}

fn everything(environment: &Environment) -> BTreeMap<PathBuf, (u64, u64)> {
    ["vms", "images", "kernels"].iter().flat_map(|name| tree(&environment.data().join(name))).collect()
}

/// A VM that is at rest, and no daemon.
fn at_rest() -> Environment {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "work", "--no-start"], &SMALL[..]].concat());
    environment.succeed(&["daemon", "stop"]);
    environment
}

#[test]
fn a_database_from_the_future_is_refused_and_nothing_touched() {
    let environment = at_rest();
    let database = environment.data().join("banger.db");
    let present = std::fs::read(&database).unwrap();
    let mut future = present.clone();
    future[USER_VERSION].copy_from_slice(&1000_u32.to_be_bytes());
    std::fs::write(&database, &future).unwrap();
    let before = everything(&environment);
    insta::assert_snapshot!(refuse(&environment, 1, &["daemon", "start"]), @"
    error: cannot open the database
      because: the database [DATA]/banger.db was written by a newer version of banger
      try: use that newer version; nothing was changed
    ");
    assert_eq!(environment.run(&["daemon", "status"]).code, 5);
    assert!(std::fs::read(&database).unwrap() == future, "it was changed");
    assert_eq!(everything(&environment), before);
    std::fs::write(&database, present).unwrap();
    assert_eq!(environment.vm("work")["state"], "stopped");
}

#[test]
fn a_damaged_database_is_refused_and_nothing_touched() {
    let environment = at_rest();
    let database = environment.data().join("banger.db");
    let whole = std::fs::read(&database).unwrap();
    let before = everything(&environment);
    let mut torn = whole.clone();
    let middle = whole.len() / 2;
    torn[middle..middle + 4096].fill(0xa5);
    for damaged in [&torn[..], &whole[..middle], &whole[..70], b"my shopping list\n"] {
        std::fs::write(&database, damaged).unwrap();
        let said = refuse(&environment, 1, &["vm", "ls"]);
        assert!(said.contains("the database [DATA]/banger.db is damaged: "), "{said}");
        assert_eq!(environment.run(&["daemon", "status"]).code, 5);
        assert!(std::fs::read(&database).unwrap() == damaged, "it was changed");
        assert_eq!(everything(&environment), before);
    }
    insta::assert_snapshot!(refuse(&environment, 1, &["daemon", "start"]), @"
    error: cannot open the database
      because: the database [DATA]/banger.db is damaged: file is not a database
      because: nothing was changed: the VMs' disks are [DATA]/vms/*/disk.ext4
      try: put a copy from a backup in its place, or begin with an empty list: mv '[DATA]/banger.db' '[DATA]/banger.db.damaged'
    ");
    // What it says to do.
    std::fs::write(&database, whole).unwrap();
    assert_eq!(environment.vm("work")["state"], "stopped");
}

#[test]
fn vms_of_a_database_that_was_lost_are_left_as_they_are_until_it_is_back() {
    let environment = Environment::with_fake_vmm();
    for (name, start) in [("runs", &[][..]), ("rests", &["--no-start"])] {
        environment.succeed(&[&["vm", "create", name], &SMALL[..], start].concat());
    }
    let pid = environment.vm("runs")["vmm_pid"].clone();
    environment.succeed(&["daemon", "stop"]);
    let data = environment.data();
    let (database, aside) = (data.join("banger.db"), data.join("aside.db"));
    std::fs::rename(&database, &aside).unwrap();
    let before = everything(&environment);
    // What is half made, and a directory that holds nothing of anybody's, still go.
    for orphan in ["vms/.partial-x", "vms/0123456789ab", "images/.partial-x"] {
        std::fs::create_dir(data.join(orphan)).unwrap();
        std::fs::write(data.join(orphan).join("file"), "").unwrap();
    }

    // None, and one that is empty: both begin anew, say so, and take nothing away.
    for empty in [false, true] {
        if empty {
            std::fs::write(&database, "").unwrap();
        }
        let started = environment.run(&["daemon", "start"]);
        assert_eq!(started.code, 0, "{}", started.stderr);
        let ids = names(&data.join("vms"));
        assert_eq!(ids.len(), 2);
        let warning = named(&environment, &started.stderr);
        let warning = warning.split_once('\n').unwrap().1.replace(&ids[0], "[ID]").replace(&ids[1], "[ID]");
        insta::allow_duplicates! { insta::assert_snapshot!(warning, @"
        warning: the database [DATA]/banger.db does not know these VMs, which are left as they are: put the database back that knows them, or delete them:
          [DATA]/vms/[ID]
          [DATA]/vms/[ID]
        "); }
        assert_eq!(environment.succeed(&["vm", "ls", "-q"]), "");
        assert_eq!(everything(&environment), before);
        let status = environment.run(&["daemon", "status", "--json"]).json();
        let unknown: Vec<PathBuf> = serde_json::from_value(status["unknown_vms"].clone()).unwrap();
        assert_eq!(unknown, ids.iter().map(|id| data.join("vms").join(id)).collect::<Vec<_>>());
        environment.succeed(&["daemon", "stop"]);
        std::fs::remove_file(&database).unwrap();
    }

    // Back again, it finds everything, with what ran all the time.
    std::fs::rename(aside, &database).unwrap();
    let runs = environment.vm("runs");
    assert_eq!((&runs["state"], &runs["vmm_pid"]), (&"running".into(), &pid));
    environment.succeed(&["vm", "start", "rests"]);
    let status = environment.run(&["daemon", "status", "--json"]).json();
    assert_eq!(status["unknown_vms"], serde_json::Value::Null);
}

#[test]
fn an_unknown_vm_that_its_user_deletes_is_not_spoken_of_any_more() {
    let environment = at_rest();
    let data = environment.data();
    std::fs::remove_file(data.join("banger.db")).unwrap();
    environment.succeed(&["daemon", "start"]);
    let status = environment.run(&["daemon", "status"]);
    assert!(status.stderr.contains("warning: "), "{}", status.stderr);
    let id = &names(&data.join("vms"))[0];
    std::fs::remove_dir_all(data.join("vms").join(id)).unwrap();
    assert_eq!(environment.run(&["daemon", "status"]).stderr, "");
    // Images and kernels that no row knows were kept for it; now they go.
    assert_eq!(names(&data.join("images")).len(), 3);
    environment.succeed(&["daemon", "restart"]);
    assert_eq!(names(&data.join("images")), [""; 0]);
}
