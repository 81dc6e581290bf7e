//! Networks of VMs, and what the host needs for them.

use std::path::PathBuf;

use banger_types::doctor::{Finding, Fix, FixStep};
use banger_types::helper::{HELPER_PREFIX, HelperReadiness};

use crate::check::{HELPER, NAMES, NAT, PASST, PORTS, advice, steps};
use crate::packages::{Package, PackageManager, install};

/// Where sudo reads who may run what.
const SUDOERS: &str = "/etc/sudoers.d/banger";

/// Judges passt, without which VMs have no network where there is no root helper.
pub fn passt(problem: Option<&str>, version: &str, manager: Option<PackageManager>) -> Finding {
    match problem {
        None => PASST.ok(version),
        Some(problem) => PASST.warning(
            format!("{problem}: VMs have no network without root"),
            install(manager, Package::Passt, "passt"),
        ),
    }
}

/// What was seen of the root helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperFacts {
    /// Whether it can be asked.
    pub readiness: HelperReadiness,
    /// The version of banger.
    pub version: String,
    /// The helper that came with banger, of which root's copy is made.
    pub program: PathBuf,
    /// The user's name.
    pub user: String,
}

/// Judges the root helper.
pub fn helper(facts: &HelperFacts) -> Finding {
    let without = "without it, all but VMs' own addresses and jails works";
    match &facts.readiness {
        HelperReadiness::Ready => HELPER.ok("it can be asked"),
        HelperReadiness::NeedsPassword => HELPER.warning(
            format!("sudo wants a password for it, and nobody is there to type it; {without}"),
            put_in_place(facts),
        ),
        HelperReadiness::NotInstalled(why) => {
            HELPER.warning(format!("it is not installed: {why}; {without}"), put_in_place(facts))
        }
        HelperReadiness::WrongVersion(why) => {
            HELPER.warning(format!("it is of another version: {why}; {without}"), put_in_place(facts))
        }
        HelperReadiness::Insecure(why) => HELPER
            .failure(format!("it is not run, for it would be root for others: {why}"), put_in_place(facts)),
    }
}

/// Returns how root's copy of the helper comes to its place, with the line that lets sudo run it for this user.
fn put_in_place(facts: &HelperFacts) -> Fix {
    let helper = format!("{HELPER_PREFIX}{}", facts.version);
    let program = facts.program.to_string_lossy();
    // sudo passes over files with a dot in their names (sudoers(5), "@includedir"), so that what is looked at is not in force yet.
    let checked = format!("{SUDOERS}.new");
    let line = format!("{} ALL=(root) NOPASSWD: {helper}", facts.user);
    steps(
        "put root's copy of it in its place, and let sudo run that",
        [
            FixStep::run_as_root([
                "install", "-D", "-o", "root", "-g", "root", "-m", "755", &program, &helper,
            ]),
            FixStep::Write {
                path: checked.clone().into(),
                content: format!("Defaults!{helper} !use_pty, !pam_session, !pam_setcred\n{line}\n"),
                mode: 0o440,
            },
            FixStep::run_as_root(["visudo", "-c", "-q", "-f", &checked]),
            FixStep::run_as_root(["mv", "-T", &checked, SUDOERS]),
        ],
    )
}

/// What became of giving a VM that there is not a place in the user's network, and taking it away again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatFacts {
    /// The helper cannot be asked.
    NotReady,
    /// It was made and taken away; this is what the helper had to say: what of other firewalls' stands in its way.
    Made(Vec<String>),
    /// It could not be made.
    Failed(String),
    /// It could not be taken away.
    Left(String),
}

/// Judges networks of VMs' own addresses.
pub fn nat(facts: &NatFacts) -> Finding {
    match facts {
        NatFacts::NotReady => NAT.skipped("the root helper cannot be asked"),
        NatFacts::Made(warnings) if warnings.is_empty() => {
            NAT.ok("a device and its rules were made and taken away")
        }
        NatFacts::Made(warnings) => NAT.warning(
            format!("a device and its rules were made and taken away, but {}", warnings.join("; ")),
            advice("let that firewall forward what comes from banger's bridges"),
        ),
        NatFacts::Failed(why) => NAT.failure(
            format!("a device and its rules could not be made: {why}"),
            advice("`banger config set vm.network user` lets new VMs do without meanwhile"),
        ),
        NatFacts::Left(why) => NAT.failure(
            format!("a device and its rules were made, and could not be taken away: {why}"),
            advice("`banger daemon restart` tries again"),
        ),
    }
}

/// What was seen of the host's name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesFacts {
    /// Those that guests' questions go to.
    pub servers: Vec<String>,
    /// Whether one of them answered a question.
    pub answers: bool,
}

