//! What is called how in which system's packages.

use banger_types::doctor::FixStep;

/// Something that comes in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// QEMU for this machine's processor.
    Qemu,
    /// passt.
    Passt,
    /// Buildah.
    Buildah,
    /// mmdebstrap, with Debian's keys.
    Mmdebstrap,
    /// `newuidmap` and `newgidmap`.
    Uidmap,
    /// ext4's tools.
    E2fsprogs,
    /// sudo.
    Sudo,
}

/// Who installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian's and Ubuntu's.
    Apt,
    /// Fedora's.
    Dnf,
    /// Arch's.
    Pacman,
    /// openSUSE's.
    Zypper,
}

impl PackageManager {
    /// All of them, each with its program.
    pub const ALL: [(&'static str, Self); 4] =
        [("apt-get", Self::Apt), ("dnf", Self::Dnf), ("pacman", Self::Pacman), ("zypper", Self::Zypper)];

    const fn name(self, package: Package) -> &'static [&'static str] {
        match (package, self) {
            (Package::Qemu, Self::Apt | Self::Pacman) => &["qemu-system-x86"],
            (Package::Qemu, Self::Dnf) => &["qemu-system-x86-core"],
            (Package::Qemu, Self::Zypper) => &["qemu-x86"],
            (Package::Passt, _) => &["passt"],
            (Package::Buildah, _) => &["buildah"],
            (Package::Mmdebstrap, Self::Apt) => &["mmdebstrap", "debian-archive-keyring"],
            (Package::Mmdebstrap, _) => &["mmdebstrap", "debian-keyring"],
            (Package::Uidmap, Self::Apt) => &["uidmap"],
            (Package::Uidmap, Self::Dnf) => &["shadow-utils-subid"],
            (Package::Uidmap, Self::Pacman | Self::Zypper) => &["shadow"],
            (Package::E2fsprogs, _) => &["e2fsprogs"],
            (Package::Sudo, _) => &["sudo"],
        }
    }

    /// Returns the step that installs something.
    pub fn install(self, package: Package) -> FixStep {
        let begin: &[&str] = match self {
            Self::Apt => &["apt-get", "install", "--yes", "--no-install-recommends"],
            Self::Dnf => &["dnf", "install", "--assumeyes"],
            Self::Pacman => &["pacman", "-S", "--noconfirm", "--needed"],
            Self::Zypper => &["zypper", "--non-interactive", "install"],
        };
        let command = begin.iter().chain(self.name(package)).map(|word| (*word).to_owned()).collect();
        FixStep::Run { command, as_root: true }
    }
}

/// Returns what is to be done about something that is not installed, as far as this host's packages are known.
pub(crate) fn install(
    manager: Option<PackageManager>,
    package: Package,
    program: &str,
) -> banger_types::doctor::Fix {
    match manager {
        Some(manager) => {
            let step = manager.install(package);
            crate::check::steps(format!("`{step}`"), [step])
        }
        None => crate::check::advice(format!("install {program}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_as_each_system_does() {
        assert_eq!(
            PackageManager::Apt.install(Package::Qemu).to_string(),
            "sudo apt-get install --yes --no-install-recommends qemu-system-x86"
        );
        assert_eq!(
            PackageManager::Pacman.install(Package::Passt).to_string(),
            "sudo pacman -S --noconfirm --needed passt"
        );
        assert_eq!(install(None, Package::Passt, "passt").advice, "install passt");
    }
}
