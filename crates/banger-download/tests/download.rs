//! Downloads from a server on loopback that cuts, refuses and lies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use banger_core::work::{CancelGuard, Cancelled, Unwatched, Work};
use banger_download::{DownloadError, Downloader, Source};
use banger_testkit::{FileServer, Serving, SmallDisk};
use banger_types::digest::Digest;
use banger_types::operation::Unit;
use sha2::Digest as _;

/// Length of the file, bytes: many packets.
const LENGTH: usize = 3 << 20;

fn content() -> Vec<u8> {
    (0..LENGTH).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(content).into())
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    fn names(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }
}

fn source(server: &FileServer) -> Source {
    Source { url: server.url("file"), digest: digest(&content()), limit: LENGTH as u64 }
}

async fn download(source: &Source, file: &Path) -> Result<(), DownloadError> {
    Downloader::new().unwrap().download(source, file, &Unwatched).await
}

#[tokio::test]
async fn a_whole_file_gets_its_name() {
    let server = FileServer::start(Serving { content: content(), ..Serving::default() });
    let place = Place::new();
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
    assert_eq!(place.names(), 1);
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let serving =
        Serving { content: content(), cuts: vec![100_000, 50_000], ranges: true, ..Serving::default() };
    let server = FileServer::start(serving);
    let place = Place::new();
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
    let ranges = ["bytes=100000-", "bytes=150000-"].map(|range| Some(range.to_owned()));
    assert_eq!(server.asked(), [&[None], &ranges[..]].concat());
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_all_of_it_again() {
    let server = FileServer::start(Serving { content: content(), cuts: vec![100_000], ..Serving::default() });
    let place = Place::new();
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
}

#[tokio::test]
async fn what_is_given_up_is_kept_for_the_next_time() {
    let cuts = vec![100_000, 0, 0, 0];
    let serving = Serving { content: content(), cuts, ranges: true, ..Serving::default() };
    let server = FileServer::start(serving);
    let place = Place::new();
    let error = download(&source(&server), &place.file()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Transport { .. } | DownloadError::Cut { .. }), "{error}");
    assert!(error.fix().unwrap().contains("goes on where it was cut"));
    assert!(!place.file().exists());
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
    assert_eq!(server.asked().last().unwrap().as_deref(), Some("bytes=100000-"));
}

#[tokio::test]
async fn another_file_is_refused_and_leaves_nothing() {
    let mut other = content();
    other[LENGTH / 2] ^= 1;
    let server = FileServer::start(Serving { content: other.clone(), ranges: true, ..Serving::default() });
    let place = Place::new();
    let error = download(&source(&server), &place.file()).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains(&digest(&content()).to_string()), "{words}");
    assert!(words.contains(&digest(&other).to_string()), "{words}");
    assert_eq!(place.names(), 0);
}

#[tokio::test]
async fn what_was_spoiled_on_the_disk_is_downloaded_anew() {
    let cuts = vec![100_000, 0, 0, 0];
    let serving = Serving { content: content(), cuts, ranges: true, ..Serving::default() };
    let server = FileServer::start(serving);
    let place = Place::new();
    download(&source(&server), &place.file()).await.unwrap_err();
    let partial = std::fs::read_dir(place.directory.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(partial, b"spoiled").unwrap();
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
}

#[tokio::test]
async fn a_longer_file_than_can_be_is_not_read_to_its_end() {
    let server = FileServer::start(Serving { content: content(), ..Serving::default() });
    let place = Place::new();
    let source = Source { limit: 100_000, ..source(&server) };
    let error = download(&source, &place.file()).await.unwrap_err();
    assert!(matches!(error, DownloadError::TooLong { limit: 100_000, .. }), "{error}");
    assert_eq!(place.names(), 0);
}

#[tokio::test]
async fn a_servers_no_is_told_and_its_trouble_waited_for() {
    let refusing = |refusals: Vec<u16>| {
        FileServer::start(Serving { content: content(), refusals, ..Serving::default() })
    };
    let place = Place::new();
    let server = refusing(vec![404]);
    let error = download(&source(&server), &place.file()).await.unwrap_err();
    assert!(error.to_string().contains("the server answers 404"), "{error}");
    assert_eq!((server.asked().len(), place.names()), (1, 0));
    let server = refusing(vec![503, 503]);
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn what_is_there_already_is_not_asked_for() {
    let server = FileServer::start(Serving { content: content(), ..Serving::default() });
    let place = Place::new();
    std::fs::write(place.file(), "another").unwrap();
    for _ in 0..2 {
        download(&source(&server), &place.file()).await.unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), content());
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_sends_another_part_is_asked_for_all_of_it() {
    let serving =
        Serving { content: content(), cuts: vec![100_000], ranges: true, shift: 1, ..Serving::default() };
    let server = FileServer::start(serving);
    let place = Place::new();
    download(&source(&server), &place.file()).await.unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), content());
    assert_eq!(server.asked(), [None, Some("bytes=100000-".to_owned()), None]);
}

