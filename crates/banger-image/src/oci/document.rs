//! The documents that describe an image: indexes, manifests, configurations.
//!
//! OCI image-spec, image-index.md, manifest.md, config.md and descriptor.md; Docker's own forms, which they grew from,
//! have the same fields. Read leniently where tools write what the specification does not know (`null` for a map, say),
//! and strictly where two readers could understand two things.

use std::collections::BTreeMap;
use std::fmt;

use banger_types::digest::Digest;
use banger_types::image::ImageConfig;
use serde::Deserialize;

/// Most bytes of an index or a manifest (OCI distribution-spec, "Pushing Manifests": registries take 4 MiB).
pub const LARGEST_MANIFEST: u64 = 4 << 20;
/// Most bytes of a configuration. A long history takes some.
pub const LARGEST_CONFIG: u64 = 8 << 20;
/// Most layers of an image. Docker's own limit is 127.
pub const MOST_LAYERS: usize = 1000;
/// Most characters that are kept of the command that made a layer: some have whole scripts in them.
const LONGEST_COMMAND: usize = 300;
/// Most manifests of an index.
const MOST_MANIFESTS: usize = 10_000;

/// Media types of what can be asked for by name.
pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// How the media types of layers begin; what they are packed with is seen by their content.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Why a document is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not what it should be.
    #[error("the {what} cannot be understood")]
    Json {
        /// Which document.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is of another kind.
    #[error("this is no image: its {what} is of the type '{media_type}'")]
    MediaType {
        /// Which part.
        what: &'static str,
        /// Its type, printable.
        media_type: String,
    },
    /// A manifest of a form that nobody writes any more.
    #[error("its manifest has the old form 'schema 1', which names no configuration")]
    Schema1,
    /// It could be read as two things.
    #[error("the manifest is both an index and a manifest")]
    Ambiguous,
    /// It has nothing for this machine.
    #[error("there is no image for {wanted}; there is one for {}", if available.is_empty() { "nothing" } else { available })]
    Platform {
        /// What was wanted, as `linux/amd64`.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// It is for another machine.
    #[error("this is an image for {found}, not for {wanted}")]
    OtherPlatform {
        /// What was wanted.
        wanted: String,
        /// What it is for.
        found: String,
    },
    /// Too much of something.
    #[error("the {what} has more than {limit} {items}")]
    TooMany {
        /// Which document.
        what: &'static str,
        /// Most items.
        limit: usize,
        /// Of what.
        items: &'static str,
    },
    /// The manifest and the configuration do not belong together.
    #[error("the manifest has {layers} layers and the configuration {diff_ids}")]
    Layers {
        /// Layers of the manifest.
        layers: usize,
        /// `diff_ids` of the configuration.
        diff_ids: usize,
    },
}

/// An operating system and a processor (OCI image-spec, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// As Go's `GOARCH`.
    pub architecture: String,
    /// As Go's `GOOS`.
    pub os: String,
    /// As `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// Returns what VMs of this host run.
    pub fn of_this_host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Whether what is for this platform runs on `other`. A variant is asked for by nobody yet.
    fn suits(&self, other: &Self) -> bool {
        (&self.architecture, &self.os) == (&other.architecture, &other.os)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |text: &str| crate::encoding::printable(text.as_bytes());
        write!(f, "{}/{}", printable(&self.os), printable(&self.architecture))?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{}", printable(variant)))
    }
}

