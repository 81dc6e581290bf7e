//! A catalog's text: TOML, with a table for each image and each kernel.

use std::collections::BTreeMap;
use std::path::Path;

use banger_image::kernel::{KernelSource, KernelSourceError};
use banger_types::source::{ImageSource, ImageSourceError};
use serde::Deserialize;

/// What a catalog knows of one image or kernel, whose sources are of the kind `S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<S> {
    /// What it is, on one line.
    pub(crate) description: String,
    /// The kernel of an image's VMs, unless another one is asked for.
    pub(crate) kernel: Option<String>,
    /// Where it can be had, in the order in which that is tried.
    pub(crate) sources: Vec<S>,
    /// The catalog that has it: a file, an address, or [`super::OWN`].
    pub(crate) origin: String,
}

/// Entries by their names.
pub(crate) type Entries<S> = BTreeMap<String, Entry<S>>;

/// A catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Document {
    pub(super) images: Entries<ImageSource>,
    pub(super) kernels: Entries<KernelSource>,
}

/// Who wrote a catalog, and so what may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// Us: relative paths mean what is part of the program.
    Banger,
    /// The user of this host: paths are absolute.
    User,
    /// Somebody else, who knows nothing of this host's files.
    Other,
}

/// Why a text is no catalog.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// It is not of the form.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// An entry that nothing could be made of.
    #[error("its {noun} '{name}' {problem}")]
    Entry {
        /// `image` or `kernel`.
        noun: &'static str,
        name: String,
        /// What is wrong with it, as a clause.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    image: BTreeMap<String, WrittenEntry>,
    #[serde(default)]
    kernel: BTreeMap<String, WrittenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    description: String,
    kernel: Option<String>,
    sources: Vec<String>,
}

impl Document {
    /// Reads a catalog.
    pub(super) fn parse(text: &str, author: Author, origin: &str) -> Result<Self, DocumentError> {
        let Written { image, kernel } = toml::from_str(text)?;
        let image_source = |text: &str| {
            let source: ImageSource = text.parse().map_err(|error: ImageSourceError| error.to_string())?;
            check(&source, author).map(|()| source)
        };
        let kernel_source = |text: &str| {
            let source: KernelSource = text.parse().map_err(|error: KernelSourceError| error.to_string())?;
            check_kernel(&source, author).map(|()| source)
        };
        Ok(Self {
            images: entries("image", image, origin, image_source)?,
            kernels: entries("kernel", kernel, origin, kernel_source)?,
        })
    }

    /// Takes what another catalog has in place of what is here under the same name.
    pub(super) fn extend(&mut self, other: Self) {
        self.images.extend(other.images);
        self.kernels.extend(other.kernels);
    }
}

fn entries<S>(
    noun: &'static str,
    written: BTreeMap<String, WrittenEntry>,
    origin: &str,
    read: impl Fn(&str) -> Result<S, String>,
) -> Result<Entries<S>, DocumentError> {
    let entry = |(name, written): (String, WrittenEntry)| {
        let WrittenEntry { description, kernel, sources } = written;
        let problem = |problem: String| DocumentError::Entry { noun, name: name.clone(), problem };
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(problem("has a name that is empty or has spaces in it".to_owned()));
        }
        if kernel.is_some() && noun != "image" {
            return Err(problem("has a kernel, which only an image has".to_owned()));
        }
        if sources.is_empty() {
            return Err(problem("has no sources".to_owned()));
        }
        let sources = sources.iter().map(|text| read(text));
        let sources =
            sources.collect::<Result<_, _>>().map_err(|why| problem(format!("has a bad source: {why}")))?;
        // Shown on one line, to a terminal.
        let description = description.chars().filter(|c| !c.is_control()).collect();
        Ok((name, Entry { description, kernel, sources, origin: origin.to_owned() }))
    };
    written.into_iter().map(entry).collect()
}

/// Whether a source may be named by who names it; else why not.
fn check(source: &ImageSource, author: Author) -> Result<(), String> {
    let path = source.path();
    match (author, source) {
        (Author::Banger, _) | (Author::Other, ImageSource::Docker(_) | ImageSource::Debian { .. }) => Ok(()),
        (Author::User, _) if path.is_none_or(Path::is_absolute) => Ok(()),
        (Author::User, _) => Err(format!("the path of '{source}' is not absolute")),
        (Author::Other, _) => Err(format!(
            "'{source}' is something of this host; a catalog from elsewhere may name docker:// and debian: only"
        )),
    }
}

/// The same for a kernel's.
fn check_kernel(source: &KernelSource, author: Author) -> Result<(), String> {
    match source {
        KernelSource::Address { url, .. } if author == Author::Other && !url.starts_with("https://") => {
            Err(format!("'{source}' is something of this host"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[image.mine]\ndescription = \"Mine\"\nkernel = \"debian\"\nsources = [\"dockerfile:/home/me/mine\"]\n\
        [kernel.old]\ndescription = \"Old\"\nsources = [\"debian:bookworm\"]\n";

    fn why(text: &str, author: Author) -> String {
        Document::parse(text, author, "here").unwrap_err().to_string()
    }

    #[test]
    fn entries_have_a_description_and_sources() {
        let document = Document::parse(TEXT, Author::User, "here").unwrap();
        let mine = &document.images["mine"];
        assert_eq!((&*mine.description, mine.kernel.as_deref()), ("Mine", Some("debian")));
        assert_eq!(mine.sources, ["dockerfile:/home/me/mine".parse().unwrap()]);
        assert_eq!(document.kernels["old"].sources, ["debian:bookworm".parse().unwrap()]);
        assert_eq!(Document::parse("", Author::User, "here").unwrap(), Document::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let change = |from: &str, to: &str| why(&TEXT.replace(from, to), Author::User);
        assert_eq!(change("[\"debian:bookworm\"]", "[]"), "its kernel 'old' has no sources");
        assert!(change("debian:bookworm", "debian:").contains("its kernel 'old' has a bad source: "));
        assert!(change("dockerfile:/home/me/mine", "dockerfile:mine").contains("is not absolute"));
        assert!(change("[kernel.old]", "[kernel.old]\nkernel = \"x\"").contains("which only an image has"));
        assert!(change("image.mine", "image.\"my own\"").contains("spaces"));
        assert!(change("description = \"Old\"", "descripton = \"Old\"").contains("line 6"));
    }

    #[test]
    fn a_catalog_from_elsewhere_names_nothing_of_this_host() {
        assert!(why(TEXT, Author::Other).contains("is something of this host"));
        let text = TEXT.replace("dockerfile:/home/me/mine", "docker://registry.example/mine:1");
        assert!(Document::parse(&text, Author::Other, "here").is_ok());
        let kernel = |url: &str| {
            let url = format!("{url}#sha256={}", "0".repeat(64));
            format!("[kernel.k]\ndescription = \"\"\nsources = [\"{url}\"]\n")
        };
        assert!(Document::parse(&kernel("https://there.example/k"), Author::Other, "here").is_ok());
        assert!(why(&kernel("http://127.0.0.1:80/k"), Author::Other).contains("is something of this host"));
        assert!(Document::parse(&kernel("http://127.0.0.1:80/k"), Author::User, "here").is_ok());
    }
}
