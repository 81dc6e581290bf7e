//! Making a VM: a journal of steps, run as an operation.

use std::sync::Arc;

use banger_configuration::{Effective, VmDefaults};
use banger_core::journal::Step;
use banger_core::process::ProcessIdentity;
use banger_core::store::VmRecord;
use banger_core::vm::{Observation, Published, Request, Wanted};
use banger_core::work::Work as _;
use banger_types::address::HostPort;
use banger_types::guest::{KernelFeature, Transport};
use banger_types::helper::HelperReadiness;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::monitor::Forward;
use banger_types::size::Mebibytes;
use banger_types::vm::{NetworkMode, RestartPolicy, VmCreateRequest, VmSpec, check_label};
use banger_types::{ApiError, ErrorKind, KernelId, VmId, VmName};

use super::context::{Context, blocking};
use super::directory::Reservation;
use super::engines::Wishes;
use super::files::{FilesError, make_disk, make_keys};
use super::handle::VmHandle;
use super::limits::{
    check_disk, check_forwards, check_memory, check_vcpus, check_vcpus_of, refuse, warn_of_disk,
};
use super::task::{Found, spawn};
use crate::artifact::{Artifacts, Hold};
use crate::failure::{cancelled, work_failed};
use crate::fault::FaultPoint;
use crate::operation::{Handle, Part};
use crate::random;

/// A request whose every value was looked at.
pub(crate) struct Prepared {
    pub(crate) name: VmName,
    request: VmCreateRequest,
    settings: Arc<Effective>,
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
    let settings = artifacts.settings()?;
    let defaults = &settings.configuration.vm;
    let what = format!("create '{name}'");
    let vcpus = request.vcpus.unwrap_or(defaults.vcpus);
    check_vcpus(&what, vcpus, defaults.vcpus)?;
    if let Some(engine) = request.engine {
        check_vcpus_of(&what, vcpus, artifacts.context().engines.get(engine).as_ref())?;
    }
    let memory = request.memory.unwrap_or(defaults.memory);
    check_memory(&what, memory)?;
    let disk = request.disk.unwrap_or(defaults.disk);
    check_disk(&what, disk)?;
    let usual: Vec<_> = usual_forwards(&request.forwards, defaults).cloned().collect();
    check_forwards(&what, &[&request.forwards[..], &usual].concat())?;
    if let Some(bad) = request.environment.iter().find(|entry| !is_assignment(entry)) {
        return Err(refuse(&what, format!("'{bad}' is not NAME=VALUE")));
    }
    for (label, value) in &request.labels {
        check_label(label, value).map_err(|error| refuse(&what, error.to_string()))?;
    }
    if request.remove && request.restart != RestartPolicy::No {
        return Err(refuse(&what, "a VM that is removed when it ends cannot be started again after it"));
    }
    let owner = if request.remove { Some(owner(&name, client)?) } else { None };
    let reservation = artifacts.context().vms.reserve(&name)?;
    Ok(Prepared { name, request, settings, vcpus, memory, disk, owner, reservation })
}

/// Returns the configuration's forwards, but for those whose place on the host one has that was asked for.
fn usual_forwards<'a>(asked: &[Forward], defaults: &'a VmDefaults) -> impl Iterator<Item = &'a Forward> {
    let takes = |one: &HostPort, other: &HostPort| {
        let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
        one.protocol == other.protocol && one.port() == other.port() && (one.ip() == other.ip() || everywhere)
    };
    let asked: Vec<HostPort> = asked.iter().map(|forward| forward.listen).collect();
    let is_free = move |forward: &&Forward| {
        forward.listen.port() == 0 || !asked.iter().any(|it| takes(it, &forward.listen))
    };
    defaults.forwards.iter().filter(is_free)
}

