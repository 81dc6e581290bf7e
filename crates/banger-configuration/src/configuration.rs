//! What can be set, and what it is when nobody sets it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use banger_types::digest::Digest;
use banger_types::monitor::Forward;
use banger_types::size::Mebibytes;
use banger_types::vm::NetworkMode;
use banger_types::web::WebListen;
use serde::Deserialize;

use crate::value;

/// The image that a VM gets for which none is named: an entry of the catalog that banger brings along.
pub const DEFAULT_IMAGE: &str = "golden";
/// Its kernel.
pub const DEFAULT_KERNEL: &str = "debian";

/// What a user may set. Every field has a default; unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// `[vm]`: what a VM gets when nothing else is asked for.
    pub vm: VmDefaults,
    /// `[image]`: what an image may be.
    pub image: ImageLimits,
    /// `[registry."HOST"]`: how a registry is spoken to.
    pub registry: BTreeMap<String, RegistrySettings>,
    /// `[debian]`: where Debian's packages come from.
    pub debian: Debian,
    /// `[operations]`: how many run at once, and how long they are remembered.
    pub operations: OperationSettings,
    /// `[web]`: the web console.
    pub web: WebSettings,
    /// `[[catalog]]`: catalogs from elsewhere, the later before the earlier.
    pub catalog: Vec<CatalogList>,
}

/// Defaults of new VMs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VmDefaults {
    /// Its image, by name or source.
    pub image: String,
    /// Its kernel, by name or source.
    pub kernel: String,
    /// Number of virtual CPUs.
    #[serde(deserialize_with = "value::vcpus")]
    pub vcpus: u32,
    /// Memory.
    #[serde(deserialize_with = "value::size")]
    pub memory: Mebibytes,
    /// How large its disk may become.
    #[serde(deserialize_with = "value::size")]
    pub disk: Mebibytes,
    /// Its network; the best that the host is ready for when there is none.
    #[serde(deserialize_with = "value::network")]
    pub network: Option<NetworkMode>,
    /// Forwards that it gets beside those that are asked for.
    #[serde(deserialize_with = "value::forwards")]
    pub forwards: Vec<Forward>,
    /// How long a guest may take to its first session. Emulated on a busy host, a large image takes a minute; a guest
    /// that takes longer than the default hangs.
    #[serde(deserialize_with = "value::time")]
    pub boot_timeout: Duration,
}

impl Default for VmDefaults {
    fn default() -> Self {
        Self {
            image: DEFAULT_IMAGE.to_owned(),
            kernel: DEFAULT_KERNEL.to_owned(),
            vcpus: 2,
            memory: Mebibytes(2048),
            disk: Mebibytes(20 << 10),
            network: None,
            forwards: Vec::new(),
            boot_timeout: Duration::from_mins(5),
        }
    }
}

/// How operations are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationSettings {
    /// How many are done at once of those that make something; the others wait for their turn.
    pub at_once: NonZeroU16,
    /// How long one that has ended is remembered, with its log.
    #[serde(deserialize_with = "value::long_time")]
    pub kept: Duration,
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
pub struct WebSettings {
    /// Where it listens: an address of loopback and a port, or `off`.
    #[serde(deserialize_with = "value::web_listen")]
    pub listen: WebListen,
}

/// Bounds of images: what comes from elsewhere may be made to fill the disk or the memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageLimits {
    /// Most that all layers of an image may unpack to.
    #[serde(deserialize_with = "value::size")]
    pub largest: Mebibytes,
    /// Most files, directories and links of an image, those of lower layers that are gone in a higher one counted. Each
    /// takes some 200 bytes of the daemon's memory while the image is made.
    pub most_entries: usize,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { largest: Mebibytes(64 << 10), most_entries: 1_000_000 }
    }
}

/// How a registry is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Registries that have the same, as far as they have it: asked first, in this order. As `mirror.example:5000`.
    pub mirrors: Vec<String>,
    /// It has no TLS. What is said to it can be read and changed on the way; what comes is verified by its digest, where
    /// there is one.
    pub plain_http: bool,
    /// A file of certificates in PEM that are trusted for it beside those that the host trusts.
    pub ca_file: Option<PathBuf>,
}

/// A catalog from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogList {
    /// Its address, `https:`.
    #[serde(deserialize_with = "value::secure_address")]
    pub url: String,
    /// The digest of what is there.
    pub sha256: Digest,
}

/// Where Debian's packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Debian {
    /// Address of a mirror, instead of the one that this host's apt uses, or deb.debian.org.
    pub mirror: Option<String>,
    /// Address of a mirror of Debian's security updates, for one of the archive.
    pub security_mirror: Option<String>,
    /// A file of keys, instead of those that are installed.
    pub keyring: Option<PathBuf>,
}
