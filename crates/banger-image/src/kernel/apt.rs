//! Fetching a package with apt, without root and without touching the host's apt.
//!
//! apt gets directories of its own: lists, cache, an empty package database, one sources.list. The
//! host's configuration still counts (apt.conf(5): `APT_CONFIG` is read first, then
//! `apt.conf.d`, then `Dir::Etc::main`), for it may name a proxy; only its hooks are cleared,
//! as those work on the host's own state: docker-clean's would empty the host's cache.

use std::path::{Path, PathBuf};

use banger_core::command::{Commands, HostCommand};
use banger_core::work::Work;
use banger_types::source::Suite;
use fs_err as fs;

use super::{KernelError, METAPACKAGE, program, run, text};
use crate::source::debian::{self, DebianMirror};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const HOST_CONFIGURATION: &str = "/etc/apt/apt.conf";

/// A package that was fetched; apt has verified it.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) version: String,
    pub(super) path: PathBuf,
}

/// Fetches the package that [`METAPACKAGE`] depends on into `scratch`.
pub(super) fn fetch(
    suite: &Suite,
    mirror: &DebianMirror,
    scratch: &Path,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<Package, KernelError> {
    if !Path::new(KEYRING).exists() {
        return Err(KernelError::NoKeyring(KEYRING.into()));
    }
    let apt = Apt::prepare(suite, mirror, scratch)?;
    work.stage("kernel: read the package lists");
    let update = apt.command("apt-get", commands)?.argument("update");
    run(commands, &update, "read the package lists", work)?;
    work.check()?;
    let show = apt.command("apt-cache", commands)?;
    let show = show.arguments(["show", "--no-all-versions", METAPACKAGE]);
    let shown = run(commands, &show, "find the newest kernel", work)?;
    let problem = |problem: String| KernelError::Package { suite: suite.to_string(), problem };
    let (name, version) = dependency(&String::from_utf8_lossy(&shown))
        .ok_or_else(|| problem(format!("'{METAPACKAGE}' depends on no kernel")))?;
    work.stage("kernel: fetch the package");
    work.log(&format!("{name} {version}"));
    let download = apt.command("apt-get", commands)?;
    let download = download.argument("download").argument(format!("{name}={version}"));
    run(commands, &download.directory(&apt.download), "fetch the kernel's package", work)?;
    let mut files = fs::read_dir(&apt.download).map_err(KernelError::io("look for the package"))?;
    let file = files.next().ok_or_else(|| problem("apt fetched nothing".to_owned()))?;
    let path = file.map_err(KernelError::io("look for the package"))?.path();
    Ok(Package { version, path })
}

struct Apt {
    configuration: PathBuf,
    download: PathBuf,
}

impl Apt {
    fn prepare(suite: &Suite, mirror: &DebianMirror, scratch: &Path) -> Result<Self, KernelError> {
        let root = scratch.join("apt");
        let root_text = text(&root)?;
        let prepare = || -> std::io::Result<()> {
            for directory in ["state/lists/partial", "cache/archives/partial", "download", "log"] {
                fs::create_dir_all(root.join(directory))?;
            }
            fs::write(root.join("status"), "")?;
            let options = format!("[arch=amd64 lang=none target=Packages signed-by={KEYRING}]");
            let line = |source: String| format!("deb {options} {source}\n");
            let sources: String = debian::sources(suite, mirror).into_iter().map(line).collect();
            fs::write(root.join("sources.list"), sources)?;
            let host = Path::new(HOST_CONFIGURATION).exists();
            fs::write(root.join("main.conf"), main_configuration(&root_text, host))?;
            fs::write(root.join("first.conf"), format!("Dir::Etc::main \"{root_text}/main.conf\";\n"))
        };
        prepare().map_err(KernelError::io("prepare directories for apt"))?;
        Ok(Self { configuration: root.join("first.conf"), download: root.join("download") })
    }

    fn command(&self, name: &'static str, commands: &dyn Commands) -> Result<HostCommand, KernelError> {
        let command = program(name, "apt", commands)?;
        Ok(command
            .argument("-q")
            .variable("APT_CONFIG", text(&self.configuration)?)
            .variable("LC_ALL", "C.UTF-8")
            .variable("DEBIAN_FRONTEND", "noninteractive"))
    }
}

fn main_configuration(root: &str, host_has_one: bool) -> String {
    let include = if host_has_one { format!("#include \"{HOST_CONFIGURATION}\";\n") } else { String::new() };
    format!(
        "{include}\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Pre-Invoke;\n\
         #clear DPkg::Post-Invoke;\n\
         #clear APT::Default-Release;\n\
         APT::Architecture \"amd64\";\n\
         #clear APT::Architectures;\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Dir::State \"{root}/state\";\n\
         Dir::State::lists \"{root}/state/lists\";\n\
         Dir::State::status \"{root}/status\";\n\
         Dir::Cache \"{root}/cache\";\n\
         Dir::Cache::archives \"{root}/cache/archives\";\n\
         Dir::Cache::pkgcache \"{root}/cache/pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"{root}/cache/srcpkgcache.bin\";\n\
         Dir::Etc::sourcelist \"{root}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::Log \"{root}/log\";\n"
    )
}

/// Finds the kernel in the metapackage's `Depends: NAME (= VERSION), …` (Debian Policy 7.1).
fn dependency(shown: &str) -> Option<(String, String)> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    depends.split(',').find_map(|one| {
        let (name, version) = one.trim().split_once(" (= ")?;
        let version = version.strip_suffix(')')?;
        let name: banger_types::source::PackageName = name.parse().ok()?;
        let name = name.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
        let good = name.starts_with("linux-image-") && version.chars().all(plain) && !version.is_empty();
        good.then(|| (name, version.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_behind_its_metapackage() {
        let shown = "Package: linux-image-cloud-amd64\nVersion: 6.1.1-1\n\
                     Depends: linux-base, linux-image-6.1.0-9-cloud-amd64 (= 6.1.1-1)\n";
        let (name, version) = dependency(shown).unwrap();
        assert_eq!((&*name, &*version), ("linux-image-6.1.0-9-cloud-amd64", "6.1.1-1"));
        for odd in ["", "Depends: linux-base (= 1)\n", "Depends: linux-image-x (= 1;rm)\n", "Depends: x\n"] {
            assert_eq!(dependency(odd), None, "{odd}");
        }
    }
}
