//! Layers of images: those that were downloaded, by what they unpack to, and those that are on their way.
//!
//! A layer is downloaded once, however many images want it at the same time; the download ends when none of them wants
//! it any more. Whoever writes an image reads a layer while it comes.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use banger_core::work::{CancelGuard, Cancelled, Work};
use banger_download::DownloadError;
use banger_download::registry::Places;
use banger_image::oci::Layer;
use banger_types::digest::Digest;
use banger_types::operation::{ProgressPart, Unit};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::fault::FaultPoint;
use crate::operation::{Cancel, Handle};

/// How many layers are downloaded at once, whatever for.
const AT_ONCE: usize = 4;

/// The layers that are here or on their way.
pub(crate) struct Layers {
    /// Layers as they came, by their digest.
    stored: PathBuf,
    /// The same by what they unpack to, once that was seen: further names of the same files.
    unpacked: PathBuf,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
    turns: Arc<Semaphore>,
}

impl Layers {
    /// Returns the layers in a directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            stored: stored(directory),
            unpacked: unpacked(directory),
            flights: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Returns a layer, which is on its way from now on if it is not here.
    pub(crate) fn get(
        &self,
        layer: &Layer,
        (digest, size): (Digest, u64),
        places: &Arc<Places>,
        operation: &Arc<Handle>,
    ) -> Arc<Flight> {
        for (path, known) in [
            (self.unpacked.join(layer.diff_id.digits()), Known::Unpacked),
            (self.stored.join(digest.digits()), Known::Stored),
        ] {
            // So that it is not taken for one that nobody wants.
            let touched = std::fs::File::options().append(true).open(&path);
            if touched.and_then(|file| file.set_modified(SystemTime::now())).is_ok() {
                return Arc::new(Flight::landed(path, size, known));
            }
        }
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) =
            flights.get(&digest).and_then(Weak::upgrade).filter(|flight| !flight.has_failed())
        {
            flight.shared.follow(operation);
            return flight;
        }
        let path = self.stored.join(digest.digits());
        let flight = Arc::new(Flight::new(
            banger_download::partial_place(&path, &digest),
            path.clone(),
            size,
            Known::Nothing,
        ));
        flights.insert(digest, Arc::downgrade(&flight));
        let (shared, places, turns) =
            (Arc::clone(&flight.shared), Arc::clone(places), Arc::clone(&self.turns));
        shared.follow(operation);
        // As Docker calls layers.
        let name = digest.digits()[..12].to_owned();
        let work = FlightWork { shared: Arc::clone(&shared), operation: Arc::clone(operation), name, size };
        tokio::spawn(async move {
            let outcome = async {
                let _turn = tokio::select! {
                    turn = turns.acquire_owned() => turn,
                    () = work.shared.cancel.cancelled() => return Err(DownloadError::Cancelled(Cancelled)),
                };
                places.blob(digest, size, &path, &work).await
            };
            let outcome = outcome.await;
            if outcome.is_ok() {
                FaultPoint::LayerCame.reach();
            }
            shared.change(|state| state.end = Some(outcome.map_err(Arc::new)));
            shared.tell(|operation| operation.part_ended(&work.name));
            shared.ended.cancel();
        });
        flight
    }

    /// Remembers what a layer unpacks to, which somebody has seen.
    pub(crate) fn remember(&self, layer: &Layer, digest: Digest) {
        let (from, to) = (self.stored.join(digest.digits()), self.unpacked.join(layer.diff_id.digits()));
        match std::fs::hard_link(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && from.exists() => {
                tracing::warn!(%error, layer = %digest, "what a layer unpacks to is not remembered");
            }
            _ => {}
        }
    }
}

/// The directory of layers as they came.
pub(crate) fn stored(directory: &Path) -> PathBuf {
    directory.join("sha256")
}

/// The directory of layers by what they unpack to.
pub(crate) fn unpacked(directory: &Path) -> PathBuf {
    directory.join("diff-ids")
}

/// What is known of a layer that was here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was downloaded just now, or is on its way.
    Nothing,
    /// It had its digest when it came.
    Stored,
    /// The same, or one that unpacks to the same.
    Unpacked,
}

/// A layer on its way, or one that is there. Whoever holds one wants it.
pub(crate) struct Flight {
    shared: Arc<Shared>,
    /// Most bytes that it may have, as whoever asked first has it from their manifest.
    size: u64,
    known: Known,
}

struct Shared {
    /// Where it is until it is whole.
    partial: PathBuf,
    /// Where it is then.
    whole: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    cancel: Cancel,
    ended: CancellationToken,
    /// The operations that are told how far it is.
    followers: Mutex<Vec<Weak<Handle>>>,
}

#[derive(Default)]
struct State {
    /// Bytes that are there.
    available: u64,
    /// What was there before was wrong.
    began_again: bool,
    end: Option<Result<(), Arc<DownloadError>>>,
    /// How often something has changed.
    changes: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.changes += 1;
        drop(state);
        self.changed.notify_all();
    }
}

