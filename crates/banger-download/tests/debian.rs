//! An archive on loopback that the tests sign with keys of their own, and what is not to be believed of one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use banger_core::work::Unwatched;
use banger_download::debian::{ArchiveError, Archives, Distribution, Package, SignatureError};
use banger_download::{Client, DownloadError, Patience};
use banger_testkit::{FileServer, Serving};
use banger_types::digest::Digest;
use jiff::{SignedDuration, Timestamp};
use pgp::composed::{
    CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::ser::Serialize as _;
use pgp::types::Password;
use sha2::Digest as _;

const INDEX: &str = "main/binary-amd64/Packages.xz";
const POOL: &str = "pool/main/l/linux/linux-image-1_1.0-1_amd64.deb";

/// A key as an archive's is: the primary one signs nothing, a subkey does.
fn key() -> SignedSecretKey {
    let mut subkey = SubkeyParamsBuilder::default();
    subkey.key_type(KeyType::Ed25519Legacy).can_sign(true);
    let mut parameters = SecretKeyParamsBuilder::default();
    parameters
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(false)
        .primary_user_id("Test archive <archive@example.org>".to_owned())
        .subkey(subkey.build().unwrap());
    parameters.build().unwrap().generate(rand::thread_rng()).unwrap()
}

fn digits(content: &[u8]) -> String {
    Digest::from_bytes(sha2::Sha256::digest(content).into()).digits()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// What an archive has.
struct Content {
    suite: &'static str,
    date: Timestamp,
    valid_until: Option<Timestamp>,
    by_hash: bool,
    package: Vec<u8>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            suite: "bookworm",
            date: Timestamp::now(),
            valid_until: None,
            by_hash: true,
            package: b"a package".repeat(50_000),
        }
    }
}

impl Content {
    fn index(&self) -> Vec<u8> {
        let (size, digest) = (self.package.len(), digits(&self.package));
        xz(format!(
            "Package: other\nVersion: 1\n\nPackage: linux-image-1\nVersion: 1.0-1\nDepends: kmod, linux-base (>= 4.3~)\n\
             Filename: {POOL}\nSize: {size}\nSHA256: {digest}\n\n"
        )
        .as_bytes())
    }

    fn release(&self) -> String {
        let time = |time: Timestamp| time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
        let mut text = format!(
            "Origin: Debian\nSuite: oldstable\nCodename: {}\nDate: {}\n",
            self.suite,
            time(self.date)
        );
        if let Some(until) = self.valid_until {
            writeln!(text, "Valid-Until: {}", time(until)).unwrap();
        }
        if self.by_hash {
            text += "Acquire-By-Hash: yes\n";
        }
        let index = self.index();
        text + &format!("SHA256:\n {} {} {INDEX}\n", digits(&index), index.len())
    }

    /// Returns its files, the release signed by a key.
    fn files(&self, key: &SignedSecretKey) -> Vec<(String, Vec<u8>)> {
        let signer = &key.secret_subkeys[0].key;
        let signed =
            CleartextSignedMessage::sign(rand::thread_rng(), &self.release(), signer, &Password::empty());
        let signed = signed.unwrap().to_armored_bytes(pgp::composed::ArmorOptions::default()).unwrap();
        let dists = |path: &str| format!("debian/dists/bookworm/{path}");
        let index = self.index();
        let by_hash = format!("main/binary-amd64/by-hash/SHA256/{}", digits(&index));
        vec![
            (dists("InRelease"), signed),
            (dists(INDEX), index.clone()),
            (dists(&by_hash), index),
            (format!("debian/{POOL}"), self.package.clone()),
        ]
    }
}

struct Fixture {
    server: FileServer,
    key: SignedSecretKey,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(content: &Content) -> Self {
        Self::serving(content, Serving::default())
    }

    fn serving(content: &Content, serving: Serving) -> Self {
        let (key, directory) = (key(), tempfile::tempdir().unwrap());
        let files = content.files(&key).into_iter().collect();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        std::fs::write(directory.path().join("keyring.gpg"), key.to_public_key().to_bytes().unwrap())
            .unwrap();
        Self { server: FileServer::start(Serving { files, ..serving }), key, directory }
    }

