//! Sources of images, in the notation of skopeo (containers-transports(5)) and banger's own beside it.

mod debian;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::reference::{DockerReference, ReferenceError};
pub use debian::{DEBIAN_KEYRING, INSTALL_DEBIAN_KEYRING, PackageName, Suite};

/// What stands as itself in a value of `dockerfile:`.
const VALUE: &AsciiSet = &CONTROLS.add(b'%').add(b'&').add(b' ').add(b'#');

/// A source of images, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// `debian:SUITE[+PACKAGE…]`: made of Debian's packages.
    Debian {
        /// The suite.
        suite: Suite,
        /// Packages beside the usual ones.
        packages: Vec<PackageName>,
    },
    /// `docker://REFERENCE`: in a registry.
    Docker(DockerReference),
    /// `oci:DIR[:TAG]`: an OCI image layout.
    Oci(Layout),
    /// `oci-archive:FILE[:TAG]`: the same in a tar archive.
    OciArchive(Layout),
    /// `docker-archive:FILE[:REFERENCE]`: what `docker save` writes.
    DockerArchive {
        /// The archive.
        path: PathBuf,
        /// Which of its images, if it has several.
        reference: Option<DockerReference>,
    },
    /// `docker-daemon:NAME`: in the store of the Docker daemon of this host.
    DockerDaemon(DockerReference),
    /// `containers-storage:NAME`: in the store of Podman and Buildah.
    ContainersStorage(DockerReference),
    /// `dir:DIR`: what `skopeo copy` writes to a directory.
    Dir(PathBuf),
    /// `tar:FILE`: a root file system, packed or not.
    Tar(PathBuf),
    /// `dockerfile:DIR[?file=…&target=…&arg=…]`: built by Buildah, Podman or Docker.
    Dockerfile(Dockerfile),
}

/// An image in an OCI image layout (OCI image-spec, image-layout.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its directory or archive.
    pub path: PathBuf,
    /// Its `org.opencontainers.image.ref.name`, if it has several images.
    pub tag: Option<String>,
}

/// A Dockerfile and its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The context.
    pub directory: PathBuf,
    /// The file, relative to the context; `Dockerfile` or `Containerfile` there if nothing else is said.
    pub file: Option<String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// Build arguments.
    pub arguments: BTreeMap<String, String>,
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageSourceError {
    /// No transport that we know.
    #[error("'{0}' is not an image source; write {TRANSPORTS}")]
    Transport(String),
    /// The suite.
    #[error("'{0}' is not the name of a Debian suite; write bookworm or trixie, for example")]
    Suite(String),
    /// A package.
    #[error(
        "'{0}' is not the name of a Debian package: at least two lower-case letters, digits, '+', '-' \
         and '.', the first a letter or digit"
    )]
    Package(String),
    /// The name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No path.
    #[error("{transport}: needs a path, as in {transport}:/home/me/{example}")]
    NoPath {
        /// The transport.
        transport: &'static str,
        /// The path's end.
        example: &'static str,
    },
    /// A path that the notation cannot say.
    #[error(
        "an image source cannot name the path '{}', for a ':', a '?' or what is no text in it; a symbolic link can give \
         it another name", .0.display()
    )]
    Path(PathBuf),
    /// A tag in a layout.
    #[error("'{0}' is not the name of an image in a layout: letters, digits and any of -._:@/+")]
    Tag(String),
    /// A parameter of `dockerfile:`.
    #[error("'{0}' means nothing to dockerfile:; write file=…, target=… and arg=NAME=VALUE, joined by '&'")]
    Parameter(String),
}

/// All transports, for messages.
const TRANSPORTS: &str = "docker://NAME, oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME, \
                          containers-storage:NAME, dir:DIR, tar:FILE, debian:SUITE or dockerfile:DIR";

