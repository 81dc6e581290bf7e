//! Kernels: those that another version of banger has made, those at an address, and those of the user's own.

use std::path::PathBuf;

use banger_testkit::{Environment, FileServer, Serving};
use banger_types::digest::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::support::{SMALL, assert_left, names, refuse};

/// How many images the seed has.
const IMAGES: usize = 3;

fn shown(environment: &Environment, name: &str) -> Value {
    environment.run(&["kernel", "show", name, "--json"]).json()
}

/// A file that is a kernel by its first bytes, and has its configuration in it.
fn kernel(configuration: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(configuration.as_bytes()).unwrap();
    [b"\x7fELF and so on IKCFG_ST", &packed.finish().unwrap()[..], b"IKCFG_ED"].concat()
}

/// Makes the environment's kernel one of an older recipe, as an upgrade finds it.
fn make_outdated(environment: &Environment) -> PathBuf {
    let kernels = environment.data().join("kernels");
    let bundle = kernels.join(&names(&kernels)[0]);
    let description = bundle.join("kernel.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&description).unwrap()).unwrap();
    json["recipe"] = 0.into();
    // Another file: this one is the seed's, too.
    std::fs::remove_file(&description).unwrap();
    std::fs::write(&description, json.to_string()).unwrap();
    bundle
}

#[test]
fn an_outdated_kernel_is_made_anew_and_its_vms_keep_their_disks() {
    let environment = Environment::with_fake_vmm();
    let create = |name: &str, more: &[&str]| {
        let created = environment.run(&[&["vm", "create", name], &SMALL[..], more].concat());
        assert_eq!(created.code, 0, "{}", created.stderr);
    };
    create("kept", &[]);
    let before = environment.run(&["kernel", "ls", "--json"]).json();
    let bundle = make_outdated(&environment);

    // One that runs since before the upgrade goes on, and is in the way.
    let refused = refuse(&environment, 4, &["kernel", "pull", "debian"]);
    assert!(refused.contains("VM 'kept' runs from it"), "{refused}");
    environment.succeed(&["vm", "stop", "kept"]);
    let refused = refuse(&environment, 1, &["vm", "start", "kept"]);
    assert!(refused.contains("`banger kernel pull NAME`"), "{refused}");
    environment.succeed(&["kernel", "pull", "debian"]);
    environment.succeed(&["vm", "start", "kept"]);
    let after = environment.run(&["kernel", "ls", "--json"]).json();
    assert_eq!((&after[0]["id"], after.as_array().unwrap().len()), (&before[0]["id"], 1));
    assert_eq!(names(bundle.parent().unwrap()), [bundle.file_name().unwrap().to_str().unwrap()]);

    // Whoever makes a VM need not know.
    environment.succeed(&["vm", "stop", "kept"]);
    make_outdated(&environment);
    create("new", &[]);
    environment.succeed(&["vm", "start", "kept"]);
}

#[test]
fn a_kernel_of_debians_says_what_it_can_do() {
    let environment = Environment::with_fake_vmm();
    let all = ["overlay", "ext4", "block", "console", "socket", "network", "squashfs", "erofs", "containers"];
    assert_eq!(shown(&environment, "debian")["features"], json!(all));
    let text = environment.succeed(&["kernel", "show", "debian"]);
    assert!(text.contains("Can do:") && text.contains("vsock") && text.contains("containers"), "{text}");
}

#[test]
fn a_kernel_at_an_address_is_what_its_digest_says_and_is_asked_what_it_can_do() {
    let environment = Environment::with_fake_vmm();
    let content = kernel("CONFIG_EROFS_FS=y\nCONFIG_SQUASHFS=m\n");
    let server = FileServer::start(Serving { content: content.clone(), ..Serving::default() });
    let digest = Digest::from_bytes(sha2::Sha256::digest(&content).into());
    let source = |digest: Digest| format!("{}#sha256={}", server.url("vmlinux"), digest.digits());
    environment.succeed(&["kernel", "pull", &source(digest), "--name", "theirs"]);
    // Under its own name it can be had again, though no catalog has that.
    environment.succeed(&["kernel", "pull", "theirs"]);
    let theirs = shown(&environment, "theirs");
    assert_eq!((&theirs["source"], &theirs["release"]), (&json!(source(digest)), &json!("6.1.0-fake")));
    // By its configuration, and by what the guest says; what is a module is not there.
    assert_eq!(
        theirs["features"],
        json!(["overlay", "ext4", "block", "console", "socket", "network", "erofs"])
    );
    environment.succeed(&[&["vm", "create", "vm", "--kernel", "theirs"], &SMALL[..]].concat());
    environment.succeed(&["vm", "rm", "-f", "vm"]);
    environment.succeed(&["kernel", "rm", "-y", "theirs"]);

    let refused = |source: &str, words: &str| {
        let said =
            refuse(&environment, if words.contains("digest") { 1 } else { 2 }, &["kernel", "pull", source]);
        assert!(said.contains(words), "{words}: {said}");
        assert_left(&environment, 0, IMAGES, 1);
    };
    refused(&source(Digest::from_bytes([7; 32])), "its digest is");
    refused(&server.url("vmlinux"), "does not say what the kernel has to be");
    refused(
        &source(digest).replace("http://127.0.0.1", "http://mirror.example"),
        "does not begin with https://",
    );
    // It is what it should be, and no guest boots from it.
    environment.behave(&json!({"console": ["Kernel panic - not syncing: no init"], "exit_at_boot": 0}));
    let said = refuse(&environment, 1, &["kernel", "pull", &source(digest)]);
    assert!(said.contains("ends after 'Kernel panic - not syncing: no init'"), "{said}");
    assert_left(&environment, 0, IMAGES, 1);
    assert_eq!(names(&environment.data().join("downloads")), [""; 0]);
}

#[test]
fn a_kernel_of_the_users_own_is_used_where_it_is() {
    let environment = Environment::with_fake_vmm();
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("vmlinux-6.1");
    let register = ["kernel", "register", path.to_str().unwrap()];
    assert!(refuse(&environment, 3, &register).contains("No such file"));
    std::fs::write(&path, "a picture").unwrap();
    assert!(refuse(&environment, 1, &register).contains("is no kernel that a VM can boot"));
    let content = kernel("");
    std::fs::write(&path, &content).unwrap();
    let said =
        json!({"kernel_release": "6.1", "features": ["overlay", "ext4", "console"], "root": {"Err": ""}});
    environment.behave(&json!({"inspection": said}));
    assert!(refuse(&environment, 1, &register).contains("has no virtio-blk"));
    let taken = refuse(&environment, 1, &[&register[..], &["--name", "debian"]].concat());
    assert!(taken.contains("has no virtio-blk"), "what is wrong with it comes first: {taken}");
    assert_left(&environment, 0, IMAGES, 1);

    let said = json!({"kernel_release": "6.1", "features": ["overlay", "ext4", "block", "console"], "root": {"Err": ""}});
    environment.behave(&json!({"inspection": said}));
    assert!(refuse(&environment, 4, &[&register[..], &["--name", "debian"]].concat()).contains("taken"));
    let registered = environment.run(&register);
    assert_eq!(
        (registered.code, registered.text()),
        (0, "vmlinux-6.1\n".to_owned()),
        "{}",
        registered.stderr
    );
    assert!(registered.stderr.contains("no vsock") && registered.stderr.contains("no network"));
    let own = shown(&environment, "vmlinux-6.1");
    assert_eq!((&own["release"], &own["registered"]["kernel"]["path"]), (&json!("6.1"), &json!(path)));
    environment.succeed(&[&["vm", "create", "vm", "--kernel", "vmlinux-6.1"], &SMALL[..]].concat());
    environment.succeed(&["vm", "stop", "vm"]);

    // What it can do is asked anew when it is another one.
    let said =
        json!({"kernel_release": "6.2", "features": ["ext4", "block", "console"], "root": {"Err": ""}});
    environment.behave(&json!({"inspection": said}));
    std::fs::write(&path, kernel("# newer\n")).unwrap();
    assert!(refuse(&environment, 1, &["kernel", "pull", "vmlinux-6.1"]).contains("has no overlayfs"));
    environment.behave(&json!({}));
    environment.succeed(&["kernel", "pull", "vmlinux-6.1"]);
    let own = shown(&environment, "vmlinux-6.1");
    assert_eq!((&own["release"], &own["problem"]), (&json!("6.1.0-fake"), &json!(null)));
    assert_eq!(own["features"].as_array().unwrap().len(), 6, "{own}");
    environment.succeed(&["vm", "start", "vm"]);
    environment.succeed(&["vm", "rm", "-f", "vm"]);

    // Anew under its name: what was before is a version.
    environment.succeed(&register);
    let listed = environment.succeed(&["kernel", "ls", "-q"]);
    assert_eq!(listed.lines().filter(|name| name.starts_with("vmlinux-6.1")).count(), 2, "{listed}");
    environment.succeed(&["system", "prune", "--yes"]);
    assert_left(&environment, 0, IMAGES, 2);
    environment.succeed(&["kernel", "rm", "-y", "vmlinux-6.1"]);
    assert_eq!(std::fs::read(&path).unwrap(), kernel("# newer\n"), "it is the user's");
}

#[test]
fn a_kernel_that_lacks_what_an_image_needs_is_refused_or_told_of() {
    let environment = Environment::with_fake_vmm();
    let files = tempfile::tempdir().unwrap();
    let (path, rootfs) = (files.path().join("vmlinux"), files.path().join("root.img"));
    std::fs::write(&path, kernel("")).unwrap();
    std::fs::write(&rootfs, [7; 4096]).unwrap();
    environment.succeed(&["kernel", "register", path.to_str().unwrap(), "--name", "small"]);
    let root = json!({"Ok": {"file_system": "erofs", "partition": null, "unclean": false, "init": null, "systemd": false}});
    let said =
        json!({"kernel_release": "6.1", "features": ["overlay", "ext4", "block", "console"], "root": root});
    environment.behave(&json!({"inspection": said}));
    environment.succeed(&["image", "register", "--rootfs", rootfs.to_str().unwrap(), "--name", "on-erofs"]);
    let create = [&["vm", "create", "vm", "--image", "on-erofs", "--kernel", "small"], &SMALL[2..]].concat();
    let refused = refuse(&environment, 2, &create);
    assert!(refused.contains("is on erofs, which the kernel 'small' does not have"), "{refused}");
    assert_left(&environment, 0, IMAGES, 2);
}
