//! What can be had by name: banger's own catalog, lists from elsewhere and the user's file, and sources that are tried in order.

use banger_testkit::{Environment, FileServer, Serving, seed};
use banger_types::digest::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::support::{SMALL, assert_left, names};

/// What the seed has.
const SEED: (usize, usize) = (3, 1);

/// Writes a file beside the configuration, and ends the daemon, which has read the one before.
fn configure(environment: &Environment, name: &str, text: &str) {
    let directory = environment.data().join(".config/banger");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), text).unwrap();
    environment.run(&["daemon", "stop"]);
}

fn entry(environment: &Environment, noun: &str, name: &str) -> Value {
    let listed = environment.run(&[noun, "catalog", "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let listed = listed.json();
    let found = listed.as_array().unwrap().iter().find(|entry| entry["name"] == name);
    found.cloned().unwrap_or_default()
}

fn busybox() -> String {
    format!("tar:{}", seed::directory().join("busybox.tar").display())
}

#[test]
fn the_catalog_says_what_can_be_had_and_what_is_here() {
    let environment = Environment::with_fake_vmm();
    let golden = entry(&environment, "image", "golden");
    assert_eq!((&golden["is_default"], &golden["is_here"]), (&json!(true), &json!(false)));
    assert_eq!(golden["sources"], json!(["dockerfile:images/golden", "debian:bookworm"]));
    assert_eq!((&golden["kernel"], &golden["origin"]), (&json!("debian"), &json!("banger")));
    assert_eq!(entry(&environment, "image", "debian")["is_here"], true);
    assert_eq!(entry(&environment, "kernel", "debian")["is_here"], true);
    let listed = environment.succeed(&["image", "catalog"]);
    assert!(listed.contains("golden (default)") && listed.contains("debian:bookworm"), "{listed}");
    assert_eq!(environment.succeed(&["kernel", "catalog", "-q"]), "debian\ndebian-13\n");
    // Only images have a kernel.
    let heading = |noun| environment.succeed(&[noun, "catalog"]).lines().next().unwrap().to_owned();
    assert!(heading("image").contains("KERNEL") && !heading("kernel").contains("KERNEL"));
    // None of ours has a kernel that it needs: what the user prefers is what they boot.
    configure(&environment, "config.toml", "[vm]\nkernel = \"mine\"\n");
    assert_eq!(entry(&environment, "image", "golden")["kernel"], "mine");
    let create = [&["vm", "create", "vm", "--image", "debian"], &SMALL[2..]].concat();
    let refused = environment.run(&create);
    assert!(refused.code == 3 && refused.stderr.contains("'mine'"), "{}", refused.stderr);
}

#[test]
fn sources_are_tried_in_order_and_each_failure_has_its_reason() {
    let environment = Environment::with_fake_vmm();
    let text = format!(
        "[image.mine]\ndescription = \"Mine\"\nkernel = \"debian\"\n\
         sources = [\"docker://127.0.0.1:1/none\", \"oci:/nowhere\", \"{}\"]\n",
        busybox()
    );
    configure(&environment, "catalog.toml", &text);
    let create = [&["vm", "create", "vm", "--image", "mine"], &SMALL[2..]].concat();
    let created = environment.run(&create);
    assert_eq!(created.code, 0, "{}", created.stderr);
    for words in ["docker://127.0.0.1:1/none:latest: ", "refused", "oci:/nowhere: ", "no 'index.json'"] {
        assert!(created.stderr.contains(words), "{words}: {}", created.stderr);
    }
    let shown = environment.run(&["image", "show", "mine", "--json"]).json();
    assert_eq!((&shown["source"], &shown["kernel"]), (&json!(busybox()), &json!("debian")));
    // A pull of what is here asks the same sources, and finds nothing new in the one that serves.
    environment.succeed(&["image", "pull", "mine"]);
    assert_left(&environment, 1, SEED.0 + 1, SEED.1);
}

#[test]
fn a_newer_version_is_never_one_of_a_source_that_is_less() {
    let environment = Environment::with_fake_vmm();
    let good = environment.data().join("good.tar");
    std::fs::copy(seed::directory().join("busybox.tar"), &good).unwrap();
    let text = format!(
        "[image.mine]\ndescription = \"Mine\"\nsources = [\"tar:{}\", \"tar:{}\"]\n",
        good.display(),
        seed::directory().join("probe.tar").display()
    );
    configure(&environment, "catalog.toml", &text);
    environment.succeed(&["image", "pull", "mine"]);
    let before = environment.run(&["image", "show", "mine", "--json"]).json();
    std::fs::remove_file(&good).unwrap();
    let refused = environment.run(&["image", "pull", "mine"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("good.tar") && !refused.stderr.contains("probe.tar"),
        "{}",
        refused.stderr
    );
    assert_eq!(environment.run(&["image", "show", "mine", "--json"]).json(), before);
    assert_left(&environment, 0, SEED.0 + 1, SEED.1);

    // Nor does a lesser one replace what comes from elsewhere.
    environment.succeed(&["image", "pull", &busybox(), "--name", "mine"]);
    let before = environment.run(&["image", "show", "mine", "--json"]).json();
    assert_eq!(environment.run(&["image", "pull", "mine"]).code, 1);
    assert_eq!(environment.run(&["image", "show", "mine", "--json"]).json(), before);
}

#[test]
fn when_no_source_serves_one_error_has_all_reasons() {
    let environment = Environment::with_fake_vmm();
    let text = "[image.golden]\ndescription = \"Mine\"\n\
                sources = [\"docker://127.0.0.1:1/none\", \"tar:/nowhere.tar\", \"dockerfile:/nowhere\"]\n";
    configure(&environment, "catalog.toml", text);
    let create = [&["vm", "create", "vm"], &SMALL[2..]].concat();
    let refused = environment.run(&create);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let error = &refused.stderr[refused.stderr.find("\nerror: ").unwrap()..];
    assert!(error.contains("cannot make the image 'golden'"), "{error}");
    let places: Vec<_> =
        ["docker://127.0.0.1:1/none:latest: ", "tar:/nowhere.tar: ", "dockerfile:/nowhere: "]
            .iter()
            .map(|words| error.find(words).unwrap_or_else(|| panic!("{words}: {error}")))
            .collect();
    assert!(places.is_sorted(), "{error}");
    assert_left(&environment, 0, SEED.0, SEED.1);
    assert_eq!(environment.run(&["vm", "show", "vm"]).code, 3);
}

#[test]
fn a_list_from_elsewhere_is_taken_by_its_digest_and_the_users_file_comes_first() {
    let environment = Environment::with_fake_vmm();
    let list =
        b"[image.theirs]\ndescription = \"Theirs\"\nsources = [\"docker://registry.example/theirs:1\"]\n\
                 [image.both]\ndescription = \"Theirs, too\"\nsources = [\"debian:bookworm\"]\n";
    let server = FileServer::start(Serving { content: list.to_vec(), ..Serving::default() });
    let configuration = |digest: Digest| {
        let url = server.url("catalog.toml");
        format!("[[catalog]]\nurl = \"{url}\"\nsha256 = \"{}\"\n", digest.digits())
    };
    let digest = Digest::from_bytes(sha2::Sha256::digest(list).into());
    configure(&environment, "config.toml", &configuration(digest));
    configure(
        &environment,
        "catalog.toml",
        "[image.both]\ndescription = \"Mine\"\nsources = [\"debian:trixie\"]\n",
    );
    assert_eq!(entry(&environment, "image", "theirs")["origin"], server.url("catalog.toml"));
    assert_eq!(entry(&environment, "image", "both")["description"], "Mine");
    assert!(!entry(&environment, "image", "golden").is_null());
    assert_eq!(server.paths().len(), 1, "it is kept");

    // Something else is there now: what is kept has its digest still; what has not is not used, and all else is.
    configure(&environment, "config.toml", &configuration(Digest::from_bytes([7; 32])));
    let listed = environment.run(&["image", "catalog"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert!(listed.stderr.contains("warning: cannot use the catalog"), "{}", listed.stderr);
    assert!(listed.text().contains("golden") && !listed.text().contains("theirs"), "{}", listed.text());
    assert_eq!(names(&environment.data().join("catalogs")).len(), 1);
    // Whoever has its name in a registry is not asked instead.
    let refused = environment.run(&["image", "pull", "theirs"]);
    assert!(refused.code == 1 && refused.stderr.contains("docker://theirs"), "{}", refused.stderr);

    // One that nobody could vouch for is no configuration; nor is a file of the user's own that makes no sense.
    configure(
        &environment,
        "config.toml",
        &configuration(digest).replace("http://127.0.0.1", "http://mirror.example"),
    );
    let refused = environment.run(&["image", "catalog"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("does not begin with https://"),
        "{}",
        refused.stderr
    );
    configure(&environment, "config.toml", "");
    configure(&environment, "catalog.toml", "[image.both]\ndescripton = \"Mine\"\n");
    let refused = environment.run(&["image", "catalog"]);
    assert!(refused.code == 2 && refused.stderr.contains("catalog.toml"), "{}", refused.stderr);
}
