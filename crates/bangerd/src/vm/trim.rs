//! Giving blocks of VMs' disks back that their guests do not use any more.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use banger_core::engine::Question;
use banger_core::store::VmRecord;
use banger_core::work::Work as _;
use banger_types::guest::{GuestReply, GuestRequest};
use banger_types::size::human_bytes;
use banger_types::vm::{EngineKind, NetworkMode};
use banger_types::{ApiError, ErrorKind, Refusal};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::context::{Context, blocking};
use super::engines::Wishes;
use super::monitors;
use super::probe::Asked;
use super::task::Found;
use crate::failure::{cancelled, failed};
use crate::layout::vm_file;
use crate::operation::Part;

/// Lets the guest of a VM that runs discard what it does not use.
pub(super) async fn running(context: &Arc<Context>, vm: &VmRecord, work: &Part) -> Result<(), ApiError> {
    let cannot = format!("cannot trim '{}'", vm.name);
    let engine = context.engine(vm);
    if !engine.discards() {
        return Err(ApiError::refused(Refusal::State, cannot)
            .because(format!("{} passes nothing on that a guest discards", engine.kind()))
            .fix(format!("`banger vm stop {0}` first, then `banger vm trim {0}`", vm.name)));
    }
    let disk = context.layout.vm(&vm.id).join(vm_file::DISK);
    let before = usage(&disk);
    let asked = async {
        let mut connection = monitors::open(context, &vm.id)?;
        connection.guest(GuestRequest::Trim).await
    };
    let answer = tokio::select! {
        biased;
        answer = asked => answer.map_err(|error| failed(cannot.as_str(), &error))?,
        // The guest goes on; nobody waits for it.
        () = work.cancelled() => return Err(cancelled(cannot)),
    };
    match answer {
        GuestReply::Trimmed(_) => {
            tell(&disk, before, work);
            Ok(())
        }
        GuestReply::Done | GuestReply::Stats(_) | GuestReply::Sockets(_) => {
            Err(ApiError::new(ErrorKind::Failed, cannot)
                .because("the guest gave an answer to another question"))
        }
    }
}

/// Boots a guest that discards what nobody uses on the disk of a VM that does not run. Nobody starts that meanwhile.
pub(super) async fn at_rest(context: &Arc<Context>, vm: &VmRecord, work: &Part) -> Result<(), ApiError> {
    let what = format!("trim '{}'", vm.name);
    let cannot = format!("cannot {what}");
    let disk = context.layout.vm(&vm.id).join(vm_file::DISK);
    // Whatever the state says: two kernels that write to a disk destroy it.
    if !matches!(monitors::look(&context.layout.vm(&vm.id)).await, Found::AtRest) {
        return Err(ApiError::refused(Refusal::State, cannot)
            .because("its monitor runs, and may have the disk")
            .fix(format!("`banger vm kill {}` first", vm.name)));
    }
    let before = usage(&disk);
    let wishes = Wishes {
        // The only one that passes on what is discarded, whatever runs the VM.
        engine: Some(EngineKind::Qemu),
        vcpus: 1,
        kernel: &vm.spec.kernel,
        network: NetworkMode::None,
    };
    let choice = context.choose_engine(&cannot, wishes, work).await?;
    let engine = context.engines.get(choice.engine);
    work.stage("boot a guest that looks through the disk");
    let question = Question::Trim(disk.clone());
    let asked = Asked { kernel: &vm.spec.kernel, question, accelerator: choice.accelerator };
    let run = |vmm: &_, directory: &Path, work: &Part| banger_host::trim(vmm, directory, work);
    let trimmed = context.ask(&what, engine, asked, work, run).await?;
    trimmed.map_err(|instead| {
        ApiError::new(ErrorKind::Failed, cannot).because(format!("a guest that is to do that {instead}"))
    })?;
    tell(&disk, before, work);
    Ok(())
}

fn tell(disk: &Path, before: u64, work: &Part) {
    let given_back = before.saturating_sub(usage(disk));
    work.log(&format!("{} given back", human_bytes(given_back)));
}

/// Returns the blocks that a file takes, bytes.
fn usage(path: &Path) -> u64 {
    fs_err::metadata(path).map(|metadata| metadata.blocks() * 512).unwrap_or_default()
}

/// Fails if another program has a VM's disk: one that an earlier daemon has booted, which ends now, for VMMs of VMs are known.
/// QEMU locks what it writes to (qemu(1), "file.locking"). Where nothing can be locked nothing is known, and a disk that is not
/// there is told of by whoever needs it.
pub(super) async fn check_disk_is_free(disk: &Path, cannot: &str) -> Result<(), ApiError> {
    let path = disk.to_owned();
    let locked = blocking("look at a disk", move || {
        let Ok(file) = fs_err::File::options().read(true).write(true).open(path) else { return false };
        // Given back when the file is closed.
        let lock = rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        matches!(lock, Err(Errno::AGAIN | Errno::ACCESS))
    });
    if locked.await? {
        return Err(ApiError::refused(Refusal::State, cannot)
            .because("another program still has its disk open for writing")
            .fix("try again in a moment"));
    }
    Ok(())
}
