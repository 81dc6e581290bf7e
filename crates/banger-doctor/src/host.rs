//! The machine itself and its kernel.

use banger_types::doctor::{Finding, FixStep};
use banger_types::size::binary_bytes;

use crate::check::{CLOCK, KVM, LOGOUT, MEMORY, NAMESPACES, advice, steps};

/// What was seen of KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmFacts {
    /// The device.
    pub device: KvmDevice,
    /// The module of this processor's maker, if it can virtualise: `kvm_amd` or `kvm_intel` (`svm` or `vmx` of `/proc/cpuinfo`).
    pub module: Option<&'static str>,
    /// Whether this machine is a guest itself (`hypervisor` of `/proc/cpuinfo`).
    pub is_guest: bool,
    /// Whether its KVM is PVM, which runs kernels that were made for it alone (`/sys/module/kvm_pvm`).
    pub is_pvm: bool,
    /// What became of a kernel that was booted by it.
    pub probe: KvmProbe,
}

/// The device `/dev/kvm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmDevice {
    /// Somebody wants it to be left alone, by this variable.
    SwitchedOff(String),
    /// It is not there.
    Missing,
    /// The user may not open it.
    Denied {
        /// The group whose members may, if there is one.
        group: Option<String>,
        /// Whether the user has become a member of that since the login.
        is_member_at_next_login: bool,
        /// The user's name.
        user: String,
    },
    /// It cannot be opened for another reason.
    Broken(String),
    /// It can be opened.
    Opens,
}

/// What became of a kernel that was booted by KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmProbe {
    /// It boots.
    Boots,
    /// It does not, and this is what it did, as a clause.
    Fails(String),
    /// Nobody could try, as a clause.
    Untried(String),
}

/// Judges KVM. Without it VMs are emulated: slow, and no failure.
pub fn kvm(facts: &KvmFacts) -> Finding {
    let slow = "VMs are emulated, about ten times slower";
    match &facts.device {
        KvmDevice::SwitchedOff(variable) => KVM.warning(
            format!("it is switched off by {variable}: {slow}"),
            advice(format!("unset {variable}, then `banger daemon restart`")),
        ),
        KvmDevice::Missing => missing(facts, slow),
        KvmDevice::Denied { is_member_at_next_login: true, group, .. } => KVM.warning(
            format!(
                "you may not open /dev/kvm yet: you are in the group '{}' since your last login: {slow}",
                group.as_deref().unwrap_or("kvm")
            ),
            advice("log in anew, then `banger daemon restart`"),
        ),
        KvmDevice::Denied { group: Some(group), user, .. } => KVM.warning(
            format!("you may not open /dev/kvm, which is the group's '{group}': {slow}"),
            steps(
                format!("`sudo usermod -aG {group} {user}`, log in anew, then `banger daemon restart`"),
                [FixStep::run_as_root(["usermod", "-aG", group, user])],
            ),
        ),
        KvmDevice::Denied { group: None, .. } => KVM.warning(
            format!("you may not open /dev/kvm, and no group may: {slow}"),
            advice("let root give it to a group that you are in"),
        ),
        KvmDevice::Broken(why) => KVM.warning(format!("/dev/kvm cannot be opened: {why}: {slow}"), None),
        KvmDevice::Opens => match &facts.probe {
            KvmProbe::Boots => KVM.ok("a Linux kernel boots by it"),
            KvmProbe::Untried(why) => KVM.skipped(format!("/dev/kvm opens; no kernel was booted by it: {why}")),
            KvmProbe::Fails(what) => KVM.warning(
                format!("/dev/kvm opens, and no kernel boots by it: {what}{}: {slow}", because(facts)),
                advice("where this machine is a guest, its host has to let guests virtualise (nested virtualisation); `BANGER_NO_KVM=1` leaves KVM alone"),
            ),
        },
    }
}

