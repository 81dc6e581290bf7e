//! The engines that there are, and which one runs a VM.

use std::sync::Arc;

use banger_core::engine::{Engine, EngineError};
use banger_core::kvm::{Choice, Obstacle, ways};
use banger_core::store::{Store, VmRecord};
use banger_types::guest::KernelFeature;
use banger_types::kernel::Kernel;
use banger_types::vm::{Accelerator, EngineKind, NetworkMode};
use banger_types::{ApiError, ErrorKind, KernelId};

use super::context::{Context, blocking};
use super::files::remember_accelerator;
use crate::failure::failed;
use crate::operation::Part;

/// All engines.
pub(crate) struct Engines {
    firecracker: Arc<dyn Engine>,
    qemu: Arc<dyn Engine>,
}

/// What the engine of a VM has to do with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes<'a> {
    /// The engine, if that was asked for.
    pub(super) engine: Option<EngineKind>,
    pub(super) vcpus: u32,
    pub(super) kernel: &'a KernelId,
    pub(super) network: NetworkMode,
}

impl Engines {
    pub(crate) const fn new(firecracker: Arc<dyn Engine>, qemu: Arc<dyn Engine>) -> Self {
        Self { firecracker, qemu }
    }

    /// Returns all of them, in order of preference.
    pub(crate) fn all(&self) -> [Arc<dyn Engine>; 2] {
        [Arc::clone(&self.firecracker), Arc::clone(&self.qemu)]
    }

    /// Returns the one that runs VMs without KVM, too.
    fn emulating(&self) -> Option<EngineKind> {
        self.all().into_iter().find(|engine| engine.emulates()).map(|engine| engine.kind())
    }

    /// Returns an engine.
    pub(crate) fn get(&self, kind: EngineKind) -> &Arc<dyn Engine> {
        match kind {
            EngineKind::Firecracker => &self.firecracker,
            EngineKind::Qemu => &self.qemu,
        }
    }
}

impl Context {
    /// Chooses what runs a VM: the first engine with which KVM works, else the first that emulates; what was asked for, if
    /// something was. Boots guests to find out what works, if nobody has since the host was started.
    pub(super) async fn choose_engine(
        &self,
        what: &str,
        wishes: Wishes<'_>,
        work: &Part,
    ) -> Result<Choice, ApiError> {
        self.choose(wishes, work).await?.map_err(|obstacles| refused(what, obstacles))
    }

    /// Returns what isolates a VM that is started now, by the engine that it has. Warns if that is less than before.
    pub(super) async fn accelerator(&self, vm: &VmRecord, work: &Part) -> Result<Accelerator, ApiError> {
        let spec = &vm.spec;
        let wishes = Wishes {
            engine: Some(spec.engine),
            vcpus: spec.vcpus,
            kernel: &spec.kernel,
            network: spec.network,
        };
        let choice = self.choose(wishes, work).await?.map_err(|obstacles| {
            let error = refused(&format!("cannot start '{}'", vm.name), obstacles);
            match self.engines.emulating().filter(|other| *other != spec.engine) {
                Some(other) => {
                    let instead =
                        format!("`banger vm set {} --engine {other}` runs it all the same", vm.name);
                    let fix = error.fix.as_ref().map_or(instead.clone(), |fix| format!("{fix}; {instead}"));
                    error.fix(fix)
                }
                None => error,
            }
        })?;
        let (directory, accelerator) = (self.layout.vm(&vm.id), choice.accelerator);
        let what = format!("cannot start '{}'", vm.name);
        let less = blocking("prepare a VM", move || remember_accelerator(&directory, accelerator)).await?;
        if less.map_err(|error| failed(what, &error))? {
            let slower = "runs by emulation from now on, which is slower";
            work.warn(format!("'{}' {slower}: {}", vm.name, choice.describe()));
        }
        Ok(choice.accelerator)
    }

    /// Chooses, or returns what is in the way of each engine that may be chosen.
    async fn choose(
        &self,
        wishes: Wishes<'_>,
        work: &Part,
    ) -> Result<Result<Choice, Vec<(EngineKind, Obstacle)>>, ApiError> {
        let engines = self.engines.all();
        let of_engines: Vec<_> = engines.iter().map(|engine| (engine.kind(), engine.emulates())).collect();
        let features = self.features(wishes.kernel).await?;
        let mut instead_of = Vec::new();
        for (engine, accelerator) in ways(&of_engines) {
            if wishes.engine.is_some_and(|wished| wished != engine) {
                continue;
            }
            let enough = enough_vcpus(self.engines.get(engine).as_ref(), wishes.vcpus);
            let obstacle = match enough.and_then(|()| has_needed(&features, engine, wishes.network)) {
                Err(reason) => Some(Obstacle { reason, fix: None }),
                Ok(()) if accelerator == Accelerator::Kvm => self.kvm_obstacle(engine, wishes, work).await?,
                Ok(()) => None,
            };
            match obstacle {
                None => return Ok(Ok(Choice { engine, accelerator, instead_of })),
                Some(obstacle) => instead_of.push((engine, obstacle)),
            }
        }
        Ok(Err(instead_of))
    }

