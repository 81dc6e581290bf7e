//! The configuration file.

use std::path::Path;

use banger_types::size::Mebibytes;
use banger_types::{ApiError, ErrorKind};
use serde::Deserialize;

/// What a user may set. Every field has a default; unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    /// `[vm]`: what a VM gets when nothing else is asked for.
    pub(crate) vm: VmDefaults,
    /// `[debian]`: where Debian's packages come from.
    pub(crate) debian: Debian,
}

/// Defaults of new VMs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VmDefaults {
    pub(crate) image: String,
    pub(crate) kernel: String,
    pub(crate) vcpus: u32,
    #[serde(deserialize_with = "size")]
    pub(crate) memory: Mebibytes,
    #[serde(deserialize_with = "size")]
    pub(crate) disk: Mebibytes,
}

impl Default for VmDefaults {
    fn default() -> Self {
        Self {
            image: crate::catalog::DEFAULT_IMAGE.to_owned(),
            kernel: crate::catalog::DEFAULT_KERNEL.to_owned(),
            vcpus: 2,
            memory: Mebibytes(2048),
            disk: Mebibytes(20 << 10),
        }
    }
}

/// Debian's mirror.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Debian {
    /// Address of a mirror, instead of deb.debian.org.
    pub(crate) mirror: Option<String>,
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mebibytes, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Configuration {
    /// Reads the file; a file that is not there sets nothing.
    pub(crate) fn read(path: &Path) -> Result<Self, ApiError> {
        let unreadable = |error: &dyn std::error::Error| {
            ApiError::caused_by(ErrorKind::Usage, "cannot use the configuration file", error)
                .fix(format!("correct {} or remove it", path.display()))
        };
        match fs_err::read_to_string(path) {
            // The error of `toml` shows the line, the column and what was expected there.
            Ok(text) => toml::from_str(&text).map_err(|error| unreadable(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_a_default() {
        let configuration: Configuration = toml::from_str("[vm]\nmemory = \"1G\"\n").unwrap();
        assert_eq!(configuration.vm.memory, Mebibytes(1024));
        assert_eq!(configuration.vm.vcpus, 2);
    }

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, "[vm]\nmemroy = \"1G\"\n").unwrap();
        let error = Configuration::read(&path).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.why[0].contains("line 2"), "{:?}", error.why);
        std::fs::write(&path, "[vm]\nvcpus = \"two\"\n").unwrap();
        assert!(Configuration::read(&path).unwrap_err().why[0].contains("vcpus"));
    }
}
