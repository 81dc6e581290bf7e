//! Images, as `banger image …` shows them.

use std::path::PathBuf;

use banger_api::request::{PullRequest, RegisterRequest};
use banger_api::{Client, ClientError};
use banger_types::image::{Image, ImageLayer, RegisteredRootfs};
use banger_types::operation::Operation;
use banger_types::shell::command_line;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::Outcome;
use super::artifact::{Artifact, absolute, await_made};
use crate::arguments::RegisterArguments;
use crate::context::Context;
use crate::printer::{Table, ago};

impl Artifact for Image {
    const NOUN: &'static str = "image";
    const HEADINGS: [&'static str; 6] = ["NAME", "ID", "SIZE", "ON DISK", "CREATED", "SOURCE"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(self, now: Timestamp) -> [String; 6] {
        [
            self.name,
            self.id.to_string(),
            human_bytes(self.size),
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
        table.properties("Digest", &self.digest);
        table.property("Size", human_bytes(self.size));
        table.property("On disk", human_bytes(self.disk_usage));
        table.property("Created", ago(self.created_at, now));
        if let Some(RegisteredRootfs { found, kernel, .. }) = &self.registered {
            let place = found.partition.map(|number| format!(", on partition {number}")).unwrap_or_default();
            table.property("File system", format!("{}{place}", found.file_system));
            table.properties("Init", &found.init);
            table.properties("Kernel", kernel.as_ref().map(ToString::to_string));
        }
        table.properties("Layers", self.layers.iter().map(layer_line));
        let config = &self.config;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        table.properties("User", given(&config.user));
        table.properties("Directory", given(&config.working_directory));
        table.properties("Entrypoint", given(&command_line(&config.entrypoint)));
        table.properties("Command", given(&command_line(&config.command)));
        table.properties("Stop signal", &config.stop_signal);
        table.properties("Exposed ports", &config.exposed_ports);
        table.properties("Environment", &config.environment);
        table.properties("Labels", config.labels.iter().map(|(name, value)| format!("{name}={value}")));
        table
    }

    async fn all(client: &Client) -> Result<Vec<Self>, ClientError> {
        client.images().await
    }

    async fn get(client: &Client, name: &str) -> Result<Self, ClientError> {
        client.image(name).await
    }

    async fn pull(client: &Client, request: &PullRequest) -> Result<Operation, ClientError> {
        client.pull_image(request).await
    }

    async fn delete(client: &Client, name: &str) -> Result<Operation, ClientError> {
        client.delete_image(name).await
    }
}

/// Registers files as an image and prints its name.
pub(super) async fn register(context: &Context, arguments: RegisterArguments) -> Outcome {
    let RegisterArguments { rootfs, kernel, initrd, name, wait } = arguments;
    let own = |path: Option<PathBuf>| path.map(|path| absolute(&path)).transpose();
    let request =
        RegisterRequest { rootfs: absolute(&rootfs)?, kernel: own(kernel)?, initrd: own(initrd)?, name };
    let client = context.daemon().await?;
    let operation = client.register_image(&request).await?;
    await_made::<Image>(context, client, operation, wait).await
}

/// Returns what there is to say of a layer.
fn layer_line(layer: &ImageLayer) -> String {
    let what = format!("{}  {:>8}", layer.short_digest(), human_bytes(layer.size));
    [Some(what), layer.created_by.clone()].into_iter().flatten().collect::<Vec<_>>().join("  ")
}
