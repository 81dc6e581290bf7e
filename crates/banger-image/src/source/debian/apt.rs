//! What this host's apt is told: where packages come from, and by which proxies. On hosts without apt nothing is.

use std::path::Path;

use deb822_fast::Deb822;
use fs_err as fs;

use super::DebianMirror;

/// Where apt has its configuration.
pub(super) const DIRECTORY: &str = "/etc/apt";

/// Packages come from here (sources.list(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    address: String,
    suite: String,
}

/// Returns the mirror of Debian's archive that apt uses, if it does. `directory` is [`DIRECTORY`].
pub(super) fn mirror(directory: &Path) -> Option<DebianMirror> {
    let entries = entries(directory);
    let archive = entries.iter().find(|entry| !entry.is_security() && entry.is_debians(&entries))?;
    let security = entries.iter().find(|entry| entry.is_security() && entry.is_debians(&entries));
    let standard = DebianMirror::default();
    Some(DebianMirror {
        archive: archive.address.clone(),
        security: security.map_or(standard.security, |security| security.address.clone()),
    })
}

impl Entry {
    fn is_security(&self) -> bool {
        self.suite.ends_with("-security") || self.suite.ends_with("/updates")
    }

    /// Whether it is Debian's own archive, and not one of somebody who has packages for Debian: those have no updates beside
    /// their packages. What is taken for Debian's and is not has no signature of Debian's.
    fn is_debians(&self, entries: &[Self]) -> bool {
        let address = self.address.split_once("://").map_or("", |(_, rest)| rest);
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        // There are others on Debian's own hosts, too: of debugging symbols, of days and releases gone by.
        let is_official = host == "debian.org" || host.ends_with(".debian.org");
        let is_official = is_official && host != "archive.debian.org" && path == "debian";
        let has_updates = |other: &Self| other.address == self.address && other.suite.ends_with("-updates");
        is_official
            || self.is_security() && address.contains("debian")
            // Ubuntu's has them, too.
            || address.ends_with("/debian") && entries.iter().any(has_updates)
    }
}

/// Returns all entries that are enabled, of components named `main`, and can be had over HTTP.
fn entries(directory: &Path) -> Vec<Entry> {
    let mut files = vec![directory.join("sources.list")];
    let parts = fs::read_dir(directory.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<_> = parts.map(|part| part.path()).collect();
    parts.sort();
    files.append(&mut parts);
    let mut entries = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => entries.extend(stanzas(&text)),
            Some("list") => entries.extend(text.lines().filter_map(line)),
            _ => {}
        }
    }
    entries.retain(|entry| entry.address.starts_with("http://") || entry.address.starts_with("https://"));
    entries
}

/// Reads the one-line format: `deb [OPTIONS] ADDRESS SUITE COMPONENT…`.
fn line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let mut words = rest.split_ascii_whitespace();
    let (address, suite) = (words.next()?, words.next()?);
    words.any(|component| component == "main").then(|| entry(address, suite))
}

/// Reads the format of `.sources`.
fn stanzas(text: &str) -> Vec<Entry> {
    let Ok(stanzas) = text.parse::<Deb822>() else { return Vec::new() };
    let mut entries = Vec::new();
    for stanza in stanzas.iter() {
        let words = |field| stanza.get(field).unwrap_or_default().split_ascii_whitespace();
        let is_off = stanza.get("Enabled").is_some_and(|enabled| enabled.trim().eq_ignore_ascii_case("no"));
        let is_meant = words("Types").any(|kind| kind == "deb") && words("Components").any(|it| it == "main");
        if is_off || !is_meant {
            continue;
        }
        for address in words("URIs") {
            entries.extend(words("Suites").map(|suite| entry(address, suite)));
        }
    }
    entries
}

fn entry(address: &str, suite: &str) -> Entry {
    Entry { address: address.trim_end_matches('/').to_owned(), suite: suite.trim_end_matches('/').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Option<DebianMirror> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        mirror(directory.path())
    }

    fn mirrors(archive: &str, security: &str) -> DebianMirror {
        DebianMirror { archive: archive.to_owned(), security: security.to_owned() }
    }

    #[test]
    fn both_formats_are_read() {
        let standard = DebianMirror::default().security;
        let list = "# deb http://old/debian bookworm main\ndeb-src http://src/debian bookworm main\n\
            deb [ arch=amd64 signed-by=/x ] http://mirror.example/debian/ bookworm main contrib\n\
            deb http://mirror.example/debian bookworm-updates main # ours\n";
        assert_eq!(of(&[("sources.list", list)]), Some(mirrors("http://mirror.example/debian", &standard)));
        let sources = "Types: deb\nURIs: https://ftp.de.debian.org/debian\nSuites: trixie trixie-updates\nComponents: main\n\n\
            Types: deb\nURIs: http://security.example/debian-security\nSuites: trixie-security\nComponents: main\n";
        assert_eq!(
            of(&[("sources.list.d/debian.sources", sources)]),
            Some(mirrors("https://ftp.de.debian.org/debian", "http://security.example/debian-security"))
        );
        assert_eq!(
            of(&[("sources.list.d/debian.sources", &sources.replace("Types", "Enabled: no\nTypes"))]),
            None
        );
    }

    #[test]
    fn archives_of_others_are_not_taken_for_debians() {
        assert_eq!(of(&[]), None);
        let neighbours = "deb http://deb.debian.org/debian-debug bookworm-debug main\n\
            deb http://archive.debian.org/debian stretch main\n\
            deb http://snapshot.debian.org/archive/debian/20260101T000000Z bookworm main\n";
        assert_eq!(of(&[("sources.list", neighbours)]), None);
        let others = "deb https://pkgs.example/stable/debian bookworm main\ndeb cdrom:[x]/ bookworm main\n\
            deb file:/srv/debian bookworm main\ndeb file:/srv/debian bookworm-updates main\ndeb\ndebx http://x y main\n";
        assert_eq!(of(&[("sources.list", others)]), None);
        let ubuntu = "deb http://archive.ubuntu.com/ubuntu noble main\ndeb http://archive.ubuntu.com/ubuntu noble-updates main\n\
            deb http://security.ubuntu.com/ubuntu noble-security main\n";
        assert_eq!(of(&[("sources.list", ubuntu)]), None);
    }
}
