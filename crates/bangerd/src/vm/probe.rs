//! Guests that are booted to answer one question.

use std::path::Path;
use std::sync::Arc;

use banger_core::engine::{Engine, ProbePlan, Question};
use banger_core::work::{Cancelled, Work as _};
use banger_image::kernel::{file, initramfs};
use banger_image::publish::Staging;
use banger_types::guest::Inspection;
use banger_types::monitor::Program;
use banger_types::vm::{Accelerator, NetworkMode};
use banger_types::{ApiError, KernelId};

use super::context::{Context, blocking};
use super::engines::Wishes;
use super::files::write_private;
use crate::failure::{cancelled, failed, work_failed};
use crate::operation::Part;

/// What a guest boots with that is asked something.
pub(super) struct Asked<'a> {
    pub(super) kernel: &'a KernelId,
    pub(super) question: Question,
    pub(super) accelerator: Accelerator,
}

impl Context {
    /// Boots a guest from a kernel with a file as its drive, read-only, and returns what it says of both; or what it did
    /// instead, as a clause without a subject. `stage` is what this is to whoever waits.
    pub(crate) async fn inspect(
        &self,
        what: &str,
        stage: &str,
        kernel: &KernelId,
        drive: &Path,
        work: &Part,
    ) -> Result<Result<Inspection, String>, ApiError> {
        let wishes = Wishes { engine: None, vcpus: 1, kernel, network: NetworkMode::None };
        let choice = self.choose_engine(&format!("cannot {what}"), wishes, work).await?;
        let engine = self.engines.get(choice.engine);
        work.stage(stage);
        let question = Question::Inspect(drive.to_owned());
        let asked = Asked { kernel, question, accelerator: choice.accelerator };
        self.ask(what, engine, asked, work, |vmm, directory, work| banger_host::inspect(vmm, directory, work))
            .await
    }

    /// Boots a guest by `run`, which gets the VMM and the directory that it runs in.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: &str,
        engine: &Arc<dyn Engine>,
        asked: Asked<'_>,
        work: &Part,
        run: impl FnOnce(&Program, &Path, &Part) -> Result<T, Cancelled> + Send + 'static,
    ) -> Result<T, ApiError> {
        let cannot = format!("cannot {what}");
        let guest = self.programs.guest.load().map_err(|error| failed(&cannot, &error))?;
        let (bundle, engine) = (self.layout.kernel(asked.kernel), Arc::clone(engine));
        let Asked { question, accelerator, .. } = asked;
        let (work, what) = (work.clone(), what.to_owned());
        let scratch = Staging::within(&self.layout.templates()).map_err(|error| failed(&cannot, &error))?;
        let doing = what.clone();
        blocking(&doing, move || {
            let initramfs = initramfs::assemble(&bundle, &guest)
                .map_err(|error| work_failed(&what, error.is_cancelled(), error.fix(), &error))?;
            let plan = ProbePlan {
                question,
                accelerator,
                kernel: bundle.join(file::KERNEL),
                vmlinux: bundle.join(file::VMLINUX),
                initramfs,
            };
            let planned = engine.probe(&plan).map_err(|error| failed(&cannot, &error))?;
            for file in &planned.files {
                write_private(&scratch.path().join(file.name), &file.content)
                    .map_err(|error| failed(&cannot, &error))?;
            }
            run(&planned.vmm, scratch.path(), &work).map_err(|_| cancelled(&cannot))
        })
        .await?
    }
}
