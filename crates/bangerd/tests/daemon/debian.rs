//! Debian's archive on a host that knows nothing of it.

use banger_testkit::{Environment, not_run};

use crate::support::refuse;

/// Starts the daemon where apt's configuration is hidden, as on a host that is no Debian.
fn start_without_apt(environment: &Environment) {
    let script = "mount -t tmpfs none /etc/apt && exec banger daemon start";
    let mut start = environment.command("unshare");
    let started = environment.outcome(start.args(["--mount", "--", "sh", "-c", script]));
    assert_eq!(started.code, 0, "{}", started.stderr);
}

#[test]
fn kernels_and_images_of_debians_come_without_apts_sources() {
    if !rustix::process::geteuid().is_root() {
        not_run("kernels_and_images_of_debians_come_without_apts_sources", "only root can mount");
        return;
    }
    let environment = Environment::empty();
    start_without_apt(&environment);
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