fn because(facts: &KvmFacts) -> &'static str {
    if facts.is_pvm {
        " (this KVM is PVM, which runs kernels that were made for it alone)"
    } else if facts.is_guest {
        " (this machine is a guest itself)"
    } else {
        ""
    }
}

fn missing(facts: &KvmFacts, slow: &str) -> Finding {
    match (facts.module, facts.is_guest) {
        (Some(module), _) => KVM.warning(
            format!("/dev/kvm is not there, although the processor can: {slow}"),
            steps(
                format!("`sudo modprobe {module}`; if that fails, switch virtualisation on in the firmware"),
                [FixStep::run_as_root(["modprobe", module])],
            ),
        ),
        (None, true) => KVM.warning(
            format!("this machine is a guest itself, whose host lets it not virtualise: {slow}"),
            advice("switch nested virtualisation on in its host"),
        ),
        (None, false) => KVM.warning(
            format!("the processor does not virtualise, or the firmware has switched it off: {slow}"),
            advice("switch virtualisation on in the firmware (called VT-x, AMD-V or SVM)"),
        ),
    }
}

/// What was seen of user namespaces, which guests' confinement and images from Debian's packages need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// What became of making one: nothing, or why it failed.
    pub problem: Option<String>,
    /// Whether AppArmor keeps programs without a profile from it (`kernel.apparmor_restrict_unprivileged_userns`, as Ubuntu has it).
    pub is_restricted_by_apparmor: bool,
    /// How many there may be (`user.max_user_namespaces`).
    pub most: Option<u64>,
    /// Whether Debian's switch is off (`kernel.unprivileged_userns_clone`).
    pub is_switched_off: bool,
}

/// Judges user namespaces.
pub fn user_namespaces(facts: &NamespaceFacts) -> Finding {
    let Some(problem) = &facts.problem else { return NAMESPACES.ok("you can make one") };
    let lost = "networks without root and images from Debian's packages do not work";
    if facts.is_switched_off {
        return NAMESPACES.failure(
            format!("the kernel lets only root make one (kernel.unprivileged_userns_clone is 0): {lost}"),
            setting("kernel.unprivileged_userns_clone", "1"),
        );
    }
    if facts.most == Some(0) {
        return NAMESPACES.failure(
            format!("the kernel lets there be none (user.max_user_namespaces is 0): {lost}"),
            setting("user.max_user_namespaces", "15000"),
        );
    }
    if facts.is_restricted_by_apparmor {
        return NAMESPACES.failure(
            format!("AppArmor keeps you from it (kernel.apparmor_restrict_unprivileged_userns is 1): {lost}"),
            advice(
                "install banger's package, which has a profile for its programs, or \
                 `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
        );
    }
    NAMESPACES.failure(format!("you cannot make one: {problem}: {lost}"), None)
}

/// Returns the steps that set a switch of the kernel's, now and from the next boot on.
fn setting(name: &str, value: &str) -> banger_types::doctor::Fix {
    let assignment = format!("{name}={value}");
    steps(
        format!("`sudo sysctl {assignment}`"),
        [
            FixStep::run_as_root(["sysctl", &assignment]),
            FixStep::Write {
                path: format!("/etc/sysctl.d/60-banger-{}.conf", name.rsplit('.').next().unwrap_or(name))
                    .into(),
                content: format!("{name} = {value}\n"),
                mode: 0o644,
            },
        ],
    )
}

/// The host's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFacts {
    /// What programs could still get; `None` where the kernel does not tell.
    pub available: Option<u64>,
    /// What a new VM may come to take.
    pub of_new_vm: u64,
}

/// Judges memory.
pub fn memory(facts: MemoryFacts) -> Finding {
    let Some(available) = facts.available else {
        return MEMORY.skipped("the kernel does not tell how much is left");
    };
    let (left, wanted) = (binary_bytes(available), binary_bytes(facts.of_new_vm));
    if available < facts.of_new_vm {
        return MEMORY.warning(
            format!("{left} are left, and a new VM may come to take {wanted}"),
            advice("end something, or let new VMs have less: `banger config set vm.memory 1G`"),
        );
    }
    MEMORY.ok(format!("{left} are left; a new VM may come to take {wanted}"))
}