/// Returns the forwards that a VM gets: those that were asked for, and those of the configuration's whose port nobody has. A second VM
/// is not refused because a first one has got them.
fn forwards(asked: Vec<Forward>, defaults: &VmDefaults, operation: &Handle) -> Vec<Forward> {
    let usual: Vec<_> = usual_forwards(&asked, defaults).cloned().collect();
    let can_be_had = |forward: &Forward| {
        let HostPort { protocol, address } = forward.listen;
        let bound = match protocol {
            Transport::Tcp => std::net::TcpListener::bind(address).map(drop),
            Transport::Udp => std::net::UdpSocket::bind(address).map(drop),
        };
        if let Err(error) = &bound {
            let (listen, port) = (forward.listen, forward.guest_port);
            operation.warn(format!("the configuration's forward of {listen} to {port} is left out: {error}"));
        }
        bound.is_ok()
    };
    asked.into_iter().chain(usual.into_iter().filter(can_be_had)).collect()
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

/// Makes the VM, and boots it unless it was asked not to. Returns its id.
pub(crate) async fn create(
    artifacts: &Arc<Artifacts>,
    prepared: Prepared,
    operation: &Arc<Handle>,
) -> Result<VmId, ApiError> {
    let start = !prepared.request.no_start;
    let handle = make(artifacts, prepared, operation).await?;
    finish(artifacts.context(), &handle, start, operation).await?;
    Ok(handle.id().clone())
}

/// Does what is left to do for a VM that is complete: boots it, if it is to be. A cancel leaves nothing of it.
pub(crate) async fn finish(
    context: &Arc<Context>,
    handle: &VmHandle,
    start: bool,
    operation: &Arc<Handle>,
) -> Result<(), ApiError> {
    context.ssh.update(context).await;
    let vm = handle.snapshot();
    if let Some(warning) = warn_of_disk(&vm.directory, vm.spec.disk, 0) {
        operation.warn(warning);
    }
    if let Some(warning) = context.launcher.warning() {
        operation.warn(warning);
    }
    if !start {
        return Ok(());
    }
    let result = handle.request_within(Request::Start, operation).await;
    if let Err(error) = &result
        && error.kind == ErrorKind::Cancelled
        && operation.check().is_err()
    {
        handle.request_within(Request::Delete { force: true }, operation).await?;
    }
    result
}

async fn make(
    artifacts: &Arc<Artifacts>,
    prepared: Prepared,
    operation: &Arc<Handle>,
) -> Result<VmHandle, ApiError> {
    let Prepared { name, request, settings, vcpus, memory, disk, owner, reservation } = prepared;
    let defaults = &settings.configuration.vm;
    let (image, kernel, _holds) = things(artifacts, &request, defaults, operation).await?;
    let what = format!("cannot make '{name}'");
    check_needs(&what, &image, &kernel, operation)?;
    let network = network(artifacts.context(), request.network.or(defaults.network), operation).await?;
    let wishes = Wishes { engine: request.engine, vcpus, kernel: &kernel.id, network };
    let (part, _give_up) = Part::of(operation);
    let choice = artifacts.context().choose_engine(&what, wishes, &part).await?;
    operation.log(&format!("engine: {}", choice.describe()));
    if request.engine.is_none()
        && let Some(warning) = artifacts.context().first_time(&choice, vcpus, &kernel)
    {
        operation.warn(warning);
    }
    operation.stage("make the VM");
    let spec = VmSpec {
        image: image.id,
        image_name: image.name,
        kernel: kernel.id,
        kernel_name: kernel.name,
        vcpus,
        memory,
        disk,
        network,
        allow_host: request.allow_host,
        no_peers: request.no_peers,
        environment: request.environment,
        forwards: forwards(request.forwards, defaults, operation),
        automatic_forwards: request.automatic_forwards.unwrap_or(true),
        labels: request.labels,
        restart: request.restart,
        service: request.service,
        engine: choice.engine,
        remove: request.remove,
    };
    let record = VmRecord {
        id: random::vm_id(),
        name,
        spec,
        published: Published::new(),
        // Remembered with the VM itself: a daemon that ends in between is followed by one that starts it.
        wanted: if request.no_start { Wanted::Stopped } else { Wanted::Running },
        created_at: jiff::Timestamp::now(),
        owner,
        host_public_key: String::new(),
    };
    let made = write_down(artifacts, record, operation).await;
    match made {
        Ok(record) => {
            let handle = spawn(artifacts.context(), record, Found::AtRest);
            reservation.fill(handle.clone());
            Ok(handle)
        }
        Err(error) => {
            artifacts.undo(operation.id()).await;
            Err(error)
        }
    }
}

/// Returns the network that was asked for, else the best that the host is ready for. What that is is said when it becomes another.
async fn network(
    context: &Arc<Context>,
    asked: Option<NetworkMode>,
    operation: &Arc<Handle>,
) -> Result<NetworkMode, ApiError> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let places = Arc::clone(&context.places);
    let readiness = blocking("look for the root helper", move || places.last_readiness()).await?;
    let (network, news) = match readiness {
        HelperReadiness::Ready => {
            (NetworkMode::Nat, "VMs get addresses of their own from the root helper (nat)".to_owned())
        }
        why => {
            let better = format!("for addresses of their own (nat), the root helper is {why}");
            (NetworkMode::User, format!("VMs get a network that needs no root (user); {better}"))
        }
    };
    operation.log(&format!("network: {network}"));
    if context.verdicts.remember_network(network) {
        operation.warn(news);
    }
    Ok(network)
}