    /// Returns what a kernel can do, as far as that is known.
    async fn features(&self, kernel: &KernelId) -> Result<Vec<KernelFeature>, ApiError> {
        let kernel = kernel.clone();
        let look = move |store: &dyn Store| {
            let found = store.kernels()?.into_iter().find(|known| known.id == kernel);
            Ok(found.map(|kernel| kernel.features).unwrap_or_default())
        };
        self.store("look for a kernel", look).await
    }

    /// Returns what new VMs get, as far as it is known, for people.
    pub(crate) fn describe_engine(&self) -> String {
        let last = self.verdicts.last_choice();
        last.unwrap_or_else(|| "not known yet: it is found out when the first VM is made".to_owned())
    }

    /// Remembers a choice. Returns what is to be said, once, when VMs cannot have the best that there is: why, and what
    /// can be done about it.
    pub(super) fn first_time(&self, choice: &Choice, vcpus: u32, kernel: &Kernel) -> Option<String> {
        let described = choice.describe();
        let mut engines = choice.instead_of.iter().map(|(engine, _)| self.engines.get(*engine));
        let is_of_kernel = kernel.registered.is_some() && !choice.instead_of.is_empty();
        if is_of_kernel || engines.any(|engine| enough_vcpus(engine.as_ref(), vcpus).is_err()) {
            // That is this VM's own affair, and says nothing of others.
            return Some(format!("this VM gets {described}"));
        }
        if !self.verdicts.remember_choice(&described) || choice.instead_of.is_empty() {
            return None;
        }
        let fix = choice.instead_of.iter().find_map(|(_, obstacle)| obstacle.fix.as_deref());
        let fix = fix.map(|fix| format!("; to change that: {fix}")).unwrap_or_default();
        Some(match choice.accelerator {
            Accelerator::Kvm => format!("VMs get {described}{fix}"),
            Accelerator::Tcg => {
                format!("no hardware virtualisation here, so VMs are slower: {described}{fix}")
            }
        })
    }

    /// Returns what stands in the way of running a VM by KVM with an engine: its program, KVM, or how it is attached to a
    /// network.
    async fn kvm_obstacle(
        &self,
        kind: EngineKind,
        wishes: Wishes<'_>,
        work: &Part,
    ) -> Result<Option<Obstacle>, ApiError> {
        let engine = self.engines.get(kind);
        let asked = Arc::clone(engine);
        let program = match blocking("look for an engine", move || asked.program()).await? {
            Ok(program) => program,
            Err(error) => return Ok(Some(obstacle(&error))),
        };
        let verdict = self.verdicts.of(self, engine, &program, wishes.kernel, work).await?;
        if !verdict.usable {
            return Ok(Some(verdict.into()));
        }
        // The device of a VM with a place of its own is made by the helper, when it is needed.
        if wishes.network != NetworkMode::User {
            return Ok(None);
        }
        let (networks, card) = (Arc::clone(&self.networks), engine.card_kind());
        let checked = blocking("look for a network", move || networks.check(card)).await?;
        Ok(checked.err().map(|error| Obstacle { reason: error.to_string(), fix: Some(error.fix()) }))
    }
}

/// Returns why an engine cannot give a VM so many virtual CPUs.
pub(super) fn enough_vcpus(engine: &dyn Engine, vcpus: u32) -> Result<(), String> {
    let most = engine.most_vcpus();
    if vcpus <= most {
        Ok(())
    } else {
        Err(format!("{} gives a VM {most} virtual CPUs at most", engine.kind()))
    }
}

/// Returns what a kernel with these features lacks for a VM of an engine: something to be spoken to by, or for its network.
/// Nothing is known of a kernel without any.
fn has_needed(features: &[KernelFeature], engine: EngineKind, network: NetworkMode) -> Result<(), String> {
    let has = |feature| features.is_empty() || features.contains(&feature);
    let (channel, name) = match engine {
        EngineKind::Firecracker => (KernelFeature::Socket, "vsock over virtio"),
        EngineKind::Qemu => (KernelFeature::Console, "virtio-console"),
    };
    if network != NetworkMode::None && !has(KernelFeature::Network) {
        return Err("its kernel has no virtio-net; `--net none` does without".to_owned());
    }
    if !has(channel) {
        return Err(format!("its kernel has no {name}"));
    }
    Ok(())
}

fn obstacle(error: &EngineError) -> Obstacle {
    Obstacle { reason: error.to_string(), fix: error.fix().map(str::to_owned) }
}

/// There is always a way, unless somebody wants an engine that has none.
fn refused(what: &str, obstacles: Vec<(EngineKind, Obstacle)>) -> ApiError {
    let error = ApiError::new(ErrorKind::NotPermitted, what);
    let Some((_, obstacle)) = obstacles.into_iter().next() else { return error };
    ApiError { fix: obstacle.fix, ..error.because(obstacle.reason) }
}
