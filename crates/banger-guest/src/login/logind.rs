//! Waiting for logind: a guest can be spoken to long before it has booted.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;

use crate::async_file::AsyncFile;

/// What must be there, and in which directory each appears. Without the first, `pam_systemd(8)` believes that there is no logind,
/// and opens nothing. The last is the way to logind: whoever comes that way waits by himself until it is up.
const NEEDED: [(&str, &str); 3] = [
    ("/run/systemd/seats", "/run/systemd"),
    ("/run/dbus", "/run"),
    ("/run/dbus/system_bus_socket", "/run/dbus"),
];
/// How long they may take to appear.
const LIMIT: Duration = Duration::from_secs(20);

/// Whether it was waited for in vain: a guest that comes up without logind lets nobody wait twice.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Waits until logind can be asked, and returns whether it can.
pub(super) async fn wait() -> bool {
    if NEEDED.iter().all(|(path, _)| Path::new(path).exists()) {
        return true;
    }
    if GIVEN_UP.load(Ordering::Relaxed) {
        return false;
    }
    let appeared = async {
        for (path, parent) in NEEDED {
            appearance(Path::new(path), Path::new(parent)).await?;
        }
        Ok::<_, io::Error>(())
    };
    let running = matches!(tokio::time::timeout(LIMIT, appeared).await, Ok(Ok(())));
    GIVEN_UP.store(!running, Ordering::Relaxed);
    running
}

/// Waits until there is something at `path`, in the directory `parent`.
async fn appearance(path: &Path, parent: &Path) -> io::Result<()> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, parent, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    let events = AsyncFile::new(events, Interest::READABLE)?;
    let mut buffer = [0; 4096];
    // Looked at after the watch is set: nothing can slip between. What the events say does not matter.
    while !path.exists() {
        events.read(&mut buffer).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_or_comes_is_seen() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("seats");
        let waiting = {
            let (path, parent) = (path.clone(), parent.path().to_owned());
            tokio::spawn(async move { appearance(&path, &parent).await })
        };
        tokio::task::yield_now().await;
        std::fs::create_dir(parent.path().join("other")).unwrap();
        assert!(!waiting.is_finished());
        std::fs::create_dir(&path).unwrap();
        waiting.await.unwrap().unwrap();
        appearance(&path, parent.path()).await.unwrap();
        assert!(appearance(&path, &path.join("missing")).await.is_err());
    }
}