/// What points to content (OCI image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// What it is for, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// What is said about it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// What of both forms decides which one it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads an index or a manifest. `served` is the media type that it came with, if it came with one.
    pub fn parse(bytes: &[u8], served: Option<&str>) -> Result<Self, DocumentError> {
        let json = |source| DocumentError::Json { what: "manifest", source };
        let either: Either = serde_json::from_slice(bytes).map_err(json)?;
        // A type in the document itself counts; the digest vouches for it, and for nothing beside it.
        let media_type = either.media_type.as_deref().or(served);
        if either.schema_version == Some(1) {
            return Err(DocumentError::Schema1);
        }
        if let Some(other) = media_type.filter(|it| !MANIFEST_TYPES.contains(it) && !is_generic(it)) {
            return Err(DocumentError::MediaType { what: "manifest", media_type: cut(other) });
        }
        match (either.manifests, either.config.is_some() || either.layers.is_some()) {
            // image-spec, manifest.md: one that could be read as the other is refused (CVE-2021-41190).
            (Some(_), true) => Err(DocumentError::Ambiguous),
            (Some(manifests), false) if manifests.len() <= MOST_MANIFESTS => Ok(Self::Index(manifests)),
            (Some(_), false) => {
                Err(DocumentError::TooMany { what: "index", limit: MOST_MANIFESTS, items: "manifests" })
            }
            (None, _) => Manifest::parse(bytes).map(Self::Manifest),
        }
    }
}

/// Types that servers of plain files give, which say nothing.
fn is_generic(media_type: &str) -> bool {
    ["application/json", "application/octet-stream", "text/plain"].iter().any(|it| media_type.starts_with(it))
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|source| DocumentError::Json { what: "manifest", source })?;
        let config = &manifest.config.media_type;
        if !CONFIG_TYPES.contains(&config.as_str()) {
            return Err(DocumentError::MediaType { what: "configuration", media_type: cut(config) });
        }
        let is_layer = |layer: &Descriptor| LAYER_TYPES.iter().any(|it| layer.media_type.starts_with(it));
        if let Some(other) = manifest.layers.iter().find(|layer| !is_layer(layer)) {
            return Err(DocumentError::MediaType { what: "layer", media_type: cut(&other.media_type) });
        }
        if manifest.layers.len() > MOST_LAYERS {
            return Err(DocumentError::TooMany { what: "manifest", limit: MOST_LAYERS, items: "layers" });
        }
        Ok(manifest)
    }
}

/// Returns the manifest of an index that is for `wanted`: the first, as the specification has it.
pub fn choose(manifests: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, DocumentError> {
    // Attestations of BuildKit's stand among the images, for a platform that there is not.
    let is_image = |descriptor: &Descriptor| {
        MANIFEST_TYPES.contains(&descriptor.media_type.as_str())
            && !descriptor.annotations.contains_key("vnd.docker.reference.type")
    };
    let mut images: Vec<_> = manifests.into_iter().filter(is_image).collect();
    // One that does not say what it is for is taken if there is no choice; its configuration says it.
    if let [only] = &images[..]
        && only.platform.is_none()
    {
        return Ok(images.remove(0));
    }
    let suits = |it: &Descriptor| it.platform.as_ref().is_some_and(|platform| platform.suits(wanted));
    if let Some(at) = images.iter().position(suits) {
        return Ok(images.swap_remove(at));
    }
    let mut available: Vec<_> =
        images.iter().filter_map(|image| image.platform.as_ref()).map(ToString::to_string).collect();
    available.truncate(20);
    Err(DocumentError::Platform { wanted: wanted.to_string(), available: available.join(", ") })
}

/// An image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How its programs want to run.
    pub config: ImageConfig,
    /// Digests of its layers unpacked, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// The commands that made them, printable and cut; empty if that is not said of each of them.
    pub created_by: Vec<String>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Option<Execution>,
    rootfs: RootFileSystem,
    #[serde(default, deserialize_with = "null_is_empty")]
    history: Vec<History>,
}

/// OCI image-spec, config.md, "Properties", `history`: what was done, be it that a layer came of it or none.
#[derive(Deserialize)]
struct History {
    #[serde(default, deserialize_with = "null_is_empty")]
    created_by: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    empty_layer: bool,
}

