//! Root file systems made of Debian's packages, by mmdebstrap(1), streamed into the writer.

mod apt;

use std::io::Read;
use std::path::{Path, PathBuf};

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::Work;
use banger_types::digest::Digest;
use banger_types::image::ImageConfig;
use banger_types::source::{DEBIAN_KEYRING, INSTALL_DEBIAN_KEYRING, PackageName, Suite};
use fs_err as fs;

use super::was_cancelled;
use crate::archive::{self, ArchiveError, Reading};
use crate::rootfs::RootfsWriter;

/// The name of the normal user in the images.
pub const USER: &str = "dev";

/// What a machine to develop on needs, beside Debian's essential packages.
pub const PACKAGES: [&str; 17] = [
    "ca-certificates",
    "curl",
    "dbus",
    "dbus-user-session",
    "git",
    "iproute2",
    "kmod",
    "less",
    "libpam-systemd",
    "openssh-client",
    "passwd",
    "procps",
    "rsync",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tmux",
];

/// Run by mmdebstrap in a shell of the host, with the new root in `$1`. Fixed texts: nothing that a
/// user typed is ever part of one.
const HOOKS: [&str; 4] = [
    // No password: mmdebstrap leaves root's locked, and so is this one's.
    r#"chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 --user-group --groups sudo,adm dev"#,
    r#"printf 'dev ALL=(ALL:ALL) NOPASSWD: ALL\n' > "$1/etc/sudoers.d/dev" && chmod 0440 "$1/etc/sudoers.d/dev""#,
    // Copied from the host by mmdebstrap; a guest gets its own.
    r#"rm -f "$1/etc/hostname" "$1/etc/resolv.conf""#,
    r#"printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$1/etc/hosts""#,
];

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianMirror {
    /// The archive.
    pub archive: String,
    /// The archive of security updates.
    pub security: String,
}

/// How Debian images are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianOptions {
    /// Where packages come from.
    pub mirror: DebianMirror,
    /// The keys that they are verified with.
    pub keyring: PathBuf,
    /// No file is younger than this, in seconds since the epoch: the same packages then give the same
    /// image (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
    pub source_date_epoch: Option<u64>,
}

impl Default for DebianOptions {
    fn default() -> Self {
        Self { mirror: DebianMirror::default(), keyring: DEBIAN_KEYRING.into(), source_date_epoch: None }
    }
}

impl Default for DebianMirror {
    fn default() -> Self {
        Self {
            archive: "http://deb.debian.org/debian".to_owned(),
            security: "http://deb.debian.org/debian-security".to_owned(),
        }
    }
}

impl DebianMirror {
    /// Returns the mirror that this host's own packages come from, if it is a Debian host.
    pub fn of_host() -> Option<Self> {
        apt::mirror(Path::new(apt::DIRECTORY))
    }

    /// Returns where the packages of a suite are, each with the suite's name there: the suite, and its updates where it has
    /// some.
    pub fn distributions(&self, suite: &Suite) -> Vec<(&str, Suite)> {
        let further = |archive, end| Some((archive, format!("{suite}-{end}").parse().ok()?));
        let mut distributions = vec![(&*self.archive, suite.clone())];
        if !matches!(suite.as_str(), "sid" | "unstable" | "experimental" | "rc-buggy") {
            distributions.extend(further(&*self.archive, "updates"));
            distributions.extend(further(&*self.security, "security"));
        }
        distributions
    }
}

/// Why a Debian root file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A program that is needed is not there.
    #[error("the program '{program}' is not installed")]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// Without root, a range of further user ids is needed.
    #[error("the user '{user}' has no range of user ids in {file}")]
    NoIdRange {
        /// The user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// Debian's keys are not there, so that nothing could be verified.
    #[error("there is no '{}' to verify Debian's packages with", .0.display())]
    NoKeyring(PathBuf),
    /// mmdebstrap ended well without an archive.
    #[error("mmdebstrap gave no archive")]
    NoArchive,
    /// mmdebstrap failed, or its output could not be used.
    #[error("mmdebstrap did not make it")]
    Command(#[from] CommandError),
}

impl DebianError {
    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Command(error) if was_cancelled(error))
    }

    /// Returns what a person can do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Missing { package, .. } => Some(crate::install(package)),
            Self::NoIdRange { user, .. } => {
                Some(format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"))
            }
            Self::NoKeyring(_) => Some(INSTALL_DEBIAN_KEYRING.to_owned()),
            Self::Command(_) | Self::NoArchive => None,
        }
    }
}

