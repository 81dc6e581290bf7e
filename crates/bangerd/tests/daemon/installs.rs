//! Installing an engine, from a server on loopback that has a release which only says that it is Firecracker.

use std::path::{Path, PathBuf};

use banger_api::request::EngineInstallRequest;
use banger_testkit::{Environment, FileServer, Outcome, Serving, SmallDisk};
use banger_types::digest::Digest;
use banger_types::location::variable;
use banger_types::operation::OperationStatus;
use banger_types::vm::EngineKind;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::Digest as _;

use crate::support::{Daemon, kill, names};

/// Returns an archive like Firecracker's own, whose program says this of itself.
fn release(says: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let script = format!("#!/bin/sh\necho '{says}'\n");
    // So long, and so mixed, that it does not come in one piece.
    let mixed = std::iter::successors(Some(1_u32), |word| Some(word.wrapping_mul(1_664_525).wrapping_add(1)));
    let symbols: Vec<u8> = mixed.take(2 << 20).map(|word| word.to_be_bytes()[0]).collect();
    let contents = [("firecracker", script.as_bytes()), ("jailer", b"#!/bin/sh\n"), ("symbols", &symbols)];
    for (name, content) in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, format!("release-v1.16.1/{name}-v1.16.1-x86_64"), content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(content).into())
}

/// An environment whose Firecracker is the installed one, if any.
fn environment() -> Environment {
    Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, "")
}

fn install(environment: &Environment, server: &FileServer, digest: Digest) -> Outcome {
    let url = server.url("firecracker.tgz");
    environment.run(&["engine", "install", "--url", &url, "--sha256", &digest.to_string()])
}

fn request(server: &FileServer, content: &[u8]) -> EngineInstallRequest {
    let (url, digest) = (Some(server.url("firecracker.tgz")), Some(digest(content)));
    EngineInstallRequest { engine: EngineKind::Firecracker, url, digest }
}

fn engines(environment: &Environment) -> PathBuf {
    environment.data().join("engines")
}

fn assert_nothing_left(environment: &Environment) {
    assert_eq!(names(&engines(environment)), [""; 0]);
    assert_eq!(names(&environment.data().join("downloads")), [""; 0]);
}

#[test]
fn a_release_is_installed_found_and_not_installed_twice() {
    let environment = environment();
    let release = release("Firecracker v1.16.1");
    let server = FileServer::start(Serving {
        content: release.clone(),
        cuts: vec![1000],
        ranges: true,
        ..Serving::default()
    });
    let installed = install(&environment, &server, digest(&release));
    assert_eq!((installed.code, &*installed.text()), (0, "firecracker 1.16.1\n"), "{}", installed.stderr);
    assert_eq!(server.asked(), [None, Some("bytes=1000-".to_owned())]);

    assert_eq!(names(&engines(&environment)), ["firecracker-1.16.1"]);
    let directory = engines(&environment).join("firecracker-1.16.1");
    assert_eq!(names(&directory), ["firecracker", "jailer"]);
    assert_eq!(names(&environment.data().join("downloads")), [""; 0]);
    let shown = environment.run(&["engine", "ls", "--json"]).json();
    assert_eq!(shown[0]["program"], directory.join("firecracker").to_str().unwrap());
    assert_eq!((&shown[0]["version"], &shown[0]["problem"]), (&"1.16.1".into(), &serde_json::Value::Null));

    // VMs may be started again from there.
    let inode = |path: PathBuf| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(directory.join("firecracker"));
    assert_eq!(install(&environment, &server, digest(&release)).code, 0);
    assert_eq!(inode(directory.join("firecracker")), before);
    // Another build of the same version takes its place.
    let another = self::release("Firecracker v1.16.1\nanother build");
    let server = FileServer::start(Serving { content: another.clone(), ..Serving::default() });
    assert_eq!(install(&environment, &server, digest(&another)).code, 0);
    let content = || std::fs::read_to_string(directory.join("firecracker")).unwrap();
    assert!(content().contains("another build"));
    assert_eq!(names(&engines(&environment)), ["firecracker-1.16.1"]);
    let server = FileServer::start(Serving { content: release.clone(), ..Serving::default() });
    // One that cannot be run is no loss.
    std::fs::write(directory.join("firecracker"), "spoiled").unwrap();
    assert_eq!(install(&environment, &server, digest(&release)).code, 0);
    // Not told by its inode, for the file system may give out the first one's again.
    assert!(content().contains("Firecracker v1.16.1"), "{}", content());
    assert!(!content().contains("another build"), "{}", content());
}

