//! What every VM's task needs.

use std::sync::Arc;

use banger_core::command::Commands;
use banger_core::engine::Engine;
use banger_core::network::Networks;
use banger_core::store::{Store, StoreError, VmRecord};
use banger_host::MonitorLauncher;
use banger_types::ApiError;
use banger_types::event::Change;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

use super::directory::VmDirectory;
use super::engines::Engines;
use super::kvm::Verdicts;
use super::places::Places;
use crate::event::{Events, Lasting};
use crate::failure::{FromStore as _, failed};
use crate::layout::Layout;
use crate::operation::Operations;
use crate::programs::Programs;
use crate::settings::LiveSettings;
use crate::ssh::SshConfig;

/// The ports and directories that VMs act through.
pub(crate) struct Context {
    pub(crate) layout: Layout,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) engines: Engines,
    pub(crate) verdicts: Verdicts,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) places: Arc<Places>,
    pub(crate) launcher: MonitorLauncher,
    pub(crate) programs: Programs,
    pub(crate) operations: Arc<Operations>,
    pub(crate) events: Arc<Events>,
    pub(crate) vms: VmDirectory,
    pub(crate) ssh: SshConfig,
    pub(crate) settings: Arc<LiveSettings>,
}

impl Context {
    /// Returns the engine that runs a VM.
    pub(crate) fn engine(&self, vm: &VmRecord) -> Arc<dyn Engine> {
        Arc::clone(self.engines.get(vm.spec.engine))
    }

    /// Tells everybody who listens of a change that lasts.
    pub(crate) fn tell(&self, change: Change) {
        self.events.publish(change, Lasting::Yes);
    }

    /// Calls the store from a thread that may block.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        what: &str,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        blocking(what, move || call(store.as_ref())).await?.map_err(ApiError::from_store(what))
    }
}

/// Runs `work`, which may block for a while, where it is. What else this thread had to do is done by another meanwhile.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Runtime::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(format!("cannot {what}"), &error))
}