/// Judges name resolution.
pub fn names(facts: &NamesFacts) -> Finding {
    let servers = facts.servers.join(", ");
    if facts.servers.is_empty() {
        return NAMES.warning(
            "the host names no name server, so that guests find nobody by name",
            advice("see /etc/resolv.conf"),
        );
    }
    if !facts.answers {
        return NAMES.warning(
            format!("no name server answers ({servers}): guests find nobody by name"),
            advice("see whether this host is connected, and /etc/resolv.conf"),
        );
    }
    NAMES.ok(format!("guests' questions go to {servers}"))
}

/// What was seen of a port that a forward wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// Where, as `127.0.0.1:8080`.
    pub listen: String,
    /// Who wants it: a VM, or every new one.
    pub wanted_by: String,
    /// Why it cannot be had.
    pub problem: String,
}

/// Judges ports of forwards; `looked` is how many were looked at.
pub fn ports(taken: &[PortFacts], looked: usize) -> Finding {
    match (taken, looked) {
        ([], 0) => PORTS.ok("no forward wants one"),
        ([], looked) => PORTS.ok(format!("{looked} are wanted, and can be had")),
        (taken, _) => {
            let told = |port: &PortFacts| {
                format!("{} for {} cannot be had: {}", port.listen, port.wanted_by, port.problem)
            };
            PORTS.warning(
                taken.iter().map(told).collect::<Vec<_>>().join("; "),
                advice("end what has them, or `banger vm forward rm` and `add` another"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use banger_types::doctor::Severity;

    use super::*;

    fn facts(readiness: HelperReadiness) -> HelperFacts {
        HelperFacts {
            readiness,
            version: "1.2.3".to_owned(),
            program: "/usr/lib/banger/banger-helper".into(),
            user: "me".to_owned(),
        }
    }

    #[test]
    fn the_helper_is_put_in_its_place_and_sudo_is_never_broken_by_it() {
        assert_eq!(helper(&facts(HelperReadiness::Ready)).severity, Severity::Ok);
        for readiness in [
            HelperReadiness::NeedsPassword,
            HelperReadiness::NotInstalled("there is no sudo".to_owned()),
            HelperReadiness::WrongVersion("1.2.2".to_owned()),
        ] {
            assert_eq!(helper(&facts(readiness)).severity, Severity::Warning);
        }
        let found = helper(&facts(HelperReadiness::Insecure("others can write it".to_owned())));
        assert_eq!(found.severity, Severity::Failure);
        let shown: Vec<_> = found.fix.unwrap().steps.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "sudo install -D -o root -g root -m 755 /usr/lib/banger/banger-helper /usr/libexec/banger/banger-helper-1.2.3",
                "sudo install -m 440 /dev/stdin /etc/sudoers.d/banger.new <<'END'\n\
                 Defaults!/usr/libexec/banger/banger-helper-1.2.3 !use_pty, !pam_session, !pam_setcred\n\
                 me ALL=(root) NOPASSWD: /usr/libexec/banger/banger-helper-1.2.3\nEND",
                "sudo visudo -c -q -f /etc/sudoers.d/banger.new",
                "sudo mv -T /etc/sudoers.d/banger.new /etc/sudoers.d/banger",
            ]
        );
    }

    #[test]
    fn a_network_of_its_own_is_tried() {
        assert_eq!(nat(&NatFacts::NotReady).severity, Severity::Skipped);
        assert_eq!(nat(&NatFacts::Made(Vec::new())).severity, Severity::Ok);
        let found = nat(&NatFacts::Made(vec!["a chain of 'ufw' drops it".to_owned()]));
        assert!(found.severity == Severity::Warning && found.detail.contains("ufw"), "{}", found.detail);
        assert_eq!(nat(&NatFacts::Failed("no".to_owned())).severity, Severity::Failure);
        assert_eq!(nat(&NatFacts::Left("no".to_owned())).severity, Severity::Failure);
    }

    #[test]
    fn names_and_ports() {
        let of = |servers: &[&str], answers| {
            names(&NamesFacts { servers: servers.iter().map(|it| (*it).to_owned()).collect(), answers })
                .severity
        };
        assert_eq!(of(&["1.1.1.1"], true), Severity::Ok);
        assert_eq!(of(&["1.1.1.1"], false), Severity::Warning);
        assert_eq!(of(&[], false), Severity::Warning);
        assert_eq!(ports(&[], 3).detail, "3 are wanted, and can be had");
        let taken = PortFacts {
            listen: "127.0.0.1:80".to_owned(),
            wanted_by: "'web'".to_owned(),
            problem: "nginx has it".to_owned(),
        };
        assert_eq!(ports(&[taken], 3).detail, "127.0.0.1:80 for 'web' cannot be had: nginx has it");
        assert_eq!(passt(None, "passt 0.0", None).severity, Severity::Ok);
        let missing = passt(Some("it is not installed"), "", Some(PackageManager::Apt));
        assert_eq!(missing.fix.unwrap().steps.len(), 1);
    }
}