/// Refuses a kernel that cannot mount the image; warns of one that lacks what programs of the image need.
fn check_needs(what: &str, image: &Image, kernel: &Kernel, operation: &Arc<Handle>) -> Result<(), ApiError> {
    for feature in image.needs().into_iter().filter(|feature| !kernel.may_have(*feature)) {
        let (image, kernel) = (&image.name, &kernel.name);
        if matches!(feature, KernelFeature::Squashfs | KernelFeature::Erofs) {
            let why =
                format!("the image '{image}' is on {feature}, which the kernel '{kernel}' does not have");
            return Err(ApiError::new(ErrorKind::Usage, what)
                .because(why)
                .fix("choose another with --kernel"));
        }
        operation.warn(format!(
            "programs of the image '{image}' need a kernel with {feature}, and '{kernel}' is not known to have that"
        ));
    }
    Ok(())
}

/// Returns what a VM is made from and what it boots, made first where they are not there. Both stay as long as what holds them.
async fn things(
    artifacts: &Arc<Artifacts>,
    request: &VmCreateRequest,
    defaults: &VmDefaults,
    operation: &Arc<Handle>,
) -> Result<(Image, Kernel, [Hold; 2]), ApiError> {
    let hold = async |kind, name: &str, id: &str| {
        artifacts
            .hold(id)
            .await?
            .ok_or_else(|| ApiError::not_found(kind, name).because("it was just deleted"))
    };
    // What was asked for is looked for first: nobody waits for an image to hear that there is no such kernel.
    let asked = match &request.kernel {
        Some(name) => {
            let kernel = artifacts.kernel(name, operation).await?;
            let held = hold("kernel", name, kernel.id.as_str()).await?;
            Some((kernel, held))
        }
        None => None,
    };
    let image = artifacts.image(request.image.as_deref().unwrap_or(&defaults.image), operation).await?;
    let image_held = hold("image", &image.name, image.id.as_str()).await?;
    let (kernel, kernel_held) = if let Some(asked) = asked {
        asked
    } else {
        let own = image.registered.as_ref().and_then(|registered| registered.kernel.as_ref());
        let own = own.map(KernelId::as_str).or(image.kernel.as_deref());
        let name = own.unwrap_or(&defaults.kernel);
        let kernel = artifacts.kernel(name, operation).await?;
        let held = hold("kernel", name, kernel.id.as_str()).await?;
        (kernel, held)
    };
    Ok((image, kernel, [image_held, kernel_held]))
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
    FaultPoint::CreateReserved.reach();
    let (directory, templates) = (context.layout.vm(&record.id), context.layout.templates());
    let (disk, work, commands) = (record.spec.disk, Arc::clone(operation), Arc::clone(&context.commands));
    let made = blocking(&what, move || {
        let staging = banger_image::publish::Staging::beside(&directory)?;
        let key = make_keys(staging.path())?;
        make_disk(staging.path(), &templates, disk, commands.as_ref(), work.as_ref())?;
        FaultPoint::CreateStaged.reach();
        staging.publish()?;
        FaultPoint::CreatePublished.reach();
        Ok::<_, FilesError>(key)
    })
    .await?;
    record.host_public_key =
        made.map_err(|error| work_failed(&what, error.is_cancelled(), error.fix(), &error))?;
    operation.check().map_err(|_| stop())?;
    record.published.observe(&Observation::Made);
    let (id, row) = (operation.id().clone(), record.clone());
    context
        .store(&what, move |store| {
            store.update_vm(&row)?;
            store.settle(&id)
        })
        .await?;
    FaultPoint::CreateSettled.reach();
    Ok(record)
}
