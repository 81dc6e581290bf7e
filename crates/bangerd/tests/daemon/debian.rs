//! Debian's archive on a host that knows nothing of it.

use std::path::Path;

use banger_testkit::{Environment, FileServer, Serving, not_run};

use crate::support::refuse;

/// Starts the daemon where apt's configuration is what is in a directory.
fn start_with_apt(environment: &Environment, configuration: &Path) {
    environment.start_daemon_behind("mount --bind \"$1\" /etc/apt", &[configuration]);
}

#[test]
fn kernels_and_images_of_debians_come_without_apts_sources() {
    if !rustix::process::geteuid().is_root() {
        not_run("kernels_and_images_of_debians_come_without_apts_sources", "only root can mount");
        return;
    }
    let environment = Environment::empty();
    // As on a host that is no Debian.
    let nothing = tempfile::tempdir().unwrap();
    start_with_apt(&environment, nothing.path());
    environment.succeed(&["kernel", "pull", "debian"]);
    let kernel = environment.run(&["kernel", "show", "debian", "--json"]).json();
    assert!(kernel["release"].as_str().unwrap().ends_with("-cloud-amd64"), "{kernel}");
    environment.succeed(&["image", "pull", "debian"]);
    let image = environment.run(&["image", "show", "debian", "--json"]).json();
    assert_eq!(image["config"]["user"], "dev");
}

#[test]
fn without_debians_keys_nothing_is_believed() {
    let environment = Environment::empty();
    let configuration = environment.data().join(".config/banger");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("config.toml"), "[debian]\nkeyring = \"/nowhere/keys.gpg\"\n").unwrap();
    for noun in ["kernel", "image"] {
        let refused = refuse(&environment, 1, &[noun, "pull", "debian"]);
        assert!(
            refused.contains("/nowhere/keys.gpg") && refused.contains("debian-archive-keyring"),
            "{refused}"
        );
    }
}

#[test]
fn a_mirror_of_this_hosts_that_lacks_a_suite_is_not_all_there_is() {
    let test = "a_mirror_of_this_hosts_that_lacks_a_suite_is_not_all_there_is";
    if !rustix::process::geteuid().is_root() {
        not_run(test, "only root can mount");
        return;
    }
    let environment = Environment::empty();
    let server = FileServer::start(Serving { refusals: vec![404; 100], ..Serving::default() });
    let mirror = server.url("debian");
    let configuration = tempfile::tempdir().unwrap();
    let sources = format!("deb {mirror} bullseye main\ndeb {mirror} bullseye-updates main\n");
    std::fs::write(configuration.path().join("sources.list"), sources).unwrap();
    start_with_apt(&environment, configuration.path());
    let pulled = environment.run(&["kernel", "pull", "debian"]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert!(
        pulled.stderr.contains(&format!("'{mirror}'")) && pulled.stderr.contains("does not have 'bookworm'"),
        "{}",
        pulled.stderr
    );
    assert_eq!(server.paths(), ["debian/dists/bookworm/InRelease"]);
}
