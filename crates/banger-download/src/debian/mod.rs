//! A Debian archive: what it has, and that it comes from Debian.
//!
//! Nothing of an archive is believed but what Debian's keys have signed. They sign a suite's `InRelease`, which names the
//! indexes by their digests, which name the packages by theirs; so it does not matter who a mirror belongs to. An `InRelease`
//! that is older than one that was seen, or whose time is over, is refused: else a mirror could keep back what mends a hole.

mod error;
mod keyring;
mod packages;
mod release;

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use banger_core::work::Work;
use banger_types::source::Suite;
pub use debversion::Version;
use fs_err as fs;
use jiff::Timestamp;
use reqwest::StatusCode;

pub use self::error::ArchiveError;
use self::keyring::{CLOCK_SKEW, Keyring};
pub use self::keyring::{KeyringError, SignatureError};
pub use self::packages::{Package, PackagesError};
pub use self::release::ReleaseError;
use self::release::{IndexFile, Release};
use crate::transfer::Transfer;
use crate::{Client, DownloadError, Source};

/// What a suite has, signed (<https://wiki.debian.org/DebianRepository/Format>, "Release files").
const RELEASE: &str = "InRelease";
/// Most bytes of an `InRelease`; Debian's have 0.2 MB.
const LARGEST_RELEASE: u64 = 1 << 20;
/// Most bytes that an index of packages unpacks to; Debian's have 60 MB.
const LARGEST_INDEX: u64 = 1 << 30;
/// Most memory that unpacking an index may take, bytes: what the highest level of xz needs.
const XZ_MEMORY: u64 = 65 << 20;
/// Where packages are that everybody may have and change.
const COMPONENT: &str = "main";
/// How indexes are packed, the best first.
const PACKED: [(&str, Packed); 2] = [("Packages.xz", Packed::Xz), ("Packages.gz", Packed::Gzip)];

/// What an index is packed with.
#[derive(Debug, Clone, Copy)]
enum Packed {
    Xz,
    Gzip,
}

/// A suite of an archive, as a line of sources.list(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The archive's address: `http://deb.debian.org/debian`.
    pub archive: String,
    /// The suite: `bookworm`, `bookworm-security`.
    pub suite: Suite,
}