/// Returns how programs of these images want to run: as a normal user, who may use sudo.
pub(super) fn config() -> ImageConfig {
    ImageConfig {
        user: USER.to_owned(),
        environment: vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "LANG=C.UTF-8".to_owned(),
        ],
        ..ImageConfig::default()
    }
}

/// Runs mmdebstrap and streams its archive into `writer`. Returns the archive's digest.
pub(super) fn read(
    suite: &Suite,
    packages: &[PackageName],
    options: &DebianOptions,
    writer: &mut dyn RootfsWriter,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<Digest, DebianError> {
    let root = rustix::process::geteuid().is_root();
    check_host(root, commands)?;
    let mut command = command(root, suite, packages, options)?;
    for (scheme, proxy) in proxies(commands, work)? {
        command = command.variable(format!("{scheme}_proxy"), proxy);
    }
    work.stage("image: install Debian packages");
    let mut digest = None;
    let mut consume = |reader: &mut dyn Read| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // The archive begins once everything is installed.
        let mut first = [0; 1];
        let got = reader.read(&mut first)?;
        work.stage("image: write the file system");
        let summary = archive::read_unpacked(first[..got].chain(reader), &Reading::default(), writer, work)?;
        digest = summary.digest;
        Ok(())
    };
    let outcome = commands.stream(&command, work, &mut consume);
    outcome.map_err(|error| match error {
        CommandError::Consumer { source, .. }
            if matches!(source.downcast_ref(), Some(ArchiveError::Cancelled(_))) =>
        {
            CommandError::Cancelled(banger_core::work::Cancelled)
        }
        other => other,
    })?;
    digest.ok_or(DebianError::NoArchive)
}

fn check_host(root: bool, commands: &dyn Commands) -> Result<(), DebianError> {
    let needed: &[(&'static str, &'static str)] = if root {
        &[("mmdebstrap", "mmdebstrap")]
    } else {
        &[("mmdebstrap", "mmdebstrap"), ("newuidmap", "uidmap"), ("newgidmap", "uidmap")]
    };
    for &(program, package) in needed {
        if commands.find(program).is_none() {
            return Err(DebianError::Missing { program, package });
        }
    }
    if !root {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        for file in ["/etc/subuid", "/etc/subgid"] {
            let ranges = fs::read_to_string(file).unwrap_or_default();
            id_range(&passwd, &ranges, uid).map_err(|user| DebianError::NoIdRange { user, file })?;
        }
    }
    Ok(())
}

/// Looks for the user's range in a file as subuid(5), where the user stands by name or number.
/// Fails with the user's name.
fn id_range(passwd: &str, ranges: &str, uid: u32) -> Result<(), String> {
    let number = uid.to_string();
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let name = users.find(|fields| fields.get(2) == Some(&&*number)).map(|fields| fields[0].to_owned());
    let mut owners = ranges.lines().filter_map(|line| line.split(':').next());
    if owners.any(|owner| owner == number || Some(owner) == name.as_deref()) {
        Ok(())
    } else {
        Err(name.unwrap_or(number))
    }
}

fn command(
    root: bool,
    suite: &Suite,
    packages: &[PackageName],
    options: &DebianOptions,
) -> Result<HostCommand, DebianError> {
    let include: Vec<&str> = PACKAGES.into_iter().chain(packages.iter().map(PackageName::as_str)).collect();
    let distributions = options.mirror.distributions(suite);
    let mut command = HostCommand::new("mmdebstrap")
        .argument("--variant=minbase")
        .argument("--format=tar")
        .argument(if root { "--mode=root" } else { "--mode=unshare" })
        .argument(format!("--include={}", include.join(",")))
        .argument(format!("--keyring={}", keyring(&options.keyring)?))
        .arguments(HOOKS.map(|hook| format!("--customize-hook={hook}")))
        .argument(suite.as_str())
        .argument("-")
        .arguments(distributions.iter().map(|(archive, suite)| format!("deb {archive} {suite} main")))
        .variable("LC_ALL", "C.UTF-8");
    if let Some(epoch) = options.source_date_epoch {
        command = command.variable("SOURCE_DATE_EPOCH", epoch.to_string());
    }
    Ok(command)
}

