//! The images and kernels that banger knows by name: its own catalog, lists from elsewhere, and the user's file, the later
//! before the earlier.

mod document;
mod embedded;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use banger_core::work::{Cancelled, Work};
use banger_download::{DownloadError, Downloader, Source};
use banger_image::kernel::KernelSource;
use banger_types::digest::Digest;
use banger_types::source::ImageSource;
use banger_types::{ApiError, ErrorKind};
use sha2::Digest as _;
use tokio::sync::Notify;

use self::document::{Author, Document};
use banger_configuration::CatalogList;
pub(crate) use document::{Entries, Entry};
pub(crate) use embedded::unpack as unpack_embedded;

/// Where entries of banger's own come from.
const OWN: &str = "banger";
/// Banger's own catalog.
const TEXT: &str = include_str!("catalog.toml");
/// Most bytes of a list.
const LARGEST_LIST: u64 = 4 << 20;

/// All catalogs together.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    document: Document,
    /// What could not be had, as sentences without a full stop.
    pub(crate) problems: Vec<String>,
}

/// Where catalogs are.
#[derive(Debug)]
pub(crate) struct Catalogs {
    /// The user's file, which need not be there.
    pub(crate) file: Option<PathBuf>,
    /// Lists from elsewhere.
    pub(crate) lists: Vec<CatalogList>,
    /// A directory for what has come of them.
    pub(crate) kept: PathBuf,
    /// Held while a list is downloaded: two that want the same one do not write to the same file.
    pub(crate) downloading: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// Returns what is known of an image.
    pub(crate) fn image(&self, name: &str) -> Option<&Entry<ImageSource>> {
        self.document.images.get(name)
    }

    /// Returns what is known of a kernel.
    pub(crate) fn kernel(&self, name: &str) -> Option<&Entry<KernelSource>> {
        self.document.kernels.get(name)
    }

    /// Returns all images and all kernels that it knows.
    pub(crate) fn into_entries(self) -> (Entries<ImageSource>, Entries<KernelSource>) {
        (self.document.images, self.document.kernels)
    }
}

impl Catalogs {
    /// Reads them all. A list that cannot be had is a problem; the user's file that makes no sense is an error, for what it
    /// replaces would be taken for what it means.
    pub(crate) async fn read(&self, work: &dyn Work) -> Result<Catalog, ApiError> {
        let document = Document::parse(TEXT, Author::Banger, OWN).map_err(|error| unusable(OWN, &error))?;
        let mut catalog = Catalog { document, problems: Vec::new() };
        for list in &self.lists {
            match self.list(list, work).await {
                Ok(document) => catalog.document.extend(document),
                Err(error) if work.check().is_err() => return Err(error),
                Err(error) => catalog.problems.push(format!("{error}: {}", error.why.join(": "))),
            }
        }
        if let Some(path) = &self.file
            && let Some(text) =
                read_if_there(path).map_err(|error| unusable(&path.display().to_string(), &error))?
        {
            let origin = path.display().to_string();
            let own =
                Document::parse(&text, Author::User, &origin).map_err(|error| unusable(&origin, &error))?;
            catalog.document.extend(own);
        }
        Ok(catalog)
    }

    /// Returns a list: what was kept of it, or what its address has.
    async fn list(&self, list: &CatalogList, work: &dyn Work) -> Result<Document, ApiError> {
        let CatalogList { url, sha256: digest } = list;
        let error = |error: &(dyn std::error::Error + 'static)| unusable(url, error);
        let path = self.kept.join(format!("{}.toml", digest.digits()));
        let is_whole = |text: &String| Digest::from_bytes(sha2::Sha256::digest(text).into()) == *digest;
        let cancelled = Arc::new(Notify::new());
        let told = Arc::clone(&cancelled);
        let _listening = work.on_cancel(Box::new(move || told.notify_one()));
        let _alone = tokio::select! {
            alone = self.downloading.lock() => alone,
            () = cancelled.notified() => return Err(error(&Cancelled)),
        };
        let text = if let Some(text) = read_if_there(&path).map_err(|it| error(&it))?.filter(is_whole) {
            // So that it is not taken for one that nobody wants.
            let touched = std::fs::File::options().append(true).open(&path);
            touched.and_then(|file| file.set_modified(SystemTime::now())).map_err(|it| error(&it))?;
            text
        } else {
            self.download(list, &path, work).await.map_err(|it| error(&it))?;
            fs_err::read_to_string(&path).map_err(|it| error(&it))?
        };
        Document::parse(&text, Author::Other, url).map_err(|it| error(&it))
    }

    async fn download(&self, list: &CatalogList, path: &Path, work: &dyn Work) -> Result<(), DownloadError> {
        let source = Source { url: list.url.clone(), digest: list.sha256, limit: LARGEST_LIST };
        Downloader::new()?.download(&source, path, work).await
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn unusable(catalog: &str, error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::caused_by(ErrorKind::Usage, format!("cannot use the catalog '{catalog}'"), error)
}

#[cfg(test)]
mod tests {
    use banger_core::work::Unwatched;

    use super::*;

    fn catalogs(directory: &Path) -> Catalogs {
        Catalogs {
            file: Some(directory.join("catalog.toml")),
            lists: Vec::new(),
            kept: directory.to_owned(),
            downloading: tokio::sync::Mutex::default(),
        }
    }

    #[tokio::test]
    async fn what_a_vm_gets_when_nothing_is_asked_for_is_in_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = catalogs(directory.path()).read(&Unwatched).await.unwrap();
        let golden = catalog.image(banger_configuration::DEFAULT_IMAGE).unwrap();
        assert!(catalog.kernel(banger_configuration::DEFAULT_KERNEL).is_some());
        for entry in catalog.document.images.values() {
            assert!(
                entry.kernel.as_deref().is_none_or(|kernel| catalog.kernel(kernel).is_some()),
                "{entry:?}"
            );
        }
        // The first one that anybody has makes it; the last needs least.
        assert!(matches!(golden.sources[0], ImageSource::Dockerfile(_)));
        assert!(matches!(golden.sources.last(), Some(ImageSource::Debian { .. })));
    }

    #[tokio::test]
    async fn the_users_file_replaces_what_is_under_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        let catalogs = catalogs(directory.path());
        let text =
            "[image.golden]\ndescription = \"Ours\"\nsources = [\"docker://registry.example/golden\"]\n";
        std::fs::write(directory.path().join("catalog.toml"), text).unwrap();
        let catalog = catalogs.read(&Unwatched).await.unwrap();
        assert_eq!(catalog.image("golden").unwrap().description, "Ours");
        assert!(catalog.image("debian").is_some());
        std::fs::write(directory.path().join("catalog.toml"), "[image.golden]\nsources = []\n").unwrap();
        let error = catalogs.read(&Unwatched).await.unwrap_err();
        assert!(error.to_string().contains("catalog.toml") && error.why[0].contains("line 1"), "{error:?}");
    }
}