impl Distribution {
    /// Returns whether the archive has it. That says nothing of whether it is to be believed.
    pub async fn is_there(&self, client: &Client, work: &dyn Work) -> Result<bool, DownloadError> {
        match client.document(&self.url(RELEASE), LARGEST_RELEASE, work).await {
            Ok(_) => Ok(true),
            Err(DownloadError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether an [`Archives`] that keeps its state in this directory has seen it.
    pub fn was_seen(&self, state: &Path) -> bool {
        self.remembered(state).exists()
    }

    /// Returns the file that remembers how new it was.
    fn remembered(&self, state: &Path) -> PathBuf {
        state.join(format!("{}.{REMEMBERED}", self.name()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/dists/{}/{path}", self.archive.trim_end_matches('/'), self.suite)
    }

    /// Returns a name for what is kept of it.
    fn name(&self) -> String {
        let address = self.archive.split_once("://").map_or(&*self.archive, |(_, address)| address);
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        format!("{}_{}", address.trim_end_matches('/'), self.suite).chars().map(plain).collect()
    }
}

/// Debian archives, and what is kept of them.
#[derive(Debug)]
pub struct Archives {
    client: Client,
    keyring: PathBuf,
    /// Indexes, so that one is downloaded once, and how new the newest was.
    state: PathBuf,
}

impl Archives {
    /// Returns archives that are believed if they are signed by a key in `keyring`, such as [`DEBIAN_KEYRING`](banger_types::source::DEBIAN_KEYRING). What is to be kept
    /// of them is in the directory `state`, which must be there; one at a time may use it.
    pub const fn new(client: Client, keyring: PathBuf, state: PathBuf) -> Self {
        Self { client, keyring, state }
    }

    /// Returns the packages of a suite whose names are wanted: those for this platform, in `main`.
    pub async fn packages(
        &self,
        distribution: &Distribution,
        wanted: impl Fn(&str) -> bool + Send + 'static,
        work: &dyn Work,
    ) -> Result<Vec<Package>, ArchiveError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| ArchiveError::File { path, source }
        };
        let release = self.release(distribution, work).await?;
        let found = PACKED.into_iter().find_map(|(name, packed)| {
            let path = format!("{COMPONENT}/binary-amd64/{name}");
            release.file(&path).map(|file| (path, packed, file))
        });
        let Some((path, packed, index)) = found else {
            return Err(ArchiveError::NoIndex { distribution: distribution.url(""), component: COMPONENT });
        };
        let kept = self.state.join(format!("{}_{}", distribution.name(), path.replace('/', "_")));
        self.index(distribution, &release, &path, index, &kept, work).await?;
        touch(&kept).map_err(file(&kept))?;
        let url = distribution.url(&path);
        let archive = distribution.archive.clone();
        let look = move || -> Result<Vec<Package>, ArchiveError> {
            let reader = packed.open(&kept).map_err(file(&kept))?;
            let found = packages::find(&archive, reader, &wanted);
            found.map_err(|source| ArchiveError::Packages { url, source })
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| ArchiveError::Interrupted)?
    }

    /// Downloads a package to `destination`, whose directory must be there. What of it was downloaded before is not
    /// downloaded again.
    pub async fn download(
        &self,
        package: &Package,
        destination: &Path,
        work: &dyn Work,
    ) -> Result<(), ArchiveError> {
        let url = format!("{}/{}", package.archive.trim_end_matches('/'), package.path);
        let source = Source { url, digest: package.digest, limit: package.size };
        Ok(self.transfer(&source, destination, work).await?)
    }

    /// Asks what a suite has, and whether that is to be believed.
    async fn release(&self, distribution: &Distribution, work: &dyn Work) -> Result<Release, ArchiveError> {
        let keyring = self.keyring.clone();
        let keyring = tokio::task::spawn_blocking(move || Keyring::read(&keyring));
        let keyring = keyring.await.map_err(|_| ArchiveError::Interrupted)??;
        let url = distribution.url(RELEASE);
        let signed = self.client.document(&url, LARGEST_RELEASE, work).await?;
        let now = Timestamp::now();
        let place = url.clone();
        let read = move || -> Result<Release, ArchiveError> {
            let text = keyring.verify(&signed, SystemTime::from(now));
            let text = text.map_err(|source| ArchiveError::Untrusted { url: place.clone(), source })?;
            Release::parse(&text).map_err(|source| ArchiveError::Release { url: place, source })
        };
        // Whatever somebody on the way has put there takes no thread from others.
        let release = tokio::task::spawn_blocking(read).await.map_err(|_| ArchiveError::Interrupted)??;
        if !release.is_of(distribution.suite.as_str()) {
            let (wanted, found) = (distribution.suite.to_string(), release.names());
            return Err(ArchiveError::OtherSuite { url, wanted, found });
        }
        self.check_age(distribution, &release, &url, now)?;
        Ok(release)
    }

    /// Refuses what is too old, and remembers how new it is.
    fn check_age(
        &self,
        distribution: &Distribution,
        release: &Release,
        url: &str,
        now: Timestamp,
    ) -> Result<(), ArchiveError> {
        let url = url.to_owned();
        if release.date > now + CLOCK_SKEW {
            return Err(ArchiveError::FromTheFuture { url, date: release.date });
        }
        if let Some(until) = release.valid_until.filter(|until| *until <= now) {
            return Err(ArchiveError::Expired { url, until });
        }
        let path = distribution.remembered(&self.state);
        let error = |source| ArchiveError::File { path: path.clone(), source };
        // One that cannot be read as a time is as good as none: nobody but the user writes here.
        let seen = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<Timestamp>().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(error(source)),
        };
        match seen {
            Some(seen) if release.date < seen => Err(ArchiveError::Older { url, date: release.date, seen }),
            Some(seen) if release.date == seen => Ok(()),
            _ => replace(&path, &format!("{}\n", release.date)).map_err(error),
        }
    }

    /// Downloads an index, if what is kept is another one.
    async fn index(
        &self,
        distribution: &Distribution,
        release: &Release,
        path: &str,
        index: IndexFile,
        kept: &Path,
        work: &dyn Work,
    ) -> Result<(), ArchiveError> {
        let source =
            |path: &str| Source { url: distribution.url(path), digest: index.digest, limit: index.size };
        if release.by_hash {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let by_hash = source(&format!("{directory}/by-hash/SHA256/{}", index.digest.digits()));
            match self.transfer(&by_hash, kept, work).await {
                // Some mirrors leave them out.
                Err(DownloadError::Refused { status: StatusCode::NOT_FOUND, .. }) => {}
                other => return Ok(other?),
            }
        }
        Ok(self.transfer(&source(path), kept, work).await?)
    }

    async fn transfer(
        &self,
        source: &Source,
        destination: &Path,
        work: &dyn Work,
    ) -> Result<(), DownloadError> {
        let (server, patience) = (&self.client, self.client.patience);
        Transfer { server, patience, source, destination, work }.run().await
    }
}

impl Packed {
    /// Opens a file that is packed so.
    fn open(self, path: &Path) -> io::Result<Box<dyn BufRead>> {
        let file = BufReader::new(fs::File::open(path)?);
        let unpacked: Box<dyn Read> = match self {
            Self::Gzip => Box::new(flate2::bufread::GzDecoder::new(file)),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
            }
        };
        Ok(Box::new(BufReader::new(unpacked.take(LARGEST_INDEX))))
    }
}

/// How the names of files end that remember how new a mirror's answers were: an older one is not believed.
const REMEMBERED: &str = "date";

/// Returns whether a file is one without which an older state of a mirror would be believed: it stays, however old it is.
pub fn is_remembered(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == REMEMBERED)
}

/// Remembers that a file was used now.
fn touch(path: &Path) -> io::Result<()> {
    fs::File::options().append(true).open(path)?.file().set_modified(SystemTime::now())
}

/// Writes a small file, in one step.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)
}