/// The host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockFacts {
    /// What it says, seconds since 1970.
    pub now: i64,
    /// When this banger was built, seconds since 1970: no clock that goes right says less.
    pub built: i64,
    /// Whether somebody keeps it right, as far as the kernel knows (`adjtimex(2)`).
    pub is_synchronised: Option<bool>,
}

/// Longest that a banger is in use, seconds: a clock that says more goes wrong.
const LONGEST_USE: i64 = 20 * 365 * 24 * 3600;

/// Judges the clock: certificates, packages' signatures and guests' clocks hang on it.
pub fn clock(facts: ClockFacts) -> Finding {
    let wrong = |how: &str| {
        CLOCK.failure(
            format!("it goes wrong: {how}; certificates and signatures are refused by it, and guests have it from here"),
            steps("`sudo timedatectl set-ntp true`, or set it with `sudo date -s`", [FixStep::run_as_root(["timedatectl", "set-ntp", "true"])]),
        )
    };
    if facts.now < facts.built {
        return wrong("it says a time before this banger was built");
    }
    if facts.now - facts.built > LONGEST_USE {
        return wrong("it says a time decades after this banger was built");
    }
    match facts.is_synchronised {
        Some(true) => CLOCK.ok("it is kept right"),
        // Nobody does on many hosts that are guests or containers, whose clocks go right all the same.
        _ => CLOCK.ok("it says a time that may be right; nothing is known to keep it so"),
    }
}

/// What happens to VMs when their user logs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutFacts {
    /// Whether the user's processes are ended with the last session: by systemd, which the user has no manager of without one.
    pub has_user_manager: bool,
    /// Whether that goes on without a session (`loginctl enable-linger`).
    pub lingers: bool,
    /// The user's name.
    pub user: String,
}