impl ImageSource {
    /// Returns whether a text begins with a transport, so that it means nothing else than a source.
    pub fn has_transport(text: &str) -> bool {
        text.split_once(':').is_some_and(|(transport, _)| {
            matches!(
                transport,
                "debian"
                    | "oci"
                    | "oci-archive"
                    | "docker-archive"
                    | "docker-daemon"
                    | "containers-storage"
                    | "dir"
                    | "tar"
                    | "dockerfile"
            )
        }) || text.starts_with("docker://")
    }

    /// Returns the path that it reads from, if it reads from one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Oci(Layout { path, .. })
            | Self::OciArchive(Layout { path, .. })
            | Self::DockerArchive { path, .. }
            | Self::Dir(path)
            | Self::Tar(path) => Some(path),
            Self::Dockerfile(Dockerfile { directory, .. }) => Some(directory),
            Self::Debian { .. } | Self::Docker(_) | Self::DockerDaemon(_) | Self::ContainersStorage(_) => {
                None
            }
        }
    }

    /// Gives a source that reads from a path another one. Fails, and changes nothing, where the notation could not say it.
    pub fn set_path(&mut self, path: PathBuf) -> Result<(), ImageSourceError> {
        let mut changed = self.clone();
        if let Some(place) = changed.path_mut() {
            place.clone_from(&path);
        }
        // Only the notation itself knows what would end the path, or be lost.
        if changed.to_string().parse().as_ref() != Ok(&changed) {
            return Err(ImageSourceError::Path(path));
        }
        *self = changed;
        Ok(())
    }

    fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Oci(Layout { path, .. })
            | Self::OciArchive(Layout { path, .. })
            | Self::DockerArchive { path, .. }
            | Self::Dir(path)
            | Self::Tar(path)
            | Self::Dockerfile(Dockerfile { directory: path, .. }) => Some(path),
            Self::Debian { .. } | Self::Docker(_) | Self::DockerDaemon(_) | Self::ContainersStorage(_) => {
                None
            }
        }
    }
}

impl FromStr for ImageSource {
    type Err = ImageSourceError;

    fn from_str(text: &str) -> Result<Self, ImageSourceError> {
        let unknown = || ImageSourceError::Transport(text.chars().take(200).collect());
        if let Some(reference) = text.strip_prefix("docker://") {
            return Ok(Self::Docker(reference.parse()?));
        }
        let (transport, rest) = text.split_once(':').ok_or_else(unknown)?;
        Ok(match transport {
            "debian" => debian_source(rest)?,
            "oci" => Self::Oci(layout("oci", "layout", rest)?),
            "oci-archive" => Self::OciArchive(layout("oci-archive", "image.tar", rest)?),
            "docker-archive" => {
                let (file, reference) =
                    rest.split_once(':').map_or((rest, None), |(file, it)| (file, Some(it)));
                let reference = reference.map(str::parse).transpose()?;
                Self::DockerArchive { path: path("docker-archive", "image.tar", file)?, reference }
            }
            "docker-daemon" => Self::DockerDaemon(rest.parse()?),
            "containers-storage" => Self::ContainersStorage(rest.parse()?),
            "dir" => Self::Dir(path("dir", "image", rest)?),
            "tar" => Self::Tar(path("tar", "rootfs.tar", rest)?),
            "dockerfile" => Self::Dockerfile(dockerfile(rest)?),
            _ => return Err(unknown()),
        })
    }
}

/// Whether nobody else can answer for an address of the web: it has TLS, or is on this host.
pub fn is_secure_address(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    // Whose address it is stands before the path, and behind whatever looks like it (RFC 3986, section 3.2.1).
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once(':').is_some_and(|(host, port)| {
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        is_port && matches!(host, "127.0.0.1" | "localhost" | "[::1]")
    })
}

fn path(transport: &'static str, example: &'static str, text: &str) -> Result<PathBuf, ImageSourceError> {
    if text.is_empty() { Err(ImageSourceError::NoPath { transport, example }) } else { Ok(text.into()) }
}

