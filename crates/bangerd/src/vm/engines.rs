//! The engines that there are, and which one a new VM gets.

use std::sync::Arc;

use banger_core::engine::Engine;
use banger_types::vm::EngineKind;

/// All engines.
pub(crate) struct Engines {
    firecracker: Arc<dyn Engine>,
    qemu: Arc<dyn Engine>,
}

impl Engines {
    pub(crate) const fn new(firecracker: Arc<dyn Engine>, qemu: Arc<dyn Engine>) -> Self {
        Self { firecracker, qemu }
    }

    /// Returns an engine.
    pub(crate) fn get(&self, kind: EngineKind) -> &Arc<dyn Engine> {
        match kind {
            EngineKind::Firecracker => &self.firecracker,
            EngineKind::Qemu => &self.qemu,
        }
    }

    /// Returns the engine of a new VM.
    pub(crate) fn choose(&self, asked: Option<EngineKind>) -> &Arc<dyn Engine> {
        self.get(asked.unwrap_or(EngineKind::Qemu))
    }
}