#[derive(Deserialize)]
struct RootFileSystem {
    #[serde(default, deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

/// OCI image-spec, config.md, "Properties", `config`.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Execution {
    #[serde(deserialize_with = "null_is_empty")]
    user: String,
    #[serde(deserialize_with = "null_is_empty")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_empty")]
    stop_signal: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Config {
    /// Reads a configuration, which has to be for `wanted` and to have as many layers as its manifest.
    pub fn parse(bytes: &[u8], wanted: &Platform, layers: usize) -> Result<Self, DocumentError> {
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|source| DocumentError::Json { what: "configuration", source })?;
        let RawConfig { platform, config, rootfs, history } = raw;
        if !platform.suits(wanted) {
            return Err(DocumentError::OtherPlatform {
                wanted: wanted.to_string(),
                found: platform.to_string(),
            });
        }
        if rootfs.diff_ids.len() != layers {
            return Err(DocumentError::Layers { layers, diff_ids: rootfs.diff_ids.len() });
        }
        let execution = config.unwrap_or_default();
        let config = ImageConfig {
            user: execution.user,
            environment: execution.env,
            working_directory: execution.working_dir,
            entrypoint: execution.entrypoint,
            command: execution.cmd,
            exposed_ports: execution.exposed_ports.into_keys().collect(),
            labels: execution.labels,
            stop_signal: Some(execution.stop_signal).filter(|signal| !signal.is_empty()),
        };
        let with_layer = history.iter().filter(|done| !done.empty_layer);
        let mut created_by: Vec<_> =
            with_layer.map(|done| printable_start(&done.created_by, LONGEST_COMMAND)).collect();
        // Which of them made which layer is not known otherwise.
        if created_by.len() != layers {
            created_by.clear();
        }
        Ok(Self { config, diff_ids: rootfs.diff_ids, created_by })
    }
}

fn cut(text: &str) -> String {
    printable_start(text, 100)
}

