//! `banger cp` against the file server that real guests have, and against one that lies.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::exec::world;
use crate::support::{FILE_SERVER, Hostile, Terminal, World};

/// Not a test but the guest's file server: this very program, started by the fake guest with a socket
/// as standard input. Does nothing when run as a test.
#[test]
fn acts_as_file_server() {
    if std::env::var_os(FILE_SERVER).is_none() {
        return;
    }
    rustix::stdio::dup2_stdout(std::io::stdin()).unwrap();
    let _ = banger_guest::sftp::run();
    #[expect(clippy::exit, reason = "the harness would print on what is the socket by now")]
    std::process::exit(0);
}

fn home(world: &World) -> PathBuf {
    world.daemon().guest.home.clone()
}

/// Everything below a directory: its path, kind and mode, and content or target; sorted.
fn tree(directory: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let time = if metadata.is_symlink() { 0 } else { metadata.mtime() };
            let kind = format!("{:o} at {time}", metadata.mode());
            found.push((path.strip_prefix(directory).unwrap().to_owned(), kind, content));
        }
    }
    found.sort();
    found
}

fn set(path: &Path, mode: u32, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = fs::File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a directory with one of everything.
fn make_tree(at: &Path) {
    fs::create_dir_all(at.join("sub/empty")).unwrap();
    fs::write(at.join("script"), "#!/bin/sh\n").unwrap();
    fs::write(at.join("sub").join(OsStr::from_bytes(b"\xff\xfe name")), "bytes").unwrap();
    fs::write(at.join("sub/big"), pattern(1_000_000)).unwrap();
    fs::write(at.join("nothing"), "").unwrap();
    for number in 0..100 {
        fs::write(at.join(format!("file-{number}")), format!("content {number}")).unwrap();
    }
    symlink("sub/big", at.join("link")).unwrap();
    symlink(OsStr::from_bytes(b"/nowhere/\xff"), at.join("dangling")).unwrap();
    set(&at.join("script"), 0o750, 1_000_000_000);
    set(&at.join("nothing"), 0o400, 1_100_000_000);
    set(&at.join("sub/empty"), 0o555, 1_200_000_000);
    set(&at.join("sub"), 0o711, 1_300_000_000);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().step_by(31).take(length).collect()
}

#[test]
fn a_tree_goes_in_and_comes_back_the_same() {
    let world = world();
    make_tree(&world.path().join("tree"));
    let original = tree(&world.path().join("tree"));
    assert_eq!(original.len(), 108);

    let ended = world.run(["cp", "tree", "web:", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
    let summary: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let bytes: usize =
        original.iter().filter(|(_, kind, _)| kind.starts_with("100")).map(|(.., c)| c.len()).sum();
    assert_eq!(summary, json!({"files": 104, "directories": 3, "links": 2, "bytes": bytes, "failed": 0}));
    assert_eq!(tree(&home(&world).join("tree")), original);

    insta::assert_snapshot!(world.run(["vm", "cp", "web:tree", "back"]), @r"
    exit code: 0
    --- stdout
    --- stderr
    ");
    assert_eq!(tree(&world.path().join("back")), original);
}

#[test]
fn a_copy_goes_into_a_directory_and_else_to_the_name() {
    let world = world();
    let guest = home(&world);
    fs::write(world.path().join("a"), "a").unwrap();
    fs::write(world.path().join("b:c"), "b").unwrap();
    fs::create_dir(guest.join("d")).unwrap();
    for (arguments, file) in [
        (&["cp", "a", "web:"][..], "a"),
        (&["cp", "a", "web:other"], "other"),
        (&["cp", "a", "web:d"], "d/a"),
        (&["cp", "a", "web:d/x"], "d/x"),
        (&["cp", "a", "./b:c", "web:d/"], "d/b:c"),
    ] {
        assert_eq!(world.run(arguments).code, 0, "{arguments:?}");
        assert!(guest.join(file).is_file(), "{arguments:?}");
    }
    let host = world.path();
    fs::create_dir(host.join("into")).unwrap();
    for (arguments, file) in [
        (&["cp", "web:d/x", "."][..], "x"),
        (&["cp", "web:d/x", "y"], "y"),
        (&["cp", "web:d/x", "web:a", "into"], "into/a"),
        (&["cp", "web:d/.", "into"], "into/b:c"),
        (&["cp", "web:d", "into"], "into/d/x"),
        (&["cp", "web:", "whole"], "whole/d/x"),
    ] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?} {ended}");
        assert!(host.join(file).is_file(), "{arguments:?}");
    }
    let absolute = format!("web:{}", guest.join("other").display());
    assert_eq!(world.run(["cp", absolute.as_str(), "z"]).code, 0);
    assert!(host.join("z").is_file());
}

#[test]
fn what_is_there_is_replaced_whole_and_its_links_are_not_followed() {
    let world = world();
    let guest = home(&world);
    fs::write(world.path().join("a"), "new").unwrap();
    fs::write(guest.join("precious"), "precious").unwrap();
    symlink("precious", guest.join("a")).unwrap();
    assert_eq!(world.run(["cp", "a", "web:"]).code, 0);
    assert_eq!(fs::read(guest.join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read(guest.join("a")).unwrap(), b"new");
    // Nothing under a temporary name is left.
    assert_eq!(fs::read_dir(&guest).unwrap().count(), 2);
}

#[test]
fn links_are_followed_when_asked() {
    let world = world();
    let host = world.path();
    fs::create_dir_all(host.join("t/d")).unwrap();
    fs::write(host.join("t/f"), "f").unwrap();
    symlink("../f", host.join("t/d/link")).unwrap();
    symlink("..", host.join("t/d/up")).unwrap();
    let ended = world.run(["cp", "-L", "t", "web:"]);
    insta::assert_snapshot!(ended, @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot copy t/d/up
      because: it is a directory that this one is in
    ");
    let copy = home(&world).join("t/d/link");
    assert!(fs::symlink_metadata(&copy).unwrap().is_file());
    assert_eq!(world.run(["cp", "-L", "web:t/d", "back"]).code, 0);
    symlink("f", home(&world).join("t/l")).unwrap();
    assert_eq!(world.run(["cp", "-L", "web:t/l", "one"]).code, 0);
    assert!(fs::symlink_metadata(host.join("one")).unwrap().is_file());
}

#[test]
fn each_failure_is_told_and_the_rest_is_copied() {
    let world = world();
    let guest = home(&world);
    fs::create_dir_all(guest.join("t/sub")).unwrap();
    fs::write(guest.join("t/sub/good"), "good").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, guest.join("t/pipe"), rustix::fs::Mode::RWXU).unwrap();
    // A directory where a file should go.
    fs::create_dir_all(world.path().join("t/file/x")).unwrap();
    fs::write(guest.join("t/file"), "file").unwrap();
    let ended = world.run(["cp", "web:t/.", "web:missing", "t", "--json"]);
    assert_eq!(ended.code, 1);
    let summary: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&summary["files"], &summary["failed"]), (&json!(1), &json!(3)), "{ended}");
    assert_eq!(fs::read(world.path().join("t/sub/good")).unwrap(), b"good");
    let mut lines: Vec<&str> = ended.stderr.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"kind":"failed","what":"cannot copy web:missing","why":["No such file or directory (os error 2)"]}
    {"kind":"failed","what":"cannot copy web:t/file","why":["Is a directory (os error 21)"]}
    {"kind":"failed","what":"cannot copy web:t/pipe","why":["it is no file, directory or link"]}
    "#);
}

