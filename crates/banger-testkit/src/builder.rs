//! What builds Dockerfiles: Buildah and Podman, with a store of the test's own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Environment;

/// Their store and configuration, which go with it.
#[derive(Debug)]
pub struct Builder {
    directory: TempDir,
}

impl Builder {
    /// Returns one that has nothing yet. Registries on `insecure` hosts are spoken to without TLS.
    pub fn new(insecure: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("builder-")
            .tempdir_in(crate::seed::scratch())
            .expect("a directory for a builder");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let driver = driver(directory.path());
        let store = format!(
            "[storage]\ndriver = \"{driver}\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            at("run"),
            at("graph")
        );
        std::fs::write(at("storage.conf"), store).expect("configure a store");
        let registry = |host: &&str| format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
        let registries: String = insecure.iter().map(registry).collect();
        std::fs::write(at("registries.conf"), registries).expect("configure registries");
        Self { directory }
    }

    /// Returns the environment, whose Dockerfiles it builds.
    #[must_use]
    pub fn of(&self, environment: Environment) -> Environment {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        environment
            .with_variable("CONTAINERS_STORAGE_CONF", &at("storage.conf"))
            .with_variable("CONTAINERS_REGISTRIES_CONF", &at("registries.conf"))
            .with_variable("BUILDAH_ISOLATION", "chroot")
    }

    /// Starts the daemon of an environment where these programs are not installed. That needs root.
    pub fn start_daemon_without(environment: &Environment, programs: &[&str]) {
        // What cannot be run is looked past.
        let nothing = tempfile::NamedTempFile::new().expect("a file");
        let hide = "nothing=$1; shift; for program; do mount --bind \"$nothing\" \"$(command -v \"$program\")\" || exit; done";
        let programs = programs.iter().map(Path::new);
        environment
            .start_daemon_behind(hide, &[nothing.path()].into_iter().chain(programs).collect::<Vec<_>>());
    }
}

/// Returns how layers are to be stored. `vfs` copies all of an image for each of its Dockerfile's steps, tens of GB for a
/// large one; only where the kernel or the file system knows no better.
fn driver(directory: &Path) -> &'static str {
    let script = "cd \"$1\" && mkdir lower upper work merged \
                  && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged";
    let tried = directory.join("tried");
    std::fs::create_dir(&tried).expect("a directory to mount in");
    let mut mount = Command::new("unshare");
    mount.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(&tried);
    let mounts = mount.output().expect("run unshare").status.success();
    std::fs::remove_dir_all(tried).expect("remove what was mounted in");
    if mounts { "overlay" } else { "vfs" }
}