/// Returns as much of a text, printable.
fn printable_start(text: &str, characters: usize) -> String {
    crate::encoding::printable(text.chars().take(characters).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn descriptor(media_type: &str, more: &Value) -> Value {
        let mut value = json!({ "mediaType": media_type, "digest": DIGEST, "size": 7 });
        value.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        value
    }

    fn manifest(layer: &str) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES[1],
            "config": descriptor(CONFIG_TYPES[0], &json!({})),
            "layers": [descriptor(layer, &json!({}))],
        })
    }

    fn parse(value: &Value) -> Result<Document, DocumentError> {
        Document::parse(value.to_string().as_bytes(), None)
    }

    #[test]
    fn manifests_are_read_and_what_is_no_image_is_refused() {
        for layer in LAYER_TYPES {
            let Ok(Document::Manifest(read)) = parse(&manifest(&format!("{layer}+gzip"))) else {
                panic!("{layer}")
            };
            assert_eq!(read.layers[0].digest.to_string(), DIGEST);
        }
        let error = |value: &Value| parse(value).unwrap_err().to_string();
        assert_eq!(
            error(&manifest("application/vnd.cncf.helm.chart.content.v1.tar+gzip")),
            "this is no image: its layer is of the type 'application/vnd.cncf.helm.chart.content.v1.tar+gzip'"
        );
        let mut artifact = manifest(LAYER_TYPES[0]);
        artifact["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        assert!(error(&artifact).contains("its configuration is of the type"));
        let mut other = manifest(LAYER_TYPES[0]);
        other["mediaType"] = "text/html".into();
        assert!(error(&other).contains("its manifest is of the type 'text/html'"));
        let mut both = manifest(LAYER_TYPES[0]);
        both["manifests"] = json!([]);
        assert!(error(&both).contains("both an index and a manifest"));
        assert!(error(&json!({ "schemaVersion": 1, "fsLayers": [] })).contains("schema 1"));
        assert!(error(&json!({})).contains("cannot be understood"));
        assert!(Document::parse(b"<html>", Some("text/html")).is_err());
        let served = Document::parse(json!({ "manifests": [] }).to_string().as_bytes(), Some("text/html"));
        assert!(matches!(served, Err(DocumentError::MediaType { .. })));
        let mut huge = manifest(LAYER_TYPES[0]);
        huge["layers"] = vec![descriptor(LAYER_TYPES[0], &json!({})); MOST_LAYERS + 1].into();
        assert_eq!(error(&huge), "the manifest has more than 1000 layers");
        let mut negative = manifest(LAYER_TYPES[0]);
        negative["layers"][0]["size"] = (-1).into();
        assert!(error(&negative).contains("cannot be understood"));
    }

    #[test]
    fn an_index_has_one_for_this_machine_or_says_for_which() {
        let wanted = Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None };
        let of = |architecture: &str, size: u64| {
            descriptor(
                MANIFEST_TYPES[1],
                &json!({ "size": size, "platform": { "os": "linux", "architecture": architecture } }),
            )
        };
        let choose = |manifests: Vec<Value>| {
            let Ok(Document::Index(manifests)) =
                parse(&json!({ "schemaVersion": 2, "manifests": manifests }))
            else {
                panic!()
            };
            choose(manifests, &wanted)
        };
        assert_eq!(choose(vec![of("arm64", 1), of("amd64", 2), of("amd64", 3)]).unwrap().size, 2);
        let attestation = descriptor(
            MANIFEST_TYPES[1],
            &json!({
                "size": 9,
                "platform": { "os": "unknown", "architecture": "unknown" },
                "annotations": { "vnd.docker.reference.type": "attestation-manifest" },
            }),
        );
        let silent = descriptor(MANIFEST_TYPES[1], &json!({ "size": 4 }));
        assert_eq!(choose(vec![attestation.clone(), silent]).unwrap().size, 4);
        let error = choose(vec![of("arm64", 1), of("s390x", 2), attestation]).unwrap_err().to_string();
        assert_eq!(error, "there is no image for linux/amd64; there is one for linux/arm64, linux/s390x");
        assert!(choose(vec![]).unwrap_err().to_string().ends_with("there is one for nothing"));
    }

    #[test]
    fn a_configuration_is_read_as_docker_writes_it() {
        let wanted = Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None };
        let document = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": "1000:1000",
                "ExposedPorts": { "8080/tcp": {}, "53/udp": {} },
                "Env": ["A=b"],
                "Entrypoint": null,
                "Cmd": ["serve"],
                "WorkingDir": "/srv",
                "Labels": null,
                "Volumes": null,
                "StopSignal": "SIGINT",
                "OnBuild": null,
            },
            "rootfs": { "type": "layers", "diff_ids": [DIGEST] },
            "history": [
                { "created_by": "COPY \u{1b}[2J / # buildkit", "empty_layer": false },
                { "created_by": "CMD serve", "empty_layer": true },
            ],
        });
        let config = Config::parse(document.to_string().as_bytes(), &wanted, 1).unwrap();
        assert_eq!(config.config.exposed_ports, ["53/udp", "8080/tcp"]);
        assert_eq!(config.config.command, ["serve"]);
        assert_eq!(config.config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.config.working_directory, "/srv");
        assert_eq!(config.created_by, [r"COPY \u{1b}[2J / # buildkit"]);
        // A history that does not go with the layers says nothing of them, and is no reason to refuse the image.
        let mut other = document.clone();
        for history in [json!(null), json!([]), json!([{ "created_by": null }, { "created_by": "x" }])] {
            other["history"] = history;
            let config = Config::parse(other.to_string().as_bytes(), &wanted, 1).unwrap();
            assert!(config.created_by.is_empty(), "{}", other["history"]);
        }
        other["history"] = json!([{ "created_by": "x".repeat(5000) }]);
        let config = Config::parse(other.to_string().as_bytes(), &wanted, 1).unwrap();
        assert_eq!(config.created_by[0].len(), LONGEST_COMMAND);
        let error = Config::parse(document.to_string().as_bytes(), &wanted, 2).unwrap_err().to_string();
        assert_eq!(error, "the manifest has 2 layers and the configuration 1");
        let mut arm = document;
        arm["architecture"] = "arm64".into();
        let error = Config::parse(arm.to_string().as_bytes(), &wanted, 1).unwrap_err().to_string();
        assert_eq!(error, "this is an image for linux/arm64, not for linux/amd64");
    }
}
