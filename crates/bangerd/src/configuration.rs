//! The configuration file.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_image::source::BuildOptions;
use banger_types::digest::Digest;
use banger_types::size::Mebibytes;
use banger_types::source::is_secure_address;
use banger_types::web::WebListen;
use banger_types::{ApiError, ErrorKind};
use serde::Deserialize;

/// What a user may set. Every field has a default; unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Configuration {
    /// `[vm]`: what a VM gets when nothing else is asked for.
    pub(crate) vm: VmDefaults,
    /// `[image]`: what an image may be.
    pub(crate) image: ImageLimits,
    /// `[registry."HOST"]`: how a registry is spoken to.
    pub(crate) registry: BTreeMap<String, RegistrySettings>,
    /// `[debian]`: where Debian's packages come from.
    pub(crate) debian: Debian,
    /// `[operations]`: how many run at once, and how long they are remembered.
    pub(crate) operations: OperationSettings,
    /// `[web]`: the web console.
    pub(crate) web: WebSettings,
    /// `[[catalog]]`: catalogs from elsewhere, the later before the earlier.
    pub(crate) catalog: Vec<CatalogList>,
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
    /// How long a guest may take to its first session. Emulated on a busy host, a large image takes a minute; a guest
    /// that takes longer than the default hangs.
    #[serde(deserialize_with = "time")]
    pub(crate) boot_timeout: Duration,
}

impl Default for VmDefaults {
    fn default() -> Self {
        Self {
            image: crate::catalog::DEFAULT_IMAGE.to_owned(),
            kernel: crate::catalog::DEFAULT_KERNEL.to_owned(),
            vcpus: 2,
            memory: Mebibytes(2048),
            disk: Mebibytes(20 << 10),
            boot_timeout: Duration::from_mins(5),
        }
    }
}

/// How operations are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OperationSettings {
    /// How many are done at once of those that make something; the others wait for their turn.
    pub(crate) at_once: NonZeroU16,
    /// How long one that has ended is remembered, with its log.
    #[serde(deserialize_with = "long_time")]
    pub(crate) kept: Duration,
}

impl Default for OperationSettings {
    fn default() -> Self {
        const AT_ONCE: NonZeroU16 = NonZeroU16::new(16).unwrap();
        Self { at_once: AT_ONCE, kept: Duration::from_hours(24) }
    }
}

/// The web console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSettings {
    /// Where it listens: an address of loopback and a port, or `off`.
    #[serde(deserialize_with = "web_listen")]
    pub(crate) listen: WebListen,
}

fn web_listen<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<WebListen, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Bounds of images: what comes from elsewhere may be made to fill the disk or the memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ImageLimits {
    /// Most that all layers of an image may unpack to.
    #[serde(deserialize_with = "size")]
    pub(crate) largest: Mebibytes,
    /// Most files, directories and links of an image, those of lower layers that are gone in a higher one counted. Each
    /// takes some 200 bytes of the daemon's memory while the image is made.
    pub(crate) most_entries: usize,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { largest: Mebibytes(BuildOptions::LARGEST >> 20), most_entries: BuildOptions::MOST_ENTRIES }
    }
}

/// How a registry is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistrySettings {
    /// Registries that have the same, as far as they have it: asked first, in this order. As `mirror.example:5000`.
    pub(crate) mirrors: Vec<String>,
    /// It has no TLS. What is said to it can be read and changed on the way; what comes is verified by its digest, where
    /// there is one.
    pub(crate) plain_http: bool,
    /// A file of certificates in PEM that are trusted for it beside those that the host trusts.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A catalog from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogList {
    /// Its address, `https:`.
    #[serde(deserialize_with = "secure_address")]
    pub(crate) url: String,
    /// The digest of what is there.
    pub(crate) sha256: Digest,
}

fn secure_address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    if is_secure_address(&url) {
        Ok(url)
    } else {
        Err(serde::de::Error::custom(format!("the address '{url}' does not begin with https://")))
    }
}

/// Where Debian's packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Debian {
    /// Address of a mirror, instead of the one that this host's apt uses, or deb.debian.org.
    pub(crate) mirror: Option<String>,
    /// Address of a mirror of Debian's security updates, for one of the archive.
    pub(crate) security_mirror: Option<String>,
    /// A file of keys, instead of those that are installed.
    pub(crate) keyring: Option<PathBuf>,
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mebibytes, D::Error> {
    let Size::Text(text) = Size::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "this is not a size; write one in quotes, as in \"512M\" or \"2G\"")]
enum Size {
    Text(String),
}

/// Reads a time: a whole number of seconds, or one with its unit, as in `90s`, `5m` or `1h`.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time_to(deserializer, LONGEST_TIME)
}

/// Reads a time that may be as long as 30 days.
fn long_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time_to(deserializer, 30 * LONGEST_TIME)
}

fn time_to<'de, D: serde::Deserializer<'de>>(deserializer: D, longest: u64) -> Result<Duration, D::Error> {
    let text = match Time::deserialize(deserializer)? {
        Time::Seconds(seconds) => seconds.to_string(),
        Time::Text(text) => text,
    };
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match seconds {
        Some(seconds) if (1..=longest).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(serde::de::Error::custom(format!(
            "'{text}' is not a time from 1s to {}h; write a whole number with s, m or h, as in 90s or 5m",
            longest / 3600
        ))),
    }
}

/// Longest time that makes sense, seconds.
const LONGEST_TIME: u64 = 24 * 3600;

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "this is not a time; write a whole number of seconds, or one with its unit in quotes, as in \"5m\""
)]
enum Time {
    Seconds(u64),
    Text(String),
}

impl Configuration {
    /// Reads the file, and what in it is set; a file that is not there sets nothing.
    pub(crate) fn read(path: &Path) -> Result<(Self, toml::Table), ApiError> {
        let unreadable = |error: &dyn std::error::Error| {
            ApiError::caused_by(ErrorKind::Usage, "cannot use the configuration file", error)
                .fix(format!("correct {} or remove it", path.display()))
        };
        match fs_err::read_to_string(path) {
            // The error of `toml` shows the line, the column and what was expected there.
            Ok(text) => {
                let configuration = toml::from_str(&text).map_err(|error| unreadable(&error))?;
                Ok((configuration, toml::from_str(&text).map_err(|error| unreadable(&error))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Default::default()),
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
    fn times_have_units_and_bounds() {
        let read = |value: &str| {
            let text = format!("[vm]\nboot_timeout = {value}\n");
            toml::from_str::<Configuration>(&text).map(|it| it.vm.boot_timeout.as_secs())
        };
        for (value, seconds) in [("7", 7), ("\"7\"", 7), ("\"90s\"", 90), ("\"5m\"", 300), ("\"1h\"", 3600)] {
            assert_eq!(read(value).unwrap(), seconds, "{value}");
        }
        for value in
            ["0", "\"\"", "\"m\"", "\"5 m\"", "\"-5m\"", "\"5d\"", "\"25h\"", "\"99999999999999999999s\""]
        {
            assert!(read(value).unwrap_err().message().contains("is not a time from 1s to 24h"), "{value}");
        }
        assert!(read("-1").unwrap_err().message().contains("this is not a time"));
        assert!(read("true").unwrap_err().message().contains("this is not a time"));
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
