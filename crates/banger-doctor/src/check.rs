//! The checks that there are, and what all findings have in common.

use banger_types::doctor::{Finding, Fix, FixStep, Severity};

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Its name: what one types after `doctor`, and where the documentation has its paragraph.
    pub id: &'static str,
    /// What it looks at.
    pub title: &'static str,
}

pub(crate) const ENGINE: Check = Check { id: "engine", title: "Engines" };
pub(crate) const KVM: Check = Check { id: "kvm", title: "Hardware virtualisation (KVM)" };
pub(crate) const NAMESPACES: Check = Check { id: "user-namespaces", title: "User namespaces" };
pub(crate) const PASST: Check = Check { id: "passt", title: "Network without root (passt)" };
pub(crate) const HELPER: Check = Check { id: "helper", title: "Root helper, by sudo" };
pub(crate) const NAT: Check = Check { id: "nat", title: "Addresses of VMs' own (nat)" };
pub(crate) const NAMES: Check = Check { id: "names", title: "Name resolution" };
pub(crate) const PORTS: Check = Check { id: "ports", title: "Ports for forwards" };
pub(crate) const TOOLS: Check = Check { id: "tools", title: "Tools" };
pub(crate) const DATA: Check = Check { id: "data", title: "Data directory" };
pub(crate) const DATABASE: Check = Check { id: "database", title: "Database" };
pub(crate) const LEFTOVERS: Check = Check { id: "leftovers", title: "Leftovers" };
pub(crate) const MEMORY: Check = Check { id: "memory", title: "Memory" };
pub(crate) const CLOCK: Check = Check { id: "clock", title: "Clock" };
pub(crate) const LOGOUT: Check = Check { id: "logout", title: "VMs after logout" };
pub(crate) const DAEMON: Check = Check { id: "daemon", title: "bangerd" };
pub(crate) const CONSOLE: Check = Check { id: "console", title: "Web console" };
pub(crate) const SOURCES: Check = Check { id: "sources", title: "Mirrors and catalogs" };
pub(crate) const IMAGE: Check = Check { id: "image", title: "Default image" };

/// All of them, in the order in which they are told: what everything else stands on first.
pub const CHECKS: [Check; 19] = [
    DAEMON, ENGINE, KVM, DATA, DATABASE, MEMORY, CLOCK, NAMESPACES, PASST, HELPER, NAT, NAMES, PORTS, TOOLS,
    IMAGE, SOURCES, CONSOLE, LOGOUT, LEFTOVERS,
];

impl Check {
    /// Returns the check of this name.
    pub fn named(id: &str) -> Option<Self> {
        CHECKS.into_iter().find(|check| check.id == id)
    }

    /// It is as it should be.
    pub fn ok(self, detail: impl Into<String>) -> Finding {
        self.finding(Severity::Ok, detail, None)
    }

    /// It could not be looked at, or there is nothing to look at.
    pub fn skipped(self, why: impl Into<String>) -> Finding {
        self.finding(Severity::Skipped, why, None)
    }

    /// Something does not work, or not well.
    pub fn warning(self, detail: impl Into<String>, fix: impl Into<Option<Fix>>) -> Finding {
        self.finding(Severity::Warning, detail, fix.into())
    }

    /// VMs cannot be made, or what they hold is at risk.
    pub fn failure(self, detail: impl Into<String>, fix: impl Into<Option<Fix>>) -> Finding {
        self.finding(Severity::Failure, detail, fix.into())
    }

    fn finding(self, severity: Severity, detail: impl Into<String>, fix: Option<Fix>) -> Finding {
        Finding { id: self.id.to_owned(), severity, title: self.title.to_owned(), detail: detail.into(), fix }
    }
}

/// Returns what somebody has to do by themselves.
pub(crate) fn advice(words: impl Into<String>) -> Fix {
    Fix { advice: words.into(), steps: Vec::new() }
}

/// Returns what needs no thought.
pub(crate) fn steps(words: impl Into<String>, steps: impl IntoIterator<Item = FixStep>) -> Fix {
    Fix { advice: words.into(), steps: steps.into_iter().collect() }
}

/// Returns the worst of several severities; `Ok` of none.
pub(crate) fn worst(severities: impl IntoIterator<Item = Severity>) -> Severity {
    let weight = |severity: &Severity| match severity {
        Severity::Skipped => 0,
        Severity::Ok => 1,
        Severity::Warning => 2,
        Severity::Failure => 3,
    };
    severities.into_iter().max_by_key(weight).unwrap_or(Severity::Ok)
}

/// Puts what several had to say into one finding: as bad as the worst of them, and with what is to be done about all.
pub(crate) fn joined(check: Check, parts: Vec<Finding>) -> Finding {
    let severity = worst(parts.iter().map(|part| part.severity));
    // What is as it should be is not worth a word beside what is not.
    let is_bad = |severity| matches!(severity, Severity::Warning | Severity::Failure);
    let is_told = |part: &&Finding| is_bad(part.severity) == is_bad(severity);
    let detail = parts.iter().filter(is_told).map(|part| part.detail.as_str()).collect::<Vec<_>>().join("; ");
    let fixes: Vec<Fix> = parts.into_iter().filter_map(|part| part.fix).collect();
    let fix = (!fixes.is_empty()).then(|| Fix {
        advice: fixes.iter().map(|fix| fix.advice.as_str()).collect::<Vec<_>>().join("; "),
        steps: fixes.into_iter().flat_map(|fix| fix.steps).collect(),
    });
    check.finding(severity, detail, fix)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_check_has_a_name_of_its_own() {
        let names: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(names.len(), CHECKS.len());
        assert_eq!(Check::named("kvm"), Some(KVM));
        assert_eq!(Check::named("KVM"), None);
    }

    #[test]
    fn several_are_as_bad_as_the_worst_and_tell_of_that() {
        let parts = vec![DATA.ok("40 GiB are free"), DATA.warning("few inodes", advice("make some"))];
        let found = joined(DATA, parts);
        assert_eq!((found.severity, found.detail.as_str()), (Severity::Warning, "few inodes"));
        assert_eq!(found.fix.unwrap().advice, "make some");
        let good = joined(DATA, vec![DATA.ok("one"), DATA.ok("two")]);
        assert_eq!((good.severity, good.detail.as_str()), (Severity::Ok, "one; two"));
    }
}
