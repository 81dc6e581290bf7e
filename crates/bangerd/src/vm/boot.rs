//! What has to be there before a VM's monitor is launched, and what is read when that failed.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use banger_core::command::HostCommand;
use banger_core::engine::{BootPlan, JailPlan, LaunchPlan};
use banger_core::helper::HelperError;
use banger_core::network::{NetworkPlan, UserNetworkTerms};
use banger_core::store::VmRecord;
use banger_core::work::Unwatched;
use banger_image::kernel::initramfs::assemble_at;
use banger_types::guest::{CONFIG_VERSION, GuestConfig, SshKeys};
use banger_types::helper::{DOMAIN, JAIL, JailTerms, RUN_VMM_CHECK, VmTerms, jail_file};
use banger_types::image::{Image, ImageConfig};
use banger_types::monitor::{LaunchSpec, file};
use banger_types::size::Mebibytes;
use banger_types::vm::{Accelerator, NetworkMode};
use banger_types::{ApiError, ErrorKind};

use super::context::{Context, blocking};
use super::files::{read_key, write_private};
use crate::artifact::{FileProblem, file_problem};
use crate::failure::{FromStore as _, failed};
use crate::fault::FaultPoint;
use crate::layout::vm_file;

/// What a VMM in a jail may have beside its guest's memory, MiB: its own, and what the host keeps of its disk meanwhile.
const BESIDE_MEMORY: u64 = 256;
/// Most threads of one, and of who watches over it.
const MOST_TASKS: u32 = 128;
/// How many of the console's last lines a failed boot shows.
const LAST_LINES: usize = 5;
/// How many of the VMM's own last lines a failed boot shows whose guest has printed nothing.
const ENGINES_LINES: usize = 3;
/// How much of the console's end is looked at for them, bytes.
const LAST_BYTES: u64 = 4096;

/// Writes everything that the monitor and the guest are told at this start. Returns what whoever starts it should know.
pub(super) async fn prepare(
    context: &Arc<Context>,
    record: &VmRecord,
    accelerator: Accelerator,
) -> Result<Vec<String>, ApiError> {
    let (context, record) = (Arc::clone(context), record.clone());
    blocking("prepare a VM", move || Preparation { context: &context, record: &record, accelerator }.run())
        .await?
}

struct Preparation<'a> {
    context: &'a Context,
    record: &'a VmRecord,
    accelerator: Accelerator,
}

