//! What a Debian archive says of a suite (its `InRelease`; Debian wiki, "`DebianRepository/Format`").

use std::collections::BTreeMap;

use banger_types::digest::Digest;
use deb822_fast::Paragraph;
use jiff::Timestamp;

/// Why a text does not describe a suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is none of fields.
    #[error("it is no control file: {0}")]
    Syntax(String),
    /// A field is not there.
    #[error("it has no field '{0}'")]
    Missing(&'static str),
    /// A field makes no sense.
    #[error("its field '{field}' makes no sense: '{value}'")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value, or the line of it that makes no sense.
        value: String,
    },
}

/// A file of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexFile {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

/// A suite, as its archive describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// `stable`, `bookworm-security`.
    names: Vec<String>,
    pub(super) date: Timestamp,
    pub(super) valid_until: Option<Timestamp>,
    /// Whether files can be had by their digest, too: then none changes while it is asked for.
    pub(super) by_hash: bool,
    /// By their path within the suite's directory.
    files: BTreeMap<String, IndexFile>,
}

impl Release {
    /// Reads what was signed.
    pub(super) fn parse(text: &str) -> Result<Self, ReleaseError> {
        let fields: Paragraph =
            text.parse().map_err(|error: deb822_fast::Error| ReleaseError::Syntax(error.to_string()))?;
        let names = ["Suite", "Codename"].into_iter().filter_map(|name| fields.get(name));
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.is_empty() {
            return Err(ReleaseError::Missing("Codename"));
        }
        let digests = fields.get("SHA256").ok_or(ReleaseError::Missing("SHA256"))?;
        let lines = digests.lines().filter(|line| !line.trim().is_empty());
        Ok(Self {
            names,
            date: time(&fields, "Date")?.ok_or(ReleaseError::Missing("Date"))?,
            valid_until: time(&fields, "Valid-Until")?,
            by_hash: fields.get("Acquire-By-Hash") == Some("yes"),
            files: lines.map(file).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is of the suite that was asked for: whoever answers may have another one, signed as well.
    pub(super) fn is_of(&self, suite: &str) -> bool {
        self.names.iter().any(|name| name == suite)
    }

    /// Returns the names that it goes by.
    pub(super) fn names(&self) -> String {
        self.names.join(", ")
    }

    /// Returns what it says of a file.
    pub(super) fn file(&self, path: &str) -> Option<IndexFile> {
        self.files.get(path).copied()
    }
}

/// Reads a line of digests: digest, size, path.
fn file(line: &str) -> Result<(String, IndexFile), ReleaseError> {
    let read = || {
        let mut words = line.split_ascii_whitespace();
        let digest = words.next()?.parse().ok()?;
        let size = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), IndexFile { digest, size }))
    };
    read().ok_or_else(|| ReleaseError::Field { field: "SHA256", value: line.trim().to_owned() })
}

fn time(fields: &Paragraph, field: &'static str) -> Result<Option<Timestamp>, ReleaseError> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    // RFC 2822 has `+0000` for what Debian writes.
    let zoned = value.trim().strip_suffix("UTC").map(|time| format!("{time}+0000"));
    let parsed = jiff::fmt::rfc2822::parse(zoned.as_deref().unwrap_or(value));
    let time = parsed.map_err(|_| ReleaseError::Field { field, value: value.to_owned() })?;
    Ok(Some(time.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable\nCodename: bookworm\n\
        Date: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 contrib/Contents-all\n \
        9e0b5aabb2465b3d2e7a7fe27f9913846277833f7a2826e7767acccff5b588c5  8790396 main/binary-amd64/Packages.xz\n";

    #[test]
    fn a_suite_is_read() {
        let release = Release::parse(TEXT).unwrap();
        assert!(release.is_of("bookworm") && release.is_of("oldstable") && !release.is_of("trixie"));
        assert_eq!(release.date.to_string(), "2026-07-11T10:16:37Z");
        assert_eq!(release.valid_until.unwrap().to_string(), "2026-07-18T10:16:37Z");
        assert!(release.by_hash);
        assert_eq!(release.file("main/binary-amd64/Packages.xz").unwrap().size, 8_790_396);
        assert_eq!(release.file("main/binary-amd64/Packages.zst"), None);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let why = |from: &str, to: &str| Release::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
        assert_eq!(
            why("Date: Sat, 11", "Date: Sun, 11"),
            "its field 'Date' makes no sense: 'Sun, 11 Jul 2026 10:16:37 UTC'"
        );
        assert_eq!(why("\nDate:", "\nDated:"), "it has no field 'Date'");
        assert_eq!(why("SHA256", "SHA1"), "it has no field 'SHA256'");
        assert!(why("8790396", "-1").starts_with("its field 'SHA256' makes no sense: '9e0b5aab"));
        assert!(why("9e0b5aabb", "9e0b5aab").starts_with("its field 'SHA256' makes no sense"));
        assert!(Release::parse("nothing").is_err());
        assert!(Release::parse("").is_err());
    }
}
