//! KVM's verdicts: found out once for each boot of the host, kernel and VMM, and remembered.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banger_core::engine::{Engine, EngineProgram, Question};
use banger_core::kvm::Verdict;
use banger_core::work::Work as _;
use banger_image::publish::write_file;
use banger_types::monitor::Program;
use banger_types::vm::{Accelerator, NetworkMode};
use banger_types::{ApiError, KernelId};
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::probe::Asked;
use crate::failure::cancelled;
use crate::operation::Part;

/// What is done, as a clause.
const DOING: &str = "see whether KVM works";

/// What is remembered, in one file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    /// The host's boot in which this was found out.
    boot_id: String,
    /// By VMM, version and kernel.
    verdicts: BTreeMap<String, Verdict>,
    /// What the last VM got that was made, in words that its user has been told.
    last_choice: Option<String>,
    /// The network that the last VM got whose maker named none.
    #[serde(default)]
    last_network: Option<NetworkMode>,
}

/// The verdicts.
pub(crate) struct Verdicts {
    file: PathBuf,
    memory: Mutex<Memory>,
    /// Held while a guest is booted to find out: nobody does that twice.
    probing: tokio::sync::Mutex<()>,
}

impl Verdicts {
    /// Returns those that are remembered in `file`, if they are of this boot of the host. What users were told holds longer.
    pub(crate) fn new(file: PathBuf) -> Self {
        let boot_id = banger_host::boot_id();
        let read = fs_err::read(&file).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let mut memory: Memory = read.unwrap_or_default();
        if memory.boot_id != boot_id || boot_id.is_empty() {
            memory.verdicts.clear();
            memory.boot_id = boot_id;
        }
        Self { file, memory: Mutex::new(memory), probing: tokio::sync::Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the verdict on KVM for an engine with a kernel. Boots a guest to find out, if nobody has.
    pub(super) async fn of(
        &self,
        context: &Context,
        engine: &Arc<dyn Engine>,
        program: &EngineProgram,
        kernel: &KernelId,
        work: &Part,
    ) -> Result<Verdict, ApiError> {
        // The device may have come or gone since; that costs nothing to see.
        if let Some(verdict) = banger_host::kvm_device() {
            return Ok(verdict);
        }
        let key = key(program, kernel, &context.layout.kernel(kernel));
        let _probing = tokio::select! {
            biased;
            () = work.cancelled() => return Err(probe_cancelled()),
            turn = self.probing.lock() => turn,
        };
        if let Some(verdict) = self.memory().verdicts.get(&key) {
            return Ok(verdict.clone());
        }
        work.stage(DOING);
        let asked = Asked { kernel, question: Question::Boots, accelerator: Accelerator::Kvm };
        let boot =
            |vmm: &Program, directory: &Path, work: &Part| banger_host::probe_kvm(vmm, directory, work);
        let verdict = context.ask(DOING, engine, asked, work, boot).await?;
        work.log(&format!("KVM under {}: {}", engine.kind(), verdict.reason));
        tracing::info!(engine = %engine.kind(), usable = verdict.usable, reason = verdict.reason, "KVM");
        if verdict.lasts {
            let mut memory = self.memory();
            memory.verdicts.insert(key, verdict.clone());
            self.write(&memory);
        }
        Ok(verdict)
    }

    /// Returns what the last VM got that was made.
    pub(super) fn last_choice(&self) -> Option<String> {
        self.memory().last_choice.clone()
    }

    /// Remembers what a VM gets. Returns whether it is something else than the last one got.
    pub(super) fn remember_choice(&self, choice: &str) -> bool {
        let mut memory = self.memory();
        let changed = memory.last_choice.as_deref() != Some(choice);
        if changed {
            memory.last_choice = Some(choice.to_owned());
            self.write(&memory);
        }
        changed
    }

    /// Remembers the network that a VM gets whose maker named none. Returns whether it is another than the last one got.
    pub(super) fn remember_network(&self, network: NetworkMode) -> bool {
        let mut memory = self.memory();
        let changed = memory.last_network != Some(network);
        if changed {
            memory.last_network = Some(network);
            self.write(&memory);
        }
        changed
    }

    fn write(&self, memory: &Memory) {
        let json = serde_json::to_vec_pretty(memory).unwrap_or_default();
        if let Err(error) = write_file(&self.file, &json, 0o600) {
            tracing::warn!(%error, "what is known of KVM is not remembered");
        }
    }
}

/// Returns what a verdict is remembered by. Another build of the same version is another VMM, and a kernel that is made anew
/// another kernel.
fn key(program: &EngineProgram, kernel: &KernelId, bundle: &Path) -> String {
    let build = |path: &Path| {
        let file = fs_err::metadata(path).ok();
        file.map(|file| format!("{}-{}-{}", file.len(), file.mtime(), file.mtime_nsec())).unwrap_or_default()
    };
    let kernel = format!("{kernel} {}", build(&bundle.join(banger_image::kernel::file::KERNEL)));
    format!("{} {} {} {kernel}", program.path.display(), program.version, build(&program.path))
}

fn probe_cancelled() -> ApiError {
    cancelled(format!("cannot {DOING}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(file: &std::path::Path) -> Option<Verdict> {
        Verdicts::new(file.to_owned()).memory().verdicts.get("a VMM and a kernel").cloned()
    }

    #[test]
    fn verdicts_hold_for_a_boot_of_the_host_and_what_was_said_for_longer() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kvm.json");
        let verdicts = Verdicts::new(file.clone());
        let mut memory = verdicts.memory();
        memory.verdicts.insert("a VMM and a kernel".to_owned(), Verdict::works());
        verdicts.write(&memory);
        drop(memory);
        assert!(verdicts.remember_choice("qemu, by emulation"));
        assert_eq!(remembered(&file), Some(Verdict::works()));

        let text = fs_err::read_to_string(&file).unwrap();
        fs_err::write(&file, text.replace(&banger_host::boot_id(), "another boot")).unwrap();
        assert_eq!(remembered(&file), None);
        assert!(!Verdicts::new(file.clone()).remember_choice("qemu, by emulation"));
        fs_err::write(&file, "{").unwrap();
        assert_eq!(remembered(&file), None);
    }
}