    fn archives(&self) -> Archives {
        let patience = Patience { pause: Duration::from_millis(1), ..Patience::default() };
        let client = Client::new(&[], patience).unwrap();
        let path = |name| self.directory.path().join(name);
        Archives::new(client, path("keyring.gpg"), path("state"))
    }

    async fn packages(&self) -> Result<Vec<Package>, ArchiveError> {
        let archive = self.server.url("debian/");
        let distribution = Distribution { archive, suite: "bookworm".parse().unwrap() };
        let wanted = |name: &str| name.starts_with("linux-image-");
        self.archives().packages(&distribution, wanted, &Unwatched).await
    }

    fn put(&self, content: &Content) {
        self.server.put(content.files(&self.key));
    }

    /// Changes a file of the archive.
    fn change(&self, path: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        let path = format!("debian/dists/bookworm/{path}");
        let files = Content::default().files(&self.key);
        let content = files.into_iter().find(|(name, _)| *name == path).unwrap().1;
        self.server.put([(path, change(content))]);
    }
}

fn replaced(content: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(content).unwrap();
    assert!(text.contains(from), "{text}");
    text.replace(from, to).into_bytes()
}

#[tokio::test]
async fn a_package_is_found_and_downloaded_and_its_index_only_once() {
    let content = Content::default();
    let fixture = Fixture::new(&content);
    let found = fixture.packages().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].name, found[0].version.to_string()), ("linux-image-1", "1.0-1".to_owned()));
    assert_eq!(found[0].depends, "kmod, linux-base (>= 4.3~)");
    let file = fixture.directory.path().join("package.deb");
    fixture.archives().download(&found[0], &file, &Unwatched).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), content.package);
    fixture.packages().await.unwrap();
    let paths = fixture.server.paths();
    let of = |end: &str| paths.iter().filter(|path| path.ends_with(end)).count();
    assert_eq!((of("InRelease"), of(&digits(&content.index())), of("Packages.xz")), (2, 1, 0), "{paths:?}");
}

#[tokio::test]
async fn a_mirror_without_names_by_digest_will_do() {
    let content = Content::default();
    let fixture = Fixture::new(&content);
    let by_hash = format!("main/binary-amd64/by-hash/SHA256/{}", digits(&content.index()));
    fixture.server.remove(&format!("debian/dists/bookworm/{by_hash}"));
    assert_eq!(fixture.packages().await.unwrap().len(), 1);
    let fixture = Fixture::new(&Content { by_hash: false, ..Content::default() });
    assert_eq!(fixture.packages().await.unwrap().len(), 1);
    assert!(!fixture.server.paths().iter().any(|path| path.contains("by-hash")));
}

#[tokio::test]
async fn a_changed_release_is_refused() {
    let fixture = Fixture::new(&Content::default());
    fixture.change("InRelease", |signed| replaced(&signed, "Origin: Debian", "Origin: Somebody"));
    let error = fixture.packages().await.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Untrusted { source: SignatureError::Changed(_), .. }),
        "{error:?}"
    );
    assert!(error.fix().unwrap().contains("use another mirror"));
    // Not signed at all.
    fixture.change("InRelease", |_| Content::default().release().into_bytes());
    let error = fixture.packages().await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Untrusted { source: SignatureError::NotSigned, .. }), "{error:?}");
    assert!(
        !fixture.directory.path().join("state").read_dir().unwrap().any(|_| true),
        "nothing is kept of it"
    );
}

#[tokio::test]
async fn nothing_may_stand_around_the_signed_text() {
    let fixture = Fixture::new(&Content::default());
    let extra = b"Codename: bookworm\nDate: Sat, 11 Jul 2099 10:16:37 UTC\nSHA256:\n";
    fixture.change("InRelease", |signed| [extra, &signed[..]].concat());
    let refused = |error: &ArchiveError| {
        matches!(error, ArchiveError::Untrusted { source: SignatureError::NotSigned, .. })
    };
    assert!(refused(&fixture.packages().await.unwrap_err()));
    fixture.change("InRelease", |signed| [&signed[..], extra].concat());
    assert!(refused(&fixture.packages().await.unwrap_err()));
}

#[tokio::test]
async fn a_key_that_is_not_debians_is_refused() {
    let fixture = Fixture::new(&Content::default());
    fixture.server.put(Content::default().files(&key()));
    let error = fixture.packages().await.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Untrusted { source: SignatureError::UnknownKey(_), .. }),
        "{error:?}"
    );
    assert!(error.fix().unwrap().contains("keys may have this one"));
}