#[test]
fn a_copy_is_between_this_host_and_one_vm() {
    let world = world();
    for places in [&["a", "b"][..], &["web:a", "web:b"], &["web:a", "other:b", "c"], &["a", "web:b", "c"]] {
        let ended = world.run([&["cp"], places].concat());
        assert_eq!(ended.code, 2, "{places:?} {ended}");
    }
    insta::assert_snapshot!(world.run(["cp", "a", "b"]), @r"
    exit code: 2
    --- stdout
    --- stderr
    error: one side of a copy is a VM
      try: banger cp FILE NAME:PATH, or banger cp NAME:PATH FILE; a file with a colon is ./a:b
    ");
    assert_eq!(world.run(["cp", "a"]).code, 2);
    assert_eq!(world.run(["cp", "a", "none:"]).code, 3);
    insta::assert_snapshot!(world.run(["cp", "missing", "web:"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot copy missing
      because: No such file or directory (os error 2)
    ");
    fs::write(world.path().join("a"), "").unwrap();
    insta::assert_snapshot!(world.run(["cp", "a", "a", "web:none"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot copy to web:none
      because: it is no directory, and several things cannot have one name
    ");
    insta::assert_snapshot!(world.run(["cp", "a", "web:none/"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot copy a
      because: there is no such directory to copy it into
    ");
    insta::assert_snapshot!(world.run(["cp", "-u", "stranger", "a", "web:"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: no session in VM 'web'
      because: the guest does not let the user 'stranger' in; most likely it has no such user
      try: a user that the image has: banger exec -u root web ...
    ");
}

fn hostile(hostile: Hostile) -> World {
    let world = world();
    *world.daemon().guest.hostile.lock().unwrap() = Some(hostile);
    world
}

const FILE: u32 = 0o100_644;
const DIRECTORY: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

#[test]
fn no_name_of_a_guest_leads_out_of_the_directory() {
    let names: &[(&[u8], u32)] = &[
        (b"../escaped", FILE),
        (b"/tmp/banger-escaped", FILE),
        (b"sub/escaped", FILE),
        (b"..", DIRECTORY),
        (b".", DIRECTORY),
        (b"", FILE),
        (b"nul\0", FILE),
        (b"good", FILE),
    ];
    let world = hostile(Hostile::default().list("t", names));
    let ended = world.run(["cp", "web:t", "t"]);
    assert_eq!(ended.code, 1);
    let copied = tree(&world.path().join("t"));
    assert_eq!(copied.iter().map(|(path, ..)| path.as_path()).collect::<Vec<_>>(), [Path::new("good")]);
    assert_eq!(ended.stderr.matches("no directory can have").count(), 5, "{ended}");
    assert!(!world.path().join("escaped").exists());
}

#[test]
fn a_directory_that_turns_into_a_link_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "precious").unwrap();
    // First a link, then a directory and a file of its name: whoever followed it would write outside.
    let target = outside.path().as_os_str().as_bytes().to_vec();
    let server = Hostile { target, ..Hostile::default() }
        .list("t", &[(b"d", LINK), (b"f", LINK)])
        .list("u", &[(b"d", DIRECTORY), (b"f", FILE)])
        .list("u/d", &[(b"file", FILE)]);
    let world = hostile(server);
    assert_eq!(world.run(["cp", "web:t", "t"]).code, 0);
    assert_eq!(fs::read_link(world.path().join("t/d")).unwrap(), outside.path());
    let ended = world.run(["cp", "web:u/.", "t"]);
    insta::assert_snapshot!(ended, @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot copy web:u/d
      because: what has this name here is no directory
    ");
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(world.path().join("t/f")).unwrap(), b"hostile", "the link was replaced");
}

#[test]
fn a_directory_without_an_end_has_one_here() {
    let mut server = Hostile::default();
    let mut path = "t".to_owned();
    for _ in 0..400 {
        server = server.list(&path, &[(b"d", DIRECTORY)]);
        path.push_str("/d");
    }
    let world = hostile(server);
    let ended = world.run(["cp", "web:t", "t"]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stderr.contains("deeper than 256 directories"), "{ended}");
}

#[test]
fn an_answer_that_makes_no_sense_ends_the_copy() {
    for (kind, body) in [
        // Four billion names in four bytes; a handle longer than its packet; an unknown answer.
        (104, vec![0xff; 4]),
        (102, vec![0xff; 4]),
        (200, Vec::new()),
    ] {
        let world = hostile(Hostile { nonsense: Some((kind, body)), ..Hostile::default() });
        let ended = world.run(["cp", "web:t", "t"]);
        assert_eq!(ended.code, 1, "{ended}");
        assert!(
            ended
                .stderr
                .contains("the session in VM 'web' broke\n  because: the guest's file server makes no sense"),
            "{ended}"
        );
    }
}

#[test]
fn an_interrupt_leaves_nothing_unfinished() {
    let world = hostile(Hostile { endless: true, ..Hostile::default() }.list("t", &[(b"f", FILE)]));
    let child = world.command(["cp", "web:t", "t"]).stderr(Stdio::piped()).spawn().unwrap();
    let temporary = || {
        let entries = fs::read_dir(world.path().join("t")).ok()?;
        entries
            .map(|entry| entry.unwrap())
            .find(|entry| entry.file_name().as_bytes().starts_with(b".banger-"))
    };
    // Written to by now: the copy is under way.
    while temporary().is_none_or(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() == 0)) {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(world.end(child).code, 130);
    assert_eq!(fs::read_dir(world.path().join("t")).unwrap().count(), 0);
}

#[test]
fn an_interrupt_leaves_nothing_unfinished_in_the_guest() {
    let world = world();
    let file = fs::File::create(world.path().join("sparse")).unwrap();
    // Longer than can be copied before the interrupt comes, and takes no space here.
    file.set_len(1 << 40).unwrap();
    let child = world.command(["cp", "sparse", "web:"]).spawn().unwrap();
    let names = || -> Vec<OsString> {
        fs::read_dir(home(&world)).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    while names().is_empty() {
        std::thread::yield_now();
    }
    assert!(names().iter().all(|name| name.as_bytes().starts_with(b".banger-")));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(world.end(child).code, 143);
    assert_eq!(names(), Vec::<OsString>::new());
}

#[test]
fn a_terminal_shows_how_far_it_is() {
    let world = world();
    fs::write(world.path().join("big"), pattern(3_000_000)).unwrap();
    let mut terminal = Terminal::new(100, 24);
    let child = terminal.spawn(world.command(["cp", "big", "web:"]));
    let printed = terminal.wait_for("big");
    assert!(printed.is_ascii(), "{printed:?}");
    assert_eq!(world.end(child).code, 0);
    assert_eq!(fs::read(home(&world).join("big")).unwrap(), pattern(3_000_000));
}
