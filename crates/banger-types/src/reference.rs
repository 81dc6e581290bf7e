//! Names of images in registries.
//!
//! The grammar is that of the project `distribution/reference`, which all tools share; the parts that the protocol
//! knows are in the OCI distribution-spec ("Pulling manifests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names without one.
pub const DEFAULT_TAG: &str = "latest";
/// Where the default registry keeps images whose name has one component.
const DEFAULT_NAMESPACE: &str = "library/";
/// Most bytes of registry and repository together.
const LONGEST_NAME: usize = 255;
/// Most bytes of a tag (OCI distribution-spec, "Pulling manifests").
const LONGEST_TAG: usize = 128;

/// Why a text is no name of an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not the name of an image in a registry: {rule}")]
pub struct ReferenceError {
    /// The text, or its beginning.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// An image in a registry: `[host[:port]/]name[:tag][@digest]`.
///
/// The default registry is Docker's, as everywhere: `alpine` is `docker.io/library/alpine:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DockerReference {
    registry: String,
    repository: String,
    /// The default one where none is given, so that names of one image are equal; none where there is a digest alone.
    tag: Option<String>,
    digest: Option<Digest>,
}

impl DockerReference {
    /// Returns the registry, as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within it, as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns what it is asked for by: the digest if it has one, which no tag can change; else the tag.
    pub fn version(&self) -> String {
        let tag = || self.tag.as_deref().unwrap_or(DEFAULT_TAG).to_owned();
        self.digest.map_or_else(tag, |digest| digest.to_string())
    }

    /// Returns the tag: the one given, else the default one, and none where there is a digest alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that it must have, if it names one.
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }
}

impl FromStr for DockerReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |rule| ReferenceError { text: text.chars().take(200).collect(), rule };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.starts_with("sha256:").then(|| digest.parse().ok()).flatten();
                let digest =
                    digest.ok_or_else(|| error("its digest is not 'sha256:' and 64 hexadecimal digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].split_once(':') {
            Some((last, tag)) => (&rest[..name_end + last.len()], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(error(
                "its tag is not 1 to 128 letters, digits, '_', '.' and '-', the first no '.' or '-'",
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_like_a_host(first) => (first, rest.to_owned()),
            _ if name.contains('/') => (DEFAULT_REGISTRY, name.to_owned()),
            _ => (DEFAULT_REGISTRY, format!("{DEFAULT_NAMESPACE}{name}")),
        };
        // The same registry under names of its past.
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match repository.split_once('/') {
            None if registry == DEFAULT_REGISTRY => format!("{DEFAULT_NAMESPACE}{repository}"),
            _ => repository,
        };
        if !is_host(registry) {
            return Err(error("its registry is not a host with an optional port"));
        }
        if !repository.split('/').all(is_component) {
            return Err(error(
                "its parts are lower-case letters and digits, with one '.', one or two '_', or any '-' between them",
            ));
        }
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(error("it has more than 255 bytes"));
        }
        let tag = tag.or(digest.is_none().then_some(DEFAULT_TAG)).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// Whether the first part of a name is a registry and not a part of the repository.
fn is_like_a_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) => {
                let good = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return good && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST_TAG).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Whether this is letters and digits, with separators between them and nowhere else.
fn is_component(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|&&byte| letter(byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = rest.iter().take_while(|&&byte| !letter(byte)).count();
        let (between, after) = rest.split_at(separator);
        match between {
            b"" => return after.is_empty(),
            b"." | b"_" | b"__" => {}
            _ if between.iter().all(|&byte| byte == b'-') => {}
            _ => return false,
        }
        rest = after;
    }
}

impl fmt::Display for DockerReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for DockerReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<DockerReference> for String {
    fn from(reference: DockerReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_mean_what_they_mean_everywhere() {
        let with_digest = format!("quay.io/a/b@{DIGEST}");
        let with_both = format!("quay.io/a/b:c@{DIGEST}");
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("me/tool", "docker.io/me/tool:latest"),
            ("localhost/tool", "localhost/tool:latest"),
            ("localhost:5000/tool:x", "localhost:5000/tool:x"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("Host/a", "Host/a:latest"),
            ("ghcr.io/a/b_c__d-.e", ""),
            ("ghcr.io/a/b_c__d---e.f:V_1.0-x", "ghcr.io/a/b_c__d---e.f:V_1.0-x"),
            (&with_digest, &with_digest),
            (&with_both, &with_both),
        ] {
            let parsed = text.parse::<DockerReference>();
            if whole.is_empty() {
                assert!(parsed.is_err(), "{text}");
                continue;
            }
            let parsed = parsed.unwrap();
            assert_eq!(parsed.to_string(), whole);
            assert_eq!(whole.parse::<DockerReference>().unwrap().to_string(), whole);
        }
        let both: DockerReference = with_both.parse().unwrap();
        assert_eq!((both.version().as_str(), both.tag()), (DIGEST, Some("c")));
    }

    #[test]
    fn names_of_one_image_are_equal_and_read_back_as_the_same() {
        let read = |text: &str| text.parse::<DockerReference>().unwrap();
        assert_eq!(read("alpine"), read("docker.io/library/alpine:latest"));
        for text in ["alpine", &format!("quay.io/a/b@{DIGEST}"), &format!("quay.io/a/b:c@{DIGEST}")] {
            assert_eq!(read(&read(text).to_string()), read(text));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("a/{}", "b".repeat(255));
        let long_tag = format!("a:{}", "b".repeat(129));
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a:",
            "a:-x",
            "a:.x",
            "a:b:c",
            "a@",
            "a@sha256:12",
            "a b",
            "a\\n",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "../a",
            "a/../b",
            "host.example:0/a",
            "host.example:99999/a",
            "host:x/a",
            "-host.example/a",
            "host..example/a",
            "[::1/a",
            "[]:1/a",
            "[::1]x/a",
            "é",
            "a:é",
            "a@sha512:00",
            &long,
            &long_tag,
        ] {
            assert!(text.parse::<DockerReference>().is_err(), "{text}");
        }
    }
}