fn debian_source(rest: &str) -> Result<ImageSource, ImageSourceError> {
    let (suite, packages) = rest.split_once('+').unwrap_or((rest, ""));
    let packages = debian::split_packages(packages);
    let packages = packages.into_iter().map(str::parse).collect::<Result<_, _>>()?;
    // `debian:bookworm+` names nothing after its plus.
    if rest.ends_with('+') && suite.len() + 1 == rest.len() {
        return Err(ImageSourceError::Package(String::new()));
    }
    Ok(ImageSource::Debian { suite: suite.parse()?, packages })
}

fn layout(transport: &'static str, example: &'static str, rest: &str) -> Result<Layout, ImageSourceError> {
    let (file, tag) = rest.split_once(':').map_or((rest, None), |(file, tag)| (file, Some(tag)));
    // OCI image-spec, annotations.md, "org.opencontainers.image.ref.name".
    let good = |tag: &str| {
        !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:@/+".contains(&b))
    };
    if let Some(tag) = tag.filter(|tag| !good(tag)) {
        return Err(ImageSourceError::Tag(tag.chars().take(80).collect()));
    }
    Ok(Layout { path: path(transport, example, file)?, tag: tag.map(str::to_owned) })
}

fn dockerfile(rest: &str) -> Result<Dockerfile, ImageSourceError> {
    let (directory, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let directory = path("dockerfile", "project", directory)?;
    let mut dockerfile = Dockerfile { directory, file: None, target: None, arguments: BTreeMap::new() };
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let unknown = || ImageSourceError::Parameter(parameter.chars().take(80).collect());
        let (name, value) = parameter.split_once('=').ok_or_else(unknown)?;
        let value = percent_decode_str(value).decode_utf8().map_err(|_| unknown())?.into_owned();
        if value.is_empty() || value.contains('\0') {
            return Err(unknown());
        }
        match name {
            "file" => dockerfile.file = Some(value),
            "target" => dockerfile.target = Some(value),
            "arg" => {
                let (name, value) = value.split_once('=').ok_or_else(unknown)?;
                let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                if name.is_empty() || !name.bytes().all(is_word) {
                    return Err(unknown());
                }
                dockerfile.arguments.insert(name.to_owned(), value.to_owned());
            }
            _ => return Err(unknown()),
        }
    }
    Ok(dockerfile)
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { suite, packages } => {
                write!(f, "debian:{suite}")?;
                packages.iter().try_for_each(|package| write!(f, "+{package}"))
            }
            Self::Docker(reference) => write!(f, "docker://{reference}"),
            Self::Oci(layout) => write!(f, "oci:{layout}"),
            Self::OciArchive(layout) => write!(f, "oci-archive:{layout}"),
            Self::DockerArchive { path, reference } => {
                write!(f, "docker-archive:{}", path.display())?;
                reference.iter().try_for_each(|reference| write!(f, ":{reference}"))
            }
            Self::DockerDaemon(reference) => write!(f, "docker-daemon:{reference}"),
            Self::ContainersStorage(reference) => write!(f, "containers-storage:{reference}"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Tar(path) => write!(f, "tar:{}", path.display()),
            Self::Dockerfile(dockerfile) => write!(f, "dockerfile:{dockerfile}"),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}={}", encoded(value)))
        };
        let arguments =
            self.arguments.iter().map(|(name, value)| format!("arg={}", encoded(&format!("{name}={value}"))));
        let parameters =
            single("file", &self.file).into_iter().chain(single("target", &self.target)).chain(arguments);
        let parameters = parameters.collect::<Vec<_>>().join("&");
        write!(f, "{}{}{parameters}", self.directory.display(), if parameters.is_empty() { "" } else { "?" })
    }
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_secure_by_tls_or_by_this_host() {
        for good in
            ["https://a.example/b", "http://127.0.0.1:80/", "http://localhost:8080", "http://[::1]:1/x?y"]
        {
            assert!(is_secure_address(good), "{good}");
        }
        for bad in [
            "http://a.example/",
            "http://127.0.0.1/",
            "http://localhost:x@a.example/",
            "http://localhost:80@a.example/",
            "http://127.0.0.1:80\\@a.example/",
            "http://localhost.a.example:80/",
            "http://a.example?@localhost:80/",
            "ftp://localhost:80/",
            "localhost:80",
            "",
        ] {
            assert!(!is_secure_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_source_reads_back_as_it_prints() {
        for text in [
            "debian:bookworm",
            "debian:trixie+nodejs",
            "debian:sid+g+++golang-go+libstdc++-12-dev",
            "tar:/x y",
            "docker://quay.io/a/b:c",
            "oci:/a/b",
            "oci:/a/b:1.0",
            "oci-archive:/a.tar:x/y",
            "docker-archive:/a.tar",
            "docker-archive:/a.tar:docker.io/library/a:b",
            "docker-daemon:docker.io/library/a:b",
            "containers-storage:localhost/a:b",
            "dir:/a",
            "dockerfile:/src",
            "dockerfile:/src?file=docker/Dockerfile&target=dev&arg=A=1%262&arg=B=x=y",
        ] {
            assert_eq!(text.parse::<ImageSource>().unwrap().to_string(), text);
            assert!(ImageSource::has_transport(text), "{text}");
        }
        let Ok(ImageSource::Debian { packages, .. }) = "debian:sid+g+++golang".parse() else { panic!() };
        assert_eq!(packages.iter().map(ToString::to_string).collect::<Vec<_>>(), ["g++", "golang"]);
        let Ok(ImageSource::Dockerfile(file)) = "dockerfile:.?arg=A=1%262".parse() else { panic!() };
        assert_eq!(file.arguments["A"], "1&2");
        let mut source = ImageSource::Dockerfile(file);
        source.set_path("/w".into()).unwrap();
        assert_eq!(source.path(), Some(Path::new("/w")));
    }

    #[test]
    fn a_path_that_would_read_back_as_another_one_is_refused() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let no_text = Path::new(OsStr::from_bytes(b"/\xff"));
        for (text, path) in [
            ("oci:a", "/b:c/a".as_ref()),
            ("oci-archive:a:tag", "/b:c/a".as_ref()),
            ("docker-archive:a", "/b:c/a".as_ref()),
            ("dockerfile:a", "/b?/a".as_ref()),
            ("tar:a", no_text),
            ("dir:a", "".as_ref()),
        ] {
            let mut source: ImageSource = text.parse().unwrap();
            assert!(source.set_path(path.to_owned()).is_err(), "{text} {}", path.display());
            assert_eq!(source, text.parse().unwrap());
        }
        let mut source: ImageSource = "tar:a".parse().unwrap();
        source.set_path("/b:c?/a".into()).unwrap();
        assert_eq!(source.to_string(), "tar:/b:c?/a");
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "bookworm",
            "alpine:3",
            "debian:",
            "debian:-x",
            "debian:a b",
            "debian:x/../y",
            "debian:bookworm+",
            "debian:bookworm+A",
            "debian:bookworm+x",
            "debian:bookworm+a;b",
            "debian:bookworm+$(x)",
            "debian:BOOKWORM",
            "debian:[x]",
            "tar:",
            "dir:",
            "oci:",
            "oci:/a:",
            "oci:/a:b c",
            "oci-archive::x",
            "docker-archive:",
            "docker-archive:/a:B",
            "docker://",
            "docker://A",
            "docker-daemon:",
            "containers-storage:-x",
            "dockerfile:",
            "dockerfile:/a?x=y",
            "dockerfile:/a?file",
            "dockerfile:/a?file=",
            "dockerfile:/a?arg=x",
            "dockerfile:/a?arg=a-b=c",
            "dockerfile:/a?file=%00",
            "dockerfile:/a?file=%ff",
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text}");
        }
        assert!(!ImageSource::has_transport("alpine:3") && !ImageSource::has_transport("docker:dind"));
    }
}