#[tokio::test]
async fn a_server_that_cuts_and_sends_other_parts_is_given_up() {
    let serving =
        Serving { content: content(), cuts: vec![100_000; 20], ranges: true, shift: 1, ..Serving::default() };
    let server = FileServer::start(serving);
    download(&source(&server), &Place::new().file()).await.unwrap_err();
    assert!(server.asked().len() < 10, "{:?}", server.asked());
}

#[test]
fn what_nobody_has_gone_on_with_is_swept() {
    let place = Place::new();
    let (hour, young) = (Duration::from_hours(1), place.directory.path().join("young"));
    std::fs::write(&young, "").unwrap();
    let old = std::fs::File::create(place.file()).unwrap();
    old.set_modified(SystemTime::now() - 2 * hour).unwrap();
    let swept = banger_download::sweep(place.directory.path(), hour);
    assert_eq!((swept.removed, swept.errors.len()), (1, 0));
    assert!(young.exists() && place.names() == 1);
}

#[tokio::test]
async fn nobody_there_is_an_error_with_advice() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    drop(listener);
    let place = Place::new();
    let source = Source { url, digest: digest(&content()), limit: LENGTH as u64 };
    let error = download(&source, &place.file()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Transport { .. }), "{error}");
    assert!(error.fix().unwrap().contains("HTTPS_PROXY"));
}

type Notify = Box<dyn FnOnce() + Send>;

/// Work that is cancelled as soon as something has come.
#[derive(Default)]
struct CancelledSoon {
    cancelled: AtomicBool,
    notify: Arc<Mutex<Option<Notify>>>,
}

impl Work for CancelledSoon {
    fn stage(&self, _stage: &str) {}

    fn progress(&self, done: u64, _total: Option<u64>, _unit: Unit) {
        if done >= LENGTH as u64 / 2 {
            self.cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn log(&self, _line: &str) {}

    fn check(&self) -> Result<(), Cancelled> {
        Ok(())
    }

    fn on_cancel(&self, notify: Notify) -> CancelGuard {
        if self.cancelled.load(Ordering::SeqCst) {
            notify();
        } else {
            *self.notify.lock().unwrap() = Some(notify);
        }
        let held = Arc::clone(&self.notify);
        CancelGuard::new(move || drop(held.lock().unwrap().take()))
    }
}

#[tokio::test]
async fn a_cancel_while_the_server_is_silent_leaves_nothing() {
    let serving = Serving { content: content(), cuts: vec![LENGTH / 2], holds: true, ..Serving::default() };
    let server = FileServer::start(serving);
    let place = Place::new();
    let downloader = Downloader::new().unwrap();
    let result = downloader.download(&source(&server), &place.file(), &CancelledSoon::default()).await;
    assert!(matches!(result, Err(DownloadError::Cancelled(_))), "{result:?}");
    assert_eq!(place.names(), 0);
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_to_is_named() {
    let server = FileServer::start(Serving { content: content(), ..Serving::default() });
    // Where not even root may write.
    let error = download(&source(&server), Path::new("/proc/banger")).await.unwrap_err();
    assert!(matches!(error, DownloadError::File { .. }), "{error}");
    assert!(error.to_string().contains("/proc/banger"), "{error}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_full_disk_keeps_what_has_come_and_goes_on_when_there_is_room() {
    let test = "a_full_disk_keeps_what_has_come_and_goes_on_when_there_is_room";
    let Some(disk) = SmallDisk::new(test, "8m") else { return };
    let file = disk.path().join("file");
    let server = FileServer::start(Serving { content: content(), ranges: true, ..Serving::default() });
    let ballast = disk.fill(1 << 20);
    let error = download(&source(&server), &file).await.unwrap_err();
    let DownloadError::File { source: cause, .. } = &error else { panic!("{error}") };
    assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
    drop(ballast);
    download(&source(&server), &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), content());
    // What had come was not asked for again.
    assert!(server.asked().last().unwrap().is_some());
}
