//! Debian packages that banger and its tests need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::{root, run};

/// What a machine needs to build banger and to run VMs.
const TO_RUN: &[&str] = &[
    "gcc",
    "libc6-dev",
    "qemu-system-x86",
    "passt",
    "mmdebstrap",
    "uidmap",
    "e2fsprogs",
    "kmod",
    "debian-archive-keyring",
];

/// What the tests need beside that: peers to compare with, and clients to be compared by.
const TO_TEST: &[&str] = &[
    "busybox-static",
    "openssh-client",
    "rsync",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "nftables",
    // What the kernel remembers of connections.
    "conntrack",
    // A resolver and name servers, each beside the host's own.
    "dnsmasq-base",
    // A firewall of other people's, off until somebody turns it on.
    "ufw",
    "strace",
    "util-linux",
    "fish",
    "zsh",
    // Real images, and the tools and the registry that everybody has them from.
    "skopeo",
    "umoci",
    "buildah",
    "podman",
    "docker-registry",
    "openssl",
    "xz-utils",
    "zstd",
    // Root file systems that people bring along.
    "squashfs-tools",
    "erofs-utils",
    "fdisk",
    // What asks the API for everything, comes from PyPI.
    "python3-venv",
    // The web console's browser, and what drives it.
    "chromium",
    "chromium-driver",
];

/// What the web console's pages are judged with comes from npm. People have that from elsewhere, too.
const NPM: &str = "npm";

/// Firewalls of other people's that begin their work on the host as they are installed: only for hosts where nothing is begun, as in a
/// container. The tests run them in namespaces of their own, and say where they have none.
const TO_TEST_IN_A_CONTAINER: &[&str] = &["docker.io", "firewalld"];
/// There where systemd runs (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// What fuzzing needs beside what is needed to build: libFuzzer is written in C++.
const TO_FUZZ: &[&str] = &["g++"];

/// Installs what is missing to build banger and run VMs.
pub(crate) fn install_to_run() -> Result<()> {
    install(&missing(TO_RUN)?)
}

/// Installs what is missing to test banger.
pub(crate) fn install_to_test() -> Result<()> {
    let more = if Path::new(SYSTEMD).exists() { &[] } else { TO_TEST_IN_A_CONTAINER };
    let npm: &[_] = if has_npm() { &[] } else { &[NPM] };
    install(&missing(&[TO_RUN, TO_TEST, more, npm].concat())?)
}

/// Returns whether npm is there, wherever it is from.
pub(crate) fn has_npm() -> bool {
    Command::new(NPM).arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// The tool that tests the API against its description, and its version.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Installs it beneath `directory`, if it is not there, and returns the program.
pub(crate) fn install_schemathesis(directory: &Path) -> Result<PathBuf> {
    let environment = directory.join(SCHEMATHESIS.replace("==", "-"));
    let program = environment.join("bin/schemathesis");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]))?;
    }
    Ok(program)
}

/// Packages of npm's, which a folder of the checkout names, each with its digest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NpmPackages {
    /// That folder.
    named_in: &'static str,
    /// Where they are put, in the directory of everything that is built.
    folder: &'static str,
}

/// What the web console's pages are judged with.
pub(crate) const JUDGES: NpmPackages =
    NpmPackages { named_in: "crates/bangerd/tests/browser/npm", folder: "browser-npm" };
/// What the web console's terminal is made with.
pub(crate) const TERMINAL: NpmPackages =
    NpmPackages { named_in: "crates/banger-console/npm", folder: "console-npm" };

impl NpmPackages {
    /// Installs them beneath `directory`, if they are not there as the lock file says, and returns the folder.
    pub(crate) fn install(self, directory: &Path) -> Result<PathBuf> {
        let (from, folder) = (root().join(self.named_in), directory.join(self.folder));
        let lock = "package-lock.json";
        let is_same = || Some(std::fs::read(from.join(lock)).ok()? == std::fs::read(folder.join(lock)).ok()?);
        // What npm writes as the last thing.
        if is_same() != Some(true) || !folder.join("node_modules/.package-lock.json").exists() {
            std::fs::create_dir_all(&folder)?;
            for file in ["package.json", lock] {
                std::fs::copy(from.join(file), folder.join(file))?;
            }
            let mut install = Command::new(NPM);
            run(install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder))?;
        }
        Ok(folder)
    }
}

/// Installs what is missing to fuzz banger.
pub(crate) fn install_to_fuzz() -> Result<()> {
    install(&missing(&[TO_RUN, TO_FUZZ].concat())?)
}

fn missing(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Abbrev} ${Package}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output();
    let Ok(query) = query else {
        bail!(
            "this is no Debian-like system (dpkg-query is not there): install {} yourself",
            wanted.join(", ")
        );
    };
    let listed = String::from_utf8_lossy(&query.stdout).into_owned();
    let is_installed = |name: &str| listed.lines().any(|line| line.strip_prefix("ii  ") == Some(name));
    Ok(wanted.iter().copied().filter(|name| !is_installed(name)).collect())
}

fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing and will be installed: {}", missing.join(" "));
    let mut update = as_root("apt-get")?;
    run(update.args(["-qq", "update"]))?;
    let mut install = as_root("apt-get")?;
    run(install.args(["-qq", "-y", "--no-install-recommends", "install"]).args(missing).stdout(Stdio::null()))
}

/// Returns a command that runs as root: through sudo where we are not.
fn as_root(program: &str) -> Result<Command> {
    let id = Command::new("id").arg("-u").output()?;
    let mut command = if id.stdout.trim_ascii() == b"0" {
        Command::new("env")
    } else {
        if Command::new("sudo").arg("--version").stdout(Stdio::null()).status().is_err() {
            bail!(
                "only root can install packages, and sudo is not there: ask whoever administers this machine"
            );
        }
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    };
    // Where init scripts begin services (invoke-rc.d(8)), none begins in this run level.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]).arg(program);
    Ok(command)
}
