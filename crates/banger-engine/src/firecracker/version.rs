//! Which versions of Firecracker are run.

/// The oldest that is run: what is older was never tried.
const OLDEST: Version = Version(1, 16, 1);
/// The newest that was tried: what is newer is run with a warning.
const NEWEST: Version = Version(1, 16, 1);
/// The first that is not run: a new major version may mean anything by what it is told.
const END: Version = Version(2, 0, 0);

/// A version, as `firecracker --version` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Returns the version from `Firecracker v1.16.1` and what follows.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let version = line.strip_prefix("Firecracker v")?;
        // What comes behind: `1.17.0-dev`.
        Self::from_numbers(version.split(['-', '+', ' ']).next()?)
    }

    /// Returns the version from its three numbers.
    pub(super) fn from_numbers(version: &str) -> Option<Self> {
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        let version = Self(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }

    /// Returns why this version is not run, or what is to be said about it.
    pub(super) fn judge(self) -> Result<Option<String>, String> {
        if self < OLDEST {
            return Err(format!("{self} is older than {OLDEST}, the oldest that banger was tried with"));
        }
        if self >= END {
            return Err(format!("{self} is of a generation that this banger does not know"));
        }
        let warning = || format!("Firecracker {self} is newer than those that this banger was tried with");
        Ok((self > NEWEST).then(warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_run_and_the_rest_warned_of_or_refused() {
        assert_eq!(Version(1, 16, 1).judge(), Ok(None));
        assert!(Version(1, 16, 2).judge().is_ok_and(|warning| warning.is_some()));
        assert!(Version(1, 17, 0).judge().is_ok_and(|warning| warning.is_some()));
        assert!(Version(1, 15, 9).judge().unwrap_err().contains("older than 1.16.1"));
        assert!(Version(2, 0, 0).judge().is_err());
    }

    #[test]
    fn versions_are_read_as_they_are_printed() {
        assert_eq!(Version::parse("Firecracker v1.16.1"), Some(Version(1, 16, 1)));
        assert_eq!(Version::parse("Firecracker v1.17.0-dev"), Some(Version(1, 17, 0)));
        for other in
            ["", "Firecracker", "QEMU emulator version 7.2.22", "Firecracker v1.2", "Firecracker v1.2.3.4"]
        {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }
}