/// Returns the keyring as mmdebstrap takes it. Fails if it is not there: without it nothing could be verified, and apt says so
/// in many words.
fn keyring(path: &Path) -> Result<&str, DebianError> {
    let text = path.to_str().filter(|_| path.is_file());
    text.ok_or_else(|| DebianError::NoKeyring(path.to_owned()))
}

/// Returns the host's proxies for apt as variables. mmdebstrap has a configuration of its own for
/// apt, which would end up in the image; variables don't.
pub fn proxies(commands: &dyn Commands, work: &dyn Work) -> Result<Vec<(String, String)>, DebianError> {
    let command = HostCommand::new("apt-config").arguments(["dump", "--format", "%f %v%n", "Acquire"]);
    let output = match commands.run(&command, work) {
        Ok(output) => output,
        // mmdebstrap brings apt along, so this says something; but what, it says itself, later.
        Err(CommandError::Cancelled(cancelled)) => return Err(CommandError::from(cancelled).into()),
        Err(_) => return Ok(Vec::new()),
    };
    Ok(parse_proxies(&String::from_utf8_lossy(&output)))
}

fn parse_proxies(output: &str) -> Vec<(String, String)> {
    let value = |option| output.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' '));
    let set = |option| value(option).filter(|value| !value.is_empty());
    let http = set("Acquire::http::Proxy");
    // Where nothing is said of HTTPS, it is as with HTTP (apt-transport-https(1)).
    let https = set("Acquire::https::Proxy").or(http);
    let proxies = [("http", http), ("https", https)];
    let proxies = proxies.into_iter().filter_map(|(scheme, proxy)| Some((scheme, proxy?)));
    let proxies = proxies.filter(|(_, proxy)| *proxy != "DIRECT");
    proxies.map(|(scheme, proxy)| (scheme.to_owned(), proxy.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_user_typed_gets_near_a_shell() {
        let suite: Suite = "bookworm".parse().unwrap();
        let packages = ["g++".parse().unwrap()];
        let keyring = tempfile::NamedTempFile::new().unwrap();
        let options = DebianOptions { keyring: keyring.path().to_owned(), ..DebianOptions::default() };
        let command = command(false, &suite, &packages, &options).unwrap();
        let hooks: Vec<_> = command.arguments.iter().filter(|a| a.contains("hook")).collect();
        assert_eq!(hooks.len(), HOOKS.len());
        assert!(hooks.iter().all(|hook| !hook.contains("g++") && !hook.contains("bookworm")));
        assert!(command.arguments.contains(&"--mode=unshare".to_owned()));
        assert!(command.arguments.iter().any(|a| a.starts_with("--include=") && a.ends_with(",g++")));
        assert!(
            command
                .arguments
                .ends_with(&["deb http://deb.debian.org/debian-security bookworm-security main".to_owned()])
        );
    }

    #[test]
    fn a_missing_range_of_ids_names_the_user() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(id_range(passwd, "me:100000:65536\n", 1000), Ok(()));
        assert_eq!(id_range(passwd, "1000:100000:65536\n", 1000), Ok(()));
        assert_eq!(id_range(passwd, "metoo:100000:65536\n", 1000), Err("me".to_owned()));
        assert_eq!(id_range("", "", 7), Err("7".to_owned()));
        let error = DebianError::NoIdRange { user: "me".to_owned(), file: "/etc/subuid" };
        assert!(error.fix().unwrap().ends_with(" me"));
    }

    #[test]
    fn proxies_of_the_host_become_variables() {
        let dump = "Acquire \nAcquire::http \nAcquire::http::Proxy http://10.0.0.1:3142\nAcquire::https::Proxy DIRECT\n";
        let proxies = |schemes: &[&str]| -> Vec<_> {
            schemes.iter().map(|scheme| ((*scheme).to_owned(), "http://10.0.0.1:3142".to_owned())).collect()
        };
        assert_eq!(parse_proxies(dump), proxies(&["http"]));
        let (http, _) = dump.split_once("Acquire::https").unwrap();
        assert_eq!(parse_proxies(http), proxies(&["http", "https"]));
        assert_eq!(parse_proxies("Acquire \nAcquire::http::Proxy \n"), []);
    }
}