impl Preparation<'_> {
    fn run(&self) -> Result<Vec<String>, ApiError> {
        let image = self.image()?;
        let mut warnings = self.check_registered(&image)?;
        let can_jail = self.context.engine(self.record).jails() && self.accelerator == Accelerator::Kvm;
        let jailed = can_jail && self.context.places.jails().get() != Some(&false);
        let plan = self.lay_out(&image, jailed, &mut warnings)?;
        if jailed && !self.jail_works(&plan) {
            warnings.push(
                "the file system of banger's data takes no part in jails: the VMM runs as you".to_owned(),
            );
            let plan = self.lay_out(&image, false, &mut Vec::new())?;
            warnings.extend(plan.warnings);
        } else {
            warnings.extend(plan.warnings);
        }
        Ok(warnings)
    }

    /// Writes everything, for a VMM in a jail if that is wanted and can be had.
    fn lay_out(
        &self,
        image: &Image,
        jailed: bool,
        warnings: &mut Vec<String>,
    ) -> Result<LaunchPlan, ApiError> {
        let (network, jail) = self.network(jailed, warnings)?;
        if network.as_ref().is_some_and(|network| network.own_stack.is_some()) {
            let instead = "the VMM's own network carries it, which is slower";
            warnings.push(format!("passt is not installed: {instead}; `sudo apt install passt`"));
        }
        let directory = self.context.layout.vm(&self.record.id);
        let base = match &image.registered {
            None => self.context.layout.image(&image.id).join(banger_image::source::file::BASE),
            Some(registered) => registered.file.path.clone(),
        };
        self.write_configuration(&directory, image.config.clone(), network.as_ref())?;
        let plan = self.plan(&directory, base, network, jail)?;
        let document = serde_json::to_vec_pretty(&plan.launch).map_err(|error| self.error(&error))?;
        // What an earlier run left must not be taken for this one's.
        fs_err::remove_file(directory.join(file::STATUS))
            .or_else(ignore_missing)
            .map_err(|e| self.error(&e))?;
        if !plan.links.is_empty() {
            make_links(&directory, &plan.links).map_err(|error| self.error(&error))?;
        }
        for file in &plan.files {
            write_private(&directory.join(file.name), &file.content).map_err(|e| self.error(&e))?;
        }
        write_private(&directory.join(file::LAUNCH), &document).map_err(|e| self.error(&e))?;
        Ok(plan)
    }

    /// Whether the VMM can be run in its jail, which is found out once; it may have none.
    fn jail_works(&self, plan: &LaunchPlan) -> bool {
        if plan.launch.control_group.is_none() {
            return true;
        }
        *self.context.places.jails().get_or_init(|| {
            let vmm = &plan.launch.vmm;
            let mut check = HostCommand::new(vmm.path.to_string_lossy())
                .arguments(vmm.arguments.clone())
                .argument(RUN_VMM_CHECK);
            check.directory = Some(self.context.layout.vm(&self.record.id));
            let checked = self.context.commands.run(&check, &Unwatched);
            if let Err(error) = &checked {
                tracing::warn!(error = banger_types::error::chain(error), "VMMs run in no jail");
            }
            checked.is_ok()
        })
    }

    /// Looks whether the files of the user's own that this VM needs are there. Returns what is to be said about them.
    fn check_registered(&self, image: &Image) -> Result<Vec<String>, ApiError> {
        let what = format!("start '{}'", self.record.name);
        let kernels = self.context.store.kernels().map_err(ApiError::from_store(&what))?;
        let kernel = kernels.into_iter().find(|kernel| kernel.id == self.record.spec.kernel);
        let kernel = kernel.and_then(|kernel| Some(("kernel", kernel.name, kernel.registered?.kernel)));
        let rootfs = image.registered.as_ref();
        let rootfs = rootfs.map(|registered| ("image", image.name.clone(), registered.file.clone()));
        let mut warnings = Vec::new();
        for (noun, name, file) in [rootfs, kernel].into_iter().flatten() {
            let error = |problem: &FileProblem| {
                ApiError::new(ErrorKind::Failed, format!("cannot {what}"))
                    .because(format!("the {noun} '{name}': {problem}"))
            };
            match (noun, file_problem(&file)) {
                (_, None) => {}
                // Its modules, and what is derived from it, are those of the kernel before.
                ("kernel", Some(problem @ FileProblem::Changed(_))) => {
                    let fix = format!("`banger kernel pull '{name}'` takes the new one in");
                    return Err(error(&problem).fix(fix));
                }
                (_, Some(problem @ FileProblem::Changed(_))) => {
                    warnings.push(format!("the {noun} '{name}' of '{}': {problem}", self.record.name));
                }
                (_, Some(problem)) => {
                    let fix = "put it back where it was; the VM's own disk has all that was written in it";
                    return Err(error(&problem).fix(fix));
                }
            }
        }
        Ok(warnings)
    }

    fn error(&self, source: &(dyn std::error::Error + 'static)) -> ApiError {
        failed(format!("cannot start '{}'", self.record.name), source)
    }

    fn image(&self) -> Result<Image, ApiError> {
        let what = format!("start '{}'", self.record.name);
        let images = self.context.store.images().map_err(ApiError::from_store(&what))?;
        let wanted = &self.record.spec.image;
        images.into_iter().find(|image| image.id == *wanted).ok_or_else(|| {
            ApiError::new(ErrorKind::Failed, format!("cannot {what}"))
                .because(format!("its image '{}' is gone", self.record.spec.image_name))
        })
    }

    fn network(
        &self,
        jailed: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(Option<NetworkPlan>, Option<JailPlan>), ApiError> {
        match self.record.spec.network {
            NetworkMode::None => Ok((None, None)),
            NetworkMode::Nat => self.placed(jailed, warnings).map(|(network, jail)| (Some(network), jail)),
            NetworkMode::User => {
                let engine = self.context.engine(self.record);
                let terms = UserNetworkTerms {
                    card: engine.card_kind(),
                    own_stack: engine.has_network_stack(),
                    allow_host: self.record.spec.allow_host,
                    routes: banger_host::default_routes(),
                };
                let plan = self.context.networks.user(&terms);
                plan.map(|network| (Some(network), None)).map_err(|error| {
                    let what = format!("cannot start '{}'", self.record.name);
                    ApiError::caused_by(ErrorKind::NotPermitted, what, &error).fix(error.fix())
                })
            }
        }
    }

    /// Returns the plan of a VM that gets a place in a network of the root helper's.
    fn placed(
        &self,
        jailed: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(NetworkPlan, Option<JailPlan>), ApiError> {
        let record = self.record;
        let terms = VmTerms {
            vm: record.id.clone(),
            name: record.name.clone(),
            v6: banger_host::default_routes().v6.is_some(),
            allow_host: record.spec.allow_host,
            reaches_others: !record.spec.no_peers,
            jail: jailed.then(|| JailTerms {
                memory: Mebibytes(record.spec.memory.0 + BESIDE_MEMORY),
                processors: record.spec.vcpus + 1,
                tasks: MOST_TASKS,
            }),
        };
        let note = self.context.places.note(&record.id);
        if !note.exists() {
            // Whoever comes after a daemon that dies now knows that there may be something to take away.
            write_private(&note, b"null").map_err(|error| self.error(&error))?;
        }
        let place = self.context.places.give(terms).map_err(|error| {
            let kind = match error {
                HelperError::NotReady(_) => ErrorKind::NotPermitted,
                _ => ErrorKind::Failed,
            };
            ApiError::caused_by(kind, format!("cannot give '{}' its network", record.name), &error)
                .fix(format!("`banger vm set {} --net user` gives it one that needs no root", record.name))
        })?;
        FaultPoint::StartPlaced.reach();
        warnings.extend(place.warnings.iter().cloned());
        if place.name != format!("{}.{DOMAIN}", record.name) {
            warnings.push(format!("another user has its name on this host: it is {}", place.name));
        }
        let json = serde_json::to_vec(&place).map_err(|error| self.error(&error))?;
        write_private(&note, &json).map_err(|error| self.error(&error))?;
        Ok((self.context.networks.placed(&place), self.context.places.jail(&record.id, &place)))
    }

    fn write_configuration(
        &self,
        directory: &Path,
        mut image: ImageConfig,
        network: Option<&NetworkPlan>,
    ) -> Result<(), ApiError> {
        let host_key = read_key(directory, vm_file::HOST_KEY).map_err(|error| self.error(&error))?;
        let identity = read_key(directory, vm_file::IDENTITY).map_err(|error| self.error(&error))?;
        image.environment.extend(self.record.spec.environment.iter().cloned());
        let private = host_key.to_openssh(ssh_key::LineEnding::LF).map_err(|error| self.error(&error))?;
        let public = identity.public_key().to_openssh().map_err(|error| self.error(&error))?;
        let configuration = GuestConfig {
            version: CONFIG_VERSION,
            hostname: self.record.name.to_string(),
            ssh: SshKeys { host_private_key: private.to_string(), authorized_keys: vec![public] },
            network: network.map(|plan| plan.guest.clone()),
            image,
            service: self.record.spec.service,
            unix_time_ns: unix_time_ns(),
        };
        let json = serde_json::to_vec(&configuration).map_err(|error| self.error(&error))?;
        banger_image::disk::write_configuration(&directory.join(vm_file::CONFIGURATION), &json)
            .map_err(|error| self.error(&error))
    }

    fn plan(
        &self,
        directory: &Path,
        base: PathBuf,
        network: Option<NetworkPlan>,
        jail: Option<JailPlan>,
    ) -> Result<LaunchPlan, ApiError> {
        let spec = &self.record.spec;
        let layout = &self.context.layout;
        let kernel = layout.kernel(&spec.kernel);
        let guest = self.context.programs.guest.load().map_err(|error| self.error(&error))?;
        // A name of the VM's own: it boots from it again when its guest reboots, whatever becomes of the kernel's.
        let initramfs = directory.join(vm_file::INITRAMFS);
        assemble_at(&kernel, &guest, &initramfs).map_err(|error| {
            let failed = self.error(&error);
            ApiError { fix: error.fix().or(failed.fix), ..failed }
        })?;
        let plan = BootPlan {
            directory: directory.to_owned(),
            kernel: kernel.join(banger_image::kernel::file::KERNEL),
            vmlinux: kernel.join(banger_image::kernel::file::VMLINUX),
            initramfs,
            base,
            private_disk: directory.join(vm_file::DISK),
            modules: kernel.join(banger_image::kernel::file::MODULES),
            configuration: directory.join(vm_file::CONFIGURATION),
            vcpus: spec.vcpus,
            memory: spec.memory,
            network,
            accelerator: self.accelerator,
            jail,
        };
        self.context.engine(self.record).plan(&plan).map_err(|error| {
            let what = format!("cannot start '{}'", self.record.name);
            let told = ApiError::caused_by(ErrorKind::NotPermitted, what, &error);
            ApiError { fix: error.fix().map(str::to_owned).or(told.fix), ..told }
        })
    }
}

/// Whether a VM was started confined to its own files, as its monitor was told.
pub(crate) fn is_confined(directory: &Path) -> bool {
    let launch = fs_err::read(directory.join(file::LAUNCH)).ok();
    let launch = launch.and_then(|text| serde_json::from_slice::<LaunchSpec>(&text).ok());
    launch.is_some_and(|launch| banger_engine::is_confined(&launch.vmm))
}

/// Makes links in a VM's jail, in the place of what an earlier start had there.
fn make_links(directory: &Path, links: &[(String, PathBuf)]) -> std::io::Result<()> {
    let jail = directory.join(JAIL);
    for directory in [&jail, &jail.join(jail_file::RUN)] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    for (name, target) in links {
        let link = directory.join(name);
        fs_err::remove_file(&link).or_else(ignore_missing)?;
        fs_err::os::unix::fs::symlink(target, link)?;
    }
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Host time, nanoseconds since the epoch.
pub(super) fn unix_time_ns() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a VM's logs ended before a boot: what stands there is of boots before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    console: u64,
    engine: u64,
}

impl Before {
    /// Looks at the logs of the VM in `directory`.
    pub(super) fn now(directory: &Path) -> Self {
        let length = |log: &str| fs_err::metadata(directory.join(log)).map_or(0, |log| log.len());
        Self { console: length(file::SERIAL_LOG), engine: length(file::ENGINE_LOG) }
    }

    /// Returns the last lines that the guest has printed on its console since, oldest first.
    pub(super) fn last_words(self, directory: &Path) -> Vec<String> {
        last_lines(directory.join(file::SERIAL_LOG), self.console, LAST_LINES)
    }

    /// Returns the last lines that the VMM and its helpers have printed since, oldest first.
    pub(super) fn engines_words(self, directory: &Path) -> Vec<String> {
        last_lines(directory.join(file::ENGINE_LOG), self.engine, ENGINES_LINES)
    }
}

fn last_lines(log: PathBuf, since: u64, most: usize) -> Vec<String> {
    let tail = tail_of(log, since).unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..].to_vec()
}

fn tail_of(path: PathBuf, since: u64) -> std::io::Result<Vec<u8>> {
    let mut log = fs_err::File::open(path)?;
    let length = log.metadata()?.len();
    // One that is shorter now was begun anew.
    let since = if since <= length { since } else { 0 };
    log.seek(SeekFrom::Start(since.max(length.saturating_sub(LAST_BYTES))))?;
    let mut tail = Vec::new();
    log.take(LAST_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}