#[tokio::test]
async fn no_keys_is_an_error_that_names_their_package() {
    let fixture = Fixture::new(&Content::default());
    std::fs::remove_file(fixture.directory.path().join("keyring.gpg")).unwrap();
    let error = fixture.packages().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Keyring(_)), "{error:?}");
    assert!(error.fix().unwrap().contains("debian-archive-keyring"));
    assert!(fixture.server.paths().is_empty(), "nothing is asked for what cannot be verified");
    std::fs::write(fixture.directory.path().join("keyring.gpg"), "no keys").unwrap();
    assert!(matches!(fixture.packages().await.unwrap_err(), ArchiveError::Keyring(_)));
}

#[tokio::test]
async fn what_has_expired_or_is_from_the_future_is_refused() {
    let now = Timestamp::now();
    let day = SignedDuration::from_hours(24);
    let expired = Content { date: now - day, valid_until: Some(now - day / 24), ..Content::default() };
    let fixture = Fixture::new(&expired);
    assert!(matches!(fixture.packages().await.unwrap_err(), ArchiveError::Expired { .. }));
    fixture.put(&Content { date: now + day, ..Content::default() });
    assert!(matches!(fixture.packages().await.unwrap_err(), ArchiveError::FromTheFuture { .. }));
    fixture.put(&Content { valid_until: Some(now + day), ..Content::default() });
    fixture.packages().await.unwrap();
}

#[tokio::test]
async fn what_is_older_than_before_is_refused() {
    let now = Timestamp::now();
    let hour = SignedDuration::from_hours(1);
    let fixture = Fixture::new(&Content { date: now - hour, ..Content::default() });
    fixture.packages().await.unwrap();
    fixture.put(&Content { date: now - hour * 2, ..Content::default() });
    let error = fixture.packages().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Older { .. }), "{error:?}");
    assert!(error.fix().unwrap().contains("not up to date"));
    // The same one, and a newer one, are fine.
    fixture.put(&Content { date: now - hour, ..Content::default() });
    fixture.packages().await.unwrap();
    fixture.put(&Content { date: now, ..Content::default() });
    fixture.packages().await.unwrap();
}

#[tokio::test]
async fn another_suite_is_refused_although_debian_signed_it() {
    let fixture = Fixture::new(&Content { suite: "bullseye", ..Content::default() });
    let error = fixture.packages().await.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::OtherSuite { found, .. } if found == "oldstable, bullseye"),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_index_and_a_package_that_were_changed_are_refused() {
    let content = Content::default();
    let fixture = Fixture::new(&content);
    let spoil = |mut content: Vec<u8>| {
        content[20] ^= 1;
        content
    };
    let by_hash = format!("main/binary-amd64/by-hash/SHA256/{}", digits(&content.index()));
    fixture.change(&by_hash, spoil);
    let error = fixture.packages().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Download(DownloadError::Digest { .. })), "{error:?}");
    fixture.put(&content);
    let package = fixture.packages().await.unwrap().remove(0);
    let (file, other) = (fixture.directory.path().join("package.deb"), spoil(content.package.clone()));
    fixture.server.put([(format!("debian/{POOL}"), other)]);
    let error = fixture.archives().download(&package, &file, &Unwatched).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Download(DownloadError::Digest { .. })), "{error:?}");
    // One that is longer than the index says is not even read to its end.
    fixture.server.put([(format!("debian/{POOL}"), content.package.repeat(2))]);
    let error = fixture.archives().download(&package, &file, &Unwatched).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Download(DownloadError::TooLong { .. })), "{error:?}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_cut_download_goes_on() {
    // The release, the index, and the package in three parts.
    let cuts = vec![usize::MAX, usize::MAX, 100_000, 150_000];
    let content = Content::default();
    let fixture = Fixture::serving(&content, Serving { cuts, ranges: true, ..Serving::default() });
    let package = fixture.packages().await.unwrap().remove(0);
    let file = fixture.directory.path().join("package.deb");
    fixture.archives().download(&package, &file, &Unwatched).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), content.package);
    let asked = fixture.server.asked();
    let ranges: Vec<_> = asked.iter().flatten().map(String::as_str).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=250000-"]);
}