impl Shared {
    fn follow(&self, operation: &Arc<Handle>) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(operation));
    }

    fn tell(&self, tell: impl Fn(&Handle)) {
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        followers.iter().filter_map(Weak::upgrade).for_each(|operation| tell(&operation));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

impl Flight {
    fn new(partial: PathBuf, whole: PathBuf, size: u64, known: Known) -> Self {
        let shared = Shared {
            partial,
            whole,
            state: Mutex::default(),
            changed: Condvar::new(),
            cancel: Cancel::default(),
            ended: CancellationToken::new(),
            followers: Mutex::default(),
        };
        Self { shared: Arc::new(shared), size, known }
    }

    fn landed(path: PathBuf, size: u64, known: Known) -> Self {
        let flight = Self::new(path.clone(), path, size, known);
        flight.shared.change(|state| state.end = Some(Ok(())));
        flight.shared.ended.cancel();
        flight
    }

    fn has_failed(&self) -> bool {
        matches!(self.shared.lock().end, Some(Err(_)))
    }

    /// Waits until it is here, or it is known that it does not come.
    pub(crate) async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Returns why it did not come, if it did not.
    pub(crate) fn failure(&self) -> Option<Arc<DownloadError>> {
        match &self.shared.lock().end {
            Some(Err(error)) => Some(Arc::clone(error)),
            _ => None,
        }
    }

    /// Whether it failed, perhaps because another manifest says of it another size than this.
    pub(crate) fn was_misled(&self, size: u64) -> bool {
        self.size != size && self.has_failed()
    }

    /// Whether its stored bytes are those that the manifest names, and not others that unpack to the same.
    pub(crate) fn is_as_stored(&self) -> bool {
        self.known != Known::Unpacked
    }

    /// Whether what was read of it may have been wrong, so that another try may do better: it was here already and may
    /// have been spoiled since, or had to begin again.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.known != Known::Nothing || self.shared.lock().began_again
    }

    /// Takes away what was here, so that it is downloaded anew.
    pub(crate) fn distrust(&self) {
        if self.known != Known::Nothing {
            tracing::warn!(layer = %self.shared.whole.display(), "a layer is not what it was; it is downloaded anew");
            std::fs::remove_file(&self.shared.whole).ok();
        }
    }

    /// Returns a reader, which waits for what has not come yet.
    pub(crate) fn read(self: &Arc<Self>, operation: Arc<Handle>) -> Growing {
        let shared = Arc::clone(&self.shared);
        // With its lock, so that whoever has just looked hears of it.
        let wake = operation.on_cancel(Box::new(move || shared.change(|_| {})));
        Growing { flight: Arc::clone(self), operation, file: None, at: 0, seen: None, _wake: wake }
    }
}

/// Tells a flight how far it is, and the first operation that wanted it what happens.
struct FlightWork {
    shared: Arc<Shared>,
    operation: Arc<Handle>,
    name: String,
    size: u64,
}

impl Work for FlightWork {
    fn stage(&self, _: &str) {}

    fn progress(&self, done: u64, _: Option<u64>, _: Unit) {
        self.shared.change(|state| {
            state.began_again |= done < state.available;
            state.available = done;
        });
        self.shared.tell(|operation| {
            operation.part(ProgressPart { name: self.name.clone(), done, total: Some(self.size) });
        });
    }

    fn log(&self, line: &str) {
        self.operation.log(line);
    }

    fn check(&self) -> Result<(), Cancelled> {
        if self.shared.cancel.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    fn on_cancel(&self, notify: Box<dyn FnOnce() + Send>) -> CancelGuard {
        self.shared.cancel.on_cancel(notify)
    }
}

/// Reads a layer while it comes.
pub(crate) struct Growing {
    flight: Arc<Flight>,
    operation: Arc<Handle>,
    file: Option<std::fs::File>,
    at: u64,
    /// The changes at the last time that there was nothing where something should have been: the download has begun again.
    seen: Option<u64>,
    _wake: CancelGuard,
}

impl Growing {
    /// Waits until there is something to read. Returns whether all of it is there, and how often something has changed.
    fn wait(&self) -> io::Result<(bool, u64)> {
        let shared = &self.flight.shared;
        let is_to_wait = |state: &mut State| {
            let nothing_new = state.available <= self.at || self.seen == Some(state.changes);
            state.end.is_none() && nothing_new && self.operation.check().is_ok()
        };
        let state =
            shared.changed.wait_while(shared.lock(), is_to_wait).unwrap_or_else(PoisonError::into_inner);
        self.operation.check().map_err(io::Error::other)?;
        match &state.end {
            Some(Ok(())) => Ok((true, state.changes)),
            Some(Err(error)) => Err(io::Error::other(error.to_string())),
            None => Ok((false, state.changes)),
        }
    }

    fn open(&self) -> io::Result<std::fs::File> {
        // It may get its name in between.
        let open = |path: &Path| std::fs::File::open(path);
        open(&self.flight.shared.partial).or_else(|_| open(&self.flight.shared.whole))
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (is_whole, changes) = self.wait()?;
            let file = match self.file.take() {
                Some(file) => file,
                None => match self.open() {
                    Ok(file) => file,
                    // It was of no use; what becomes of it is said soon.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && !is_whole => {
                        self.seen = Some(changes);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let got = file.read_at(buffer, self.at)?;
            if got > 0 || is_whole || buffer.is_empty() {
                self.at += got as u64;
                self.file = Some(file);
                return Ok(got);
            }
            self.seen = Some(changes);
        }
    }
}