#[test]
fn what_is_run_in_the_place_of_the_installed_one_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let named = crate::engines::program(&directory.path().join("firecracker"), "Firecracker v1.16.9");
    let environment = Environment::with_fake_vmm().with_variable(variable::FIRECRACKER, &named);
    let release = release("Firecracker v1.16.1");
    let server = FileServer::start(Serving { content: release.clone(), ..Serving::default() });
    let installed = install(&environment, &server, digest(&release));
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert!(installed.stderr.contains("but VMs get firecracker 1.16.9 in"), "{}", installed.stderr);
    crate::engines::program(Path::new(&named), "Firecracker v1.2.0");
    let installed = install(&environment, &server, digest(&release));
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert!(installed.stderr.contains("but VMs get none: "), "{}", installed.stderr);
}

#[test]
fn of_several_that_are_installed_the_newest_that_can_be_run_is() {
    let environment = environment();
    for (version, says) in
        [("1.16.1", "Firecracker v1.16.1"), ("1.99.0", "hello"), ("2.0.0", "Firecracker v2.0.0")]
    {
        let directory = engines(&environment).join(format!("firecracker-{version}"));
        std::fs::create_dir_all(&directory).unwrap();
        crate::engines::program(&directory.join("firecracker"), says);
    }
    let shown = environment.run(&["engine", "ls", "--json"]).json();
    assert_eq!(shown[0]["version"], "1.16.1", "{shown}");
}

#[test]
fn an_install_that_is_not_permitted_says_so() {
    let daemon = Daemon::of(environment());
    let engines = engines(&daemon.environment);
    let Some(disk) = SmallDisk::at("an_install_that_is_not_permitted_says_so", &engines, "8m") else {
        return;
    };
    disk.forbid();
    let release = release("Firecracker v1.16.1");
    let server = FileServer::start(Serving { content: release.clone(), ..Serving::default() });
    let forbidden = install(&daemon.environment, &server, digest(&release));
    assert_eq!(forbidden.code, 6, "{}", forbidden.stderr);
    for words in ["Read-only file system", engines.to_str().unwrap(), "`ls -ld` says whose a file is"] {
        assert!(forbidden.stderr.contains(words), "{}", forbidden.stderr);
    }
}

#[test]
fn what_is_not_the_release_is_refused_and_leaves_nothing() {
    let environment = environment();
    let refused = |content: Vec<u8>, digest: Digest, words: &str| {
        let server = FileServer::start(Serving { content, ..Serving::default() });
        let refused = install(&environment, &server, digest);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
        assert_nothing_left(&environment);
    };
    let good = release("Firecracker v1.16.1");
    let expected = digest(b"something else");
    refused(good.clone(), expected, &format!("its digest is {}, not {expected}", digest(&good)));
    let page = b"<html>not found</html>".to_vec();
    refused(page.clone(), digest(&page), "as a gzip-compressed tar archive");
    let old = release("Firecracker v1.2.0");
    refused(old.clone(), digest(&old), "1.2.0 is older than 1.16.1");
    let other = release("hello");
    refused(other.clone(), digest(&other), "it does not say that it is firecracker");
    // banger does not install what distributions do.
    let qemu = environment.run(&["engine", "install", "qemu"]);
    assert_eq!(qemu.code, 2, "{}", qemu.stderr);
    assert!(qemu.stderr.contains("banger does not install it"), "{}", qemu.stderr);
    // The other way round, before anything is asked for.
    for arguments in [&["--url", "http://127.0.0.1:1/x"][..], &["--sha256", &expected.to_string()]] {
        assert_eq!(environment.run(&[&["engine", "install"], arguments].concat()).code, 2);
    }
}

