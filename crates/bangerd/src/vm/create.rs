//! Making a VM: a journal of steps, run as an operation.

use std::sync::Arc;

use banger_core::journal::Step;
use banger_core::store::{ProcessIdentity, VmRecord};
use banger_core::vm::{Observation, Published, Request, Wanted};
use banger_core::work::Work as _;
use banger_host::HostCommands;
use banger_types::size::Mebibytes;
use banger_types::vm::{VmCreateRequest, VmSpec, VmStopRequest, check_label};
use banger_types::{ApiError, ErrorKind, VmName};
use tokio::sync::oneshot;

use super::context::blocking;
use super::directory::Reservation;
use super::files::{FilesError, make_disk, make_keys};
use super::task::{Origin, VmHandle, spawn};
use crate::artifact::Artifacts;
use crate::configuration::VmDefaults;
use crate::failure::{cancelled, failed};
use crate::operation::Handle;
use crate::random;

/// Least memory with which a kernel and its initramfs start, MiB.
const LEAST_MEMORY: Mebibytes = Mebibytes(128);
/// Smallest private disk that holds a journal and something else, MiB.
const LEAST_DISK: Mebibytes = Mebibytes(64);
/// Largest private disk: beyond it, ext4 would need other features.
const LARGEST_DISK: Mebibytes = Mebibytes(16 << 20);

/// A request whose every value was looked at.
pub(crate) struct Prepared {
    pub(crate) name: VmName,
    request: VmCreateRequest,
    vcpus: u32,
    memory: Mebibytes,
    disk: Mebibytes,
    owner: Option<ProcessIdentity>,
    reservation: Reservation,
}

/// Looks at a request before anything is done for it, and takes its name.
///
/// `client` is the process that asked: a VM that is to be removed goes with it.
pub(crate) fn prepare_request(
    artifacts: &Artifacts,
    request: VmCreateRequest,
    client: u32,
) -> Result<Prepared, ApiError> {
    let name = request.name.clone().unwrap_or_else(random::vm_name);
    let defaults: &VmDefaults = artifacts.defaults();
    let usage = |why: String| ApiError::new(ErrorKind::Usage, format!("cannot create '{name}'")).because(why);
    let vcpus = request.vcpus.unwrap_or(defaults.vcpus);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = u32::try_from(processors).unwrap_or(u32::MAX).max(defaults.vcpus);
    if vcpus == 0 || vcpus > most {
        return Err(usage(format!("{vcpus} virtual CPUs is not between 1 and this host's {most}")));
    }
    let memory = request.memory.unwrap_or(defaults.memory);
    if memory < LEAST_MEMORY {
        return Err(usage(format!("{memory} of memory is less than {LEAST_MEMORY}")));
    }
    if let Some(host) = host_memory()
        && memory > host
    {
        return Err(usage(format!("{memory} of memory is more than this host's {host}")));
    }
    let disk = request.disk.unwrap_or(defaults.disk);
    if disk < LEAST_DISK || disk > LARGEST_DISK {
        return Err(usage(format!("a disk of {disk} is not between {LEAST_DISK} and {LARGEST_DISK}")));
    }
    if let Some(bad) = request.environment.iter().find(|entry| !is_assignment(entry)) {
        return Err(usage(format!("'{bad}' is not NAME=VALUE")));
    }
    for (label, value) in &request.labels {
        check_label(label, value).map_err(|error| usage(error.to_string()))?;
    }
    let owner = if request.remove { Some(owner(&name, client)?) } else { None };
    let reservation = artifacts.context().vms.reserve(&name)?;
    Ok(Prepared { name, request, vcpus, memory, disk, owner, reservation })
}

fn is_assignment(entry: &str) -> bool {
    !entry.contains('\0') && entry.split_once('=').is_some_and(|(name, _)| !name.is_empty())
}

fn owner(name: &VmName, client: u32) -> Result<ProcessIdentity, ApiError> {
    banger_host::identity_of(client).ok_or_else(|| {
        ApiError::new(ErrorKind::Usage, format!("cannot create '{name}'"))
            .because("a VM that is removed with its client needs one that bangerd can see")
            .fix("leave out --rm, and delete the VM yourself")
    })
}

