//! What runs beside a VM's task and tells it what happens: each of these is a small task of its own.

use std::error::Error as _;
use std::sync::Arc;

use banger_core::engine::{Engine, RunningVmm, VmmEvent};
use banger_core::store::VmRecord;
use banger_host::{ProcessWatch, StatusStream};
use banger_types::VmId;
use banger_types::guest::GuestRequest;
use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::context::{Context, blocking};
use super::monitors;
use super::task::Event;

/// Longest line of a VMM, bytes: a guest may have taken it over.
const LINE_LIMIT: usize = 64 << 10;

/// The VM ends with its owner, if it has one.
pub(super) fn owner(record: &VmRecord, events: &mpsc::Sender<Event>) {
    let Some(owner) = record.owner else { return };
    let events = events.clone();
    tokio::spawn(async move {
        let ended = match ProcessWatch::new(owner) {
            Ok(Some(watch)) => watch.ended().await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match ended {
            // An error means that the VM is gone already.
            Ok(()) => drop(events.send(Event::OwnerEnded).await),
            Err(error) => tracing::warn!(%error, "cannot watch a VM's owner"),
        }
    });
}

/// Passes a monitor's states on.
pub(super) fn statuses(mut stream: StatusStream, attachment: u64, events: &mpsc::Sender<Event>) {
    let events = events.clone();
    tokio::spawn(async move {
        while let Ok(Some(status)) = stream.next().await {
            if events.send(Event::Status(attachment, status)).await.is_err() {
                return;
            }
        }
        events.send(Event::Detached(attachment)).await.ok();
    });
}

/// A VMM, and who wants to hear of it.
struct Listening {
    vm: VmId,
    engine: Arc<dyn Engine>,
    vmm: RunningVmm,
    attachment: u64,
    events: mpsc::Sender<Event>,
}

/// Asks the VMM itself, beside everything else: it has the last word on what it is. Then passes on what it tells by
/// itself, until it ends.
pub(super) fn vmm(
    context: &Arc<Context>,
    vm: &VmRecord,
    attachment: u64,
    pid: u32,
    events: &mpsc::Sender<Event>,
) {
    let listening = Listening {
        vm: vm.id.clone(),
        engine: context.engine(vm),
        vmm: RunningVmm { directory: context.layout.vm(&vm.id), pid },
        attachment,
        events: events.clone(),
    };
    tokio::spawn(async move {
        if let Err(error) = listening.follow().await {
            // It may be heard another time.
            listening.events.send(Event::Unheard(pid)).await.ok();
            tracing::warn!(vm = %listening.vm, %error, source = ?error.source(), "a VMM tells nothing by itself");
            listening.inspect().await;
        }
    });
}

impl Listening {
    async fn follow(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (engine, vmm) = (Arc::clone(&self.engine), self.vmm.clone());
        let Some(stream) = blocking("listen to a VMM", move || engine.events(&vmm)).await?? else {
            // There is nothing more to hear for as long as it runs.
            self.inspect().await;
            return Ok(());
        };
        stream.set_nonblocking(true)?;
        let lines = LinesCodec::new_with_max_length(LINE_LIMIT);
        let mut lines = FramedRead::new(UnixStream::from_std(stream)?, lines);
        // It ends as its VMM does, which the monitor tells.
        while let Some(line) = lines.next().await {
            match self.engine.event(&line?) {
                // Not sooner: what happens between the question and this would go unseen.
                Some(VmmEvent::Listening) => self.inspect().await,
                Some(VmmEvent::OutOfSpace) => {
                    drop(self.events.send(Event::OutOfSpace(self.attachment)).await);
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn inspect(&self) {
        let (engine, vmm) = (Arc::clone(&self.engine), self.vmm.clone());
        match blocking("ask a VMM", move || engine.inspect(&vmm)).await {
            Ok(Ok(status)) => drop(self.events.send(Event::Inspected(self.attachment, status)).await),
            Ok(Err(error)) => {
                tracing::warn!(vm = %self.vm, %error, source = ?error.source(), "a VMM is mute");
            }
            Err(error) => tracing::warn!(vm = %self.vm, %error, "a VMM was not asked"),
        }
    }
}

/// Waits for as long as it takes until a mute monitor speaks, or is gone.
pub(super) fn mute_monitor(context: &Arc<Context>, id: &VmId, events: &mpsc::Sender<Event>) {
    let (context, id, events) = (Arc::clone(context), id.clone(), events.clone());
    tokio::spawn(async move {
        let heard = match monitors::open(&context, &id) {
            Ok(connection) => connection.watch().await,
            Err(error) => Err(error),
        };
        let event = match heard {
            Ok(stream) => Event::Attached(stream),
            Err(error) => {
                tracing::warn!(vm = %id, %error, "a monitor stays mute");
                banger_host::monitor_gone(&context.layout.vm(&id)).await;
                Event::NeverAnswered
            }
        };
        events.send(event).await.ok();
    });
}

/// Tells a guest the time, if it can be told.
pub(super) fn set_clock(context: &Arc<Context>, id: &VmId) {
    let (context, id) = (Arc::clone(context), id.clone());
    tokio::spawn(async move {
        if let Err(error) = tell_time(&context, &id).await {
            tracing::debug!(vm = %id, %error, "the guest's clock was not set");
        }
    });
}

/// Tells a guest what time it is; it sets its clock if that is off.
pub(super) async fn tell_time(context: &Context, id: &VmId) -> Result<(), banger_host::MonitorError> {
    let request = GuestRequest::SetClock(super::boot::unix_time_ns());
    monitors::open(context, id)?.guest(request).await.map(drop)
}
