//! Suites and packages of Debian.

use std::fmt;
use std::str::FromStr;

use super::ImageSourceError;

/// Debian's keys, where distributions put them that package them: Debian, Ubuntu, Fedora and Arch alike.
pub const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What a person does who lacks them.
pub const INSTALL_DEBIAN_KEYRING: &str =
    "install Debian's keys: debian-archive-keyring (Debian, Ubuntu, Arch), debian-keyring (Fedora)";

/// The name of a Debian suite: `bookworm`, `trixie`, `sid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite(String);

/// The name of a Debian package (Debian Policy 5.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageName(String);

impl Suite {
    /// Returns the suite's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PackageName {
    /// Returns the package's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Suite {
    type Err = ImageSourceError;

    fn from_str(text: &str) -> Result<Self, ImageSourceError> {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = text.len() <= 40
            && text.bytes().next().is_some_and(lower)
            && text.bytes().all(|b| lower(b) || b == b'-' || b == b'.');
        if good { Ok(Self(text.to_owned())) } else { Err(ImageSourceError::Suite(cut(text))) }
    }
}

impl FromStr for PackageName {
    type Err = ImageSourceError;

    fn from_str(text: &str) -> Result<Self, ImageSourceError> {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (2..=128).contains(&text.len())
            && text.bytes().next().is_some_and(lower)
            && text.bytes().all(|b| lower(b) || b"+-.".contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(ImageSourceError::Package(cut(text))) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits `nodejs+g+++golang` at the pluses between names: a plus before another plus, a hyphen, a
/// dot or the end belongs to the name (`g++`).
pub(super) fn split_packages(text: &str) -> Vec<&str> {
    let (mut names, mut start) = (Vec::new(), 0);
    let bytes = text.as_bytes();
    for (at, pair) in bytes.windows(2).enumerate() {
        if pair[0] == b'+' && pair[1] != b'+' && pair[1] != b'-' && pair[1] != b'.' {
            names.push(&text[start..at]);
            start = at + 1;
        }
    }
    if start < text.len() {
        names.push(&text[start..]);
    }
    names
}