#[test]
fn an_install_that_a_killed_daemon_had_begun_goes_on_at_the_next_one() {
    let daemon = Daemon::of(environment());
    let content = release("Firecracker v1.16.1");
    let half = content.len() / 2;
    let serving = Serving {
        content: content.clone(),
        cuts: vec![half],
        ranges: true,
        holds: true,
        ..Serving::default()
    };
    let server = FileServer::start(serving);
    let request = request(&server, &content);
    let begun = daemon.call(daemon.client.install_engine(&request)).unwrap();
    daemon.follow(&begun, |progress| progress.done > 0);
    let (_, ended) = kill(daemon.environment.daemon_pid());
    assert!(banger_testkit::wait_for_end(&ended));
    daemon.environment.succeed(&["daemon", "start"]);
    daemon.environment.succeed(&["op", "watch", begun.id.as_str()]);
    let asked = server.asked();
    assert!(asked.len() == 2 && asked[1].as_ref().is_some_and(|range| range != "bytes=0-"), "{asked:?}");
    assert_eq!(names(&engines(&daemon.environment)), ["firecracker-1.16.1"]);
}

#[test]
fn a_cancelled_install_leaves_nothing() {
    let daemon = Daemon::of(environment());
    let content = release("Firecracker v1.16.1");
    let half = content.len() / 2;
    let serving = Serving { content: content.clone(), cuts: vec![half], holds: true, ..Serving::default() };
    let server = FileServer::start(serving);
    let request = request(&server, &content);
    let begun = daemon.call(daemon.client.install_engine(&request)).unwrap();
    daemon.follow(&begun, |progress| progress.done > 0);
    let ended = daemon.finish(daemon.client.cancel_operation(begun.id.as_str()));
    assert_eq!(ended.status, OperationStatus::Cancelled);
    assert_nothing_left(&daemon.environment);
}

#[test]
fn an_install_without_room_or_permission_says_so_and_goes_on_later() {
    let test = "an_install_without_room_or_permission_says_so_and_goes_on_later";
    let Some(disk) = SmallDisk::new(test, "16m") else { return };
    let environment = Environment::within(disk.path()).with_variable(variable::FIRECRACKER, "");
    environment.succeed(&["daemon", "start"]);
    let release = release("Firecracker v1.16.1");
    let server = FileServer::start(Serving { content: release.clone(), ranges: true, ..Serving::default() });
    let ballast = disk.fill(1 << 20);
    let full = install(&environment, &server, digest(&release));
    assert_eq!(full.code, 1, "{}", full.stderr);
    assert!(full.stderr.contains("No space left on device"), "{}", full.stderr);
    assert!(full.stderr.contains("make room on the file system of banger's data"), "{}", full.stderr);
    assert_eq!(names(&engines(&environment)), [""; 0]);
    drop(ballast);

    // Not even root may make a directory in a file.
    let engines = engines(&environment);
    std::fs::remove_dir(&engines).unwrap();
    std::fs::write(&engines, "").unwrap();
    let forbidden = install(&environment, &server, digest(&release));
    assert_eq!(forbidden.code, 1, "{}", forbidden.stderr);
    assert!(forbidden.stderr.contains(engines.to_str().unwrap()), "{}", forbidden.stderr);
    std::fs::remove_file(&engines).unwrap();

    let installed = install(&environment, &server, digest(&release));
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert!(server.asked()[1].is_some(), "{:?}", server.asked());
}
