//! Kernels, as `banger kernel …` shows them.

use banger_api::request::{KernelRegisterRequest, PullRequest};
use banger_api::{Client, ClientError};
use banger_types::guest::KernelFeature;
use banger_types::kernel::Kernel;
use banger_types::operation::Operation;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::Outcome;
use super::artifact::{Artifact, absolute, await_made};
use crate::arguments::KernelRegisterArguments;
use crate::context::Context;
use crate::printer::{Table, ago};

impl Artifact for Kernel {
    const NOUN: &'static str = "kernel";
    const HEADINGS: [&'static str; 6] = ["NAME", "ID", "RELEASE", "ON DISK", "CREATED", "SOURCE"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(self, now: Timestamp) -> [String; 6] {
        [
            self.name,
            self.id.to_string(),
            self.release,
            human_bytes(self.disk_usage),
            ago(self.created_at, now),
            self.problem.unwrap_or(self.source),
        ]
    }

    fn properties(&self, now: Timestamp) -> Table {
        let mut table = Table::of_properties();
        table.property("Name", &self.name);
        table.property("Id", self.id.to_string());
        table.property("Source", &self.source);
        table.properties("Problem", &self.problem);
        table.property("Release", &self.release);
        table.properties("Version", (!self.version.is_empty()).then(|| self.version.clone()));
        let initrd = self.registered.as_ref().and_then(|files| files.initrd.as_ref());
        table.properties("Initramfs", initrd.map(|initrd| initrd.path.display().to_string()));
        table.properties("Can do", listed(&self.features));
        table.property("On disk", human_bytes(self.disk_usage));
        table.property("Created", ago(self.created_at, now));
        table
    }

    async fn all(client: &Client) -> Result<Vec<Self>, ClientError> {
        client.kernels().await
    }

    async fn get(client: &Client, name: &str) -> Result<Self, ClientError> {
        client.kernel(name).await
    }

    async fn pull(client: &Client, request: &PullRequest) -> Result<Operation, ClientError> {
        client.pull_kernel(request).await
    }

    async fn delete(client: &Client, name: &str) -> Result<Operation, ClientError> {
        client.delete_kernel(name).await
    }
}

/// Returns features as a list, if any are known.
fn listed(features: &[KernelFeature]) -> Option<String> {
    let names: Vec<_> = features.iter().map(|feature| feature.name()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Registers files as a kernel and prints its name.
pub(super) async fn register(context: &Context, arguments: KernelRegisterArguments) -> Outcome {
    let KernelRegisterArguments { kernel, initrd, name, wait } = arguments;
    let initrd = initrd.map(|initrd| absolute(&initrd)).transpose()?;
    let request = KernelRegisterRequest { kernel: absolute(&kernel)?, initrd, name };
    let client = context.daemon().await?;
    let operation = client.register_kernel(&request).await?;
    await_made::<Kernel>(context, client, operation, wait).await
}