/// The host's memory, from `/proc/meminfo` (`proc_meminfo(5)`).
fn host_memory() -> Option<Mebibytes> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Mebibytes(kibibytes >> 10))
}

/// Makes the VM, and boots it unless it was asked not to.
pub(crate) async fn create(
    artifacts: &Arc<Artifacts>,
    prepared: Prepared,
    operation: &Arc<Handle>,
) -> Result<(), ApiError> {
    let start = !prepared.request.no_start;
    let handle = make(artifacts, prepared, operation).await?;
    if !start {
        return Ok(());
    }
    let (done, answer) = oneshot::channel();
    let origin = Origin::PartOf(Arc::clone(operation), done);
    handle.request(Request::Start, VmStopRequest::default(), origin).await?;
    answer.await.map_err(|error| failed("the VM's task ended", &error))?
}

async fn make(
    artifacts: &Arc<Artifacts>,
    prepared: Prepared,
    operation: &Arc<Handle>,
) -> Result<VmHandle, ApiError> {
    let defaults = artifacts.defaults();
    let Prepared { name, request, vcpus, memory, disk, owner, reservation } = prepared;
    let kernel = artifacts.kernel(request.kernel.as_deref().unwrap_or(&defaults.kernel), operation).await?;
    let image = artifacts.image(request.image.as_deref().unwrap_or(&defaults.image), operation).await?;
    operation.stage("make the VM");
    let spec = VmSpec {
        image: image.id,
        image_name: image.name,
        kernel: kernel.id,
        kernel_name: kernel.name,
        vcpus,
        memory,
        disk,
        network: request.network,
        environment: request.environment,
        forwards: request.forwards,
        labels: request.labels,
        restart: request.restart,
        service: request.service,
        engine: artifacts.context().engine.kind(),
        remove: request.remove,
    };
    let record = VmRecord {
        id: random::vm_id(),
        name,
        spec,
        published: Published::new(),
        wanted: Wanted::Stopped,
        created_at: jiff::Timestamp::now(),
        owner,
        host_public_key: String::new(),
    };
    let made = write_down(artifacts, record, operation).await;
    match made {
        Ok(record) => {
            let handle = spawn(artifacts.context(), record);
            reservation.fill(handle.clone());
            Ok(handle)
        }
        Err(error) => {
            artifacts.undo(operation.id()).await;
            Err(error)
        }
    }
}

/// The journaled part. What it leaves behind when it fails is undone by the journal.
async fn write_down(
    artifacts: &Arc<Artifacts>,
    mut record: VmRecord,
    operation: &Arc<Handle>,
) -> Result<VmRecord, ApiError> {
    let what = format!("create '{}'", record.name);
    let stop = || cancelled(format!("cannot {what}"));
    let context = artifacts.context();
    operation.check().map_err(|_| stop())?;
    let (id, row) = (operation.id().clone(), record.clone());
    context
        .store(&what, move |store| {
            store.journal(&id, &Step::ReserveVm(row.id.clone()))?;
            store.insert_vm(&row)?;
            store.journal(&id, &Step::MakeVmDirectory(row.id.clone()))
        })
        .await?;
    let (directory, templates) = (context.layout.vm(&record.id), context.layout.templates());
    let (disk, work) = (record.spec.disk, Arc::clone(operation));
    let made = blocking(&what, move || {
        let staging = banger_image::publish::Staging::beside(&directory)?;
        let key = make_keys(staging.path())?;
        make_disk(staging.path(), &templates, disk, &HostCommands, work.as_ref())?;
        staging.publish()?;
        Ok::<_, FilesError>(key)
    })
    .await?;
    record.host_public_key = made.map_err(|error| failed(format!("cannot {what}"), &error))?;
    operation.check().map_err(|_| stop())?;
    record.published.observe(&Observation::Made);
    let (id, row) = (operation.id().clone(), record.clone());
    context
        .store(&what, move |store| {
            store.update_vm(&row)?;
            store.settle(&id)
        })
        .await?;
    Ok(record)
}
