//! What listens for TCP connections, told by the kernel as it comes and goes.
//!
//! The tracepoint `sock:inet_sock_set_state` fires whenever a socket changes its state (include/trace/events/sock.h). It is
//! switched on in an instance of its own of tracefs (Documentation/trace/ftrace.rst, "Instances"), with a filter that lets
//! through what begins or ends to listen. What comes out says only *that* something has changed; the kernel's tables then
//! say what there is. So nothing is missed when the guest is quicker than this, and nothing read twice.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use banger_types::guest::{ListeningSockets, Transport};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tokio::io::Interest;
use tokio::sync::watch;

use super::sockets::listening;
use crate::async_file::AsyncFile;
use crate::log;

/// The instance.
const INSTANCE: &str = "instances/banger";
/// `IPPROTO_TCP`, and `TCP_LISTEN` of `net/tcp_states.h`.
const FILTER: &str = "protocol == 6 && (newstate == 10 || oldstate == 10)";
/// How long changes are gathered before they are looked at: a server that starts opens more than one socket.
const GATHERING: Duration = Duration::from_millis(20);
/// Looking takes at most one part in so many of a processor's time in the long run.
const SHARE: u32 = 20;
/// How much of the time for which nothing was looked at may be made use of later: a server that is started anew ends and begins
/// to listen within moments, and both are to be told at once.
const SAVED: Duration = Duration::from_secs(1);

/// How much is read at most of what has gathered. A program that listens and ends as quickly as it can would have it read for
/// ever; what is left only causes another look.
const MOST_READS: u32 = 16;

/// What listens; nothing until it is known, and for ever where the kernel does not tell.
pub(super) type Listeners = watch::Receiver<Option<ListeningSockets>>;

/// Watches from now on.
pub(super) fn watch_listeners() -> Listeners {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        if let Err(error) = follow(&sender).await {
            log!("the kernel does not tell what listens: {error}");
            sender.send_replace(None);
        }
    });
    receiver
}

async fn follow(sender: &watch::Sender<Option<ListeningSockets>>) -> io::Result<()> {
    let changes = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
    let changes = AsyncFile::new(changes, Interest::READABLE)?;
    let mut buffer = vec![0; 64 << 10];
    let mut budget = Budget { paid_until: Instant::now() };
    loop {
        let begun = Instant::now();
        let before = sender.borrow().as_ref().map(|known| known.sockets.clone()).unwrap_or_default();
        let found = tokio::task::spawn_blocking(move || listening(&[Transport::Tcp], &before));
        let found = ListeningSockets { told: true, ..found.await.map_err(io::Error::other)?? };
        let looked = Instant::now();
        sender.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&found);
            *known = Some(found);
            changed
        });
        tokio::time::sleep_until(budget.spend(begun, looked).into()).await;
        if changes.read(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tokio::time::sleep(GATHERING).await;
        for _ in 0..MOST_READS {
            if changes.try_read(&mut buffer)?.is_none_or(|count| count == 0) {
                break;
            }
        }
    }
}

/// How much looking may cost.
struct Budget {
    /// If nothing were looked at until then, what has been would be a [`SHARE`] of the time.
    paid_until: Instant,
}

impl Budget {
    /// Takes in how long a look took, and returns when the next may begin.
    fn spend(&mut self, begun: Instant, ended: Instant) -> Instant {
        self.paid_until = self.paid_until.max(begun) + ended.duration_since(begun) * SHARE;
        self.paid_until.checked_sub(SAVED).map_or(ended, |begin| begin.max(ended))
    }
}

/// Switches the tracepoint on and opens what tells of it.
fn open() -> io::Result<OwnedFd> {
    // Mounted nowhere: nobody else sees it, and nothing has to be unmounted.
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    match mkdirat(&root, INSTANCE, Mode::RWXU) {
        // An agent before this one has made it.
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let set = |name: &str, value: &str| {
        let file =
            openat(&root, format!("{INSTANCE}/{name}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(file).write_all(value.as_bytes())
    };
    // A page for each processor: what comes out is not read.
    set("buffer_size_kb", "4")?;
    let event = "events/sock/inet_sock_set_state";
    set(&format!("{event}/filter"), FILTER)?;
    set(&format!("{event}/enable"), "1")?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(&root, format!("{INSTANCE}/trace_pipe"), flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(10);

    /// Looks as often as the budget lets it, from `begin` on, and returns when each look began.
    fn looks(budget: &mut Budget, begin: Instant, count: usize) -> Vec<Instant> {
        let mut next = begin;
        let mut begun = Vec::new();
        for _ in 0..count {
            begun.push(next);
            next = budget.spend(next, next + LOOK);
        }
        begun
    }

    #[test]
    fn a_few_looks_are_free_and_many_have_their_share() {
        let begin = Instant::now() + Duration::from_secs(100);
        let mut budget = Budget { paid_until: begin };
        let begun = looks(&mut budget, begin, 1001);
        // Five looks of 10 ms are paid for by a second.
        assert_eq!(begun[4], begin + LOOK * 4);
        let all = begun[1000] - begin;
        assert!(all + SAVED >= LOOK * 1000 * SHARE && all <= LOOK * 1000 * SHARE, "{all:?}");
        // Nothing more can be saved, however long nothing happens.
        let later = begun[1000] + Duration::from_hours(1);
        let begun = looks(&mut budget, later, 1001);
        assert_eq!(begun[4], later + LOOK * 4);
        assert!(begun[1000] + SAVED >= later + LOOK * 1000 * SHARE);
    }
}