/// Judges what happens at logout.
pub fn logout(facts: &LogoutFacts) -> Finding {
    match facts {
        LogoutFacts { has_user_manager: false, .. } => {
            LOGOUT.ok("nothing here ends what a user leaves running")
        }
        LogoutFacts { lingers: true, .. } => {
            LOGOUT.ok("they go on, and start with the host if they are to (lingering is on)")
        }
        LogoutFacts { user, .. } => LOGOUT.warning(
            "they end when you log out, and are not started with the host",
            steps(
                format!("`loginctl enable-linger {user}`"),
                [FixStep::run(["loginctl", "enable-linger", user])],
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use banger_types::doctor::Severity;

    use super::*;

    fn facts() -> KvmFacts {
        KvmFacts {
            device: KvmDevice::Opens,
            module: Some("kvm_amd"),
            is_guest: false,
            is_pvm: false,
            probe: KvmProbe::Boots,
        }
    }

    #[test]
    fn kvm_is_good_when_a_kernel_boots_by_it_and_only_then() {
        assert_eq!(kvm(&facts()).severity, Severity::Ok);
        let hangs = KvmFacts { probe: KvmProbe::Fails("it hangs".to_owned()), is_pvm: true, ..facts() };
        let found = kvm(&hangs);
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.detail.contains("it hangs (this KVM is PVM"), "{}", found.detail);
        let nested = kvm(&KvmFacts { is_pvm: false, is_guest: true, ..hangs });
        assert!(nested.detail.contains("it hangs (this machine is a guest itself)"), "{}", nested.detail);
        let untried = KvmFacts { probe: KvmProbe::Untried("there is no kernel yet".to_owned()), ..facts() };
        assert_eq!(kvm(&untried).severity, Severity::Skipped);
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_told_with_what_mends_it() {
        let of = |device| kvm(&KvmFacts { device, ..facts() });
        let missing = of(KvmDevice::Missing);
        assert_eq!(missing.fix.unwrap().steps, [FixStep::run_as_root(["modprobe", "kvm_amd"])]);
        let guest = KvmFacts { device: KvmDevice::Missing, module: None, is_guest: true, ..facts() };
        assert!(kvm(&guest).fix.unwrap().advice.contains("nested"));
        let off = KvmFacts { is_guest: false, ..guest };
        assert!(kvm(&off).fix.unwrap().advice.contains("firmware"));
        let denied = |group: Option<&str>, is_member_at_next_login| KvmDevice::Denied {
            group: group.map(str::to_owned),
            is_member_at_next_login,
            user: "me".to_owned(),
        };
        let not_member = of(denied(Some("kvm"), false)).fix.unwrap();
        assert_eq!(not_member.steps, [FixStep::run_as_root(["usermod", "-aG", "kvm", "me"])]);
        let not_yet = of(denied(Some("kvm"), true));
        assert!(not_yet.fix.unwrap().steps.is_empty(), "there is nothing left to be done but to log in");
        assert_eq!(of(denied(None, false)).severity, Severity::Warning);
        assert!(of(KvmDevice::SwitchedOff("BANGER_NO_KVM".to_owned())).detail.contains("BANGER_NO_KVM"));
    }

    #[test]
    fn what_keeps_one_from_user_namespaces_is_named() {
        let good = NamespaceFacts {
            problem: None,
            is_restricted_by_apparmor: true,
            most: Some(100),
            is_switched_off: false,
        };
        assert_eq!(user_namespaces(&good).severity, Severity::Ok, "a profile may let it");
        let bad = NamespaceFacts { problem: Some("not permitted".to_owned()), ..good };
        let found = user_namespaces(&bad);
        assert_eq!(found.severity, Severity::Failure);
        assert!(found.detail.contains("AppArmor"), "{}", found.detail);
        let none = NamespaceFacts { is_restricted_by_apparmor: false, most: Some(0), ..bad.clone() };
        let fix = user_namespaces(&none).fix.unwrap();
        assert_eq!(fix.steps[0], FixStep::run_as_root(["sysctl", "user.max_user_namespaces=15000"]));
        let off = NamespaceFacts { is_switched_off: true, ..bad.clone() };
        assert!(user_namespaces(&off).detail.contains("unprivileged_userns_clone"));
        let other = NamespaceFacts { is_restricted_by_apparmor: false, ..bad };
        assert!(user_namespaces(&other).detail.contains("not permitted"));
    }

    #[test]
    fn memory_is_enough_for_a_vm_or_not() {
        let of = |available| memory(MemoryFacts { available, of_new_vm: 2 << 30 }).severity;
        assert_eq!(of(Some(3 << 30)), Severity::Ok);
        assert_eq!(of(Some(1 << 30)), Severity::Warning);
        assert_eq!(of(None), Severity::Skipped);
    }

    #[test]
    fn a_clock_before_the_build_goes_wrong() {
        let of = |now| clock(ClockFacts { now, built: 1_780_000_000, is_synchronised: None }).severity;
        assert_eq!(of(1_780_000_001), Severity::Ok);
        assert_eq!(of(1_600_000_000), Severity::Failure);
        assert_eq!(of(4_000_000_000), Severity::Failure);
    }

    #[test]
    fn what_ends_at_logout_is_told() {
        let facts = LogoutFacts { has_user_manager: true, lingers: false, user: "me".to_owned() };
        let found = logout(&facts);
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.fix.unwrap().steps[0].to_string(), "loginctl enable-linger me");
        assert_eq!(logout(&LogoutFacts { lingers: true, ..facts.clone() }).severity, Severity::Ok);
        assert_eq!(logout(&LogoutFacts { has_user_manager: false, ..facts }).severity, Severity::Ok);
    }
}
