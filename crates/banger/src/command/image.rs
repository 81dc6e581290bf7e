//! Images, as `banger image …` shows them.

use banger_api::request::PullRequest;
use banger_api::{Client, ClientError};
use banger_types::image::Image;
use banger_types::operation::Operation;
use banger_types::size::human_bytes;
use jiff::Timestamp;

use super::artifact::Artifact;
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
            self.source,
        ]
    }

    fn properties(&self, now: Timestamp) -> Table {
        let mut table = Table::of_properties();
        table.property("Name", &self.name);
        table.property("Id", self.id.to_string());
        table.property("Source", &self.source);
        table.property("Digest", &self.digest);
        table.property("Size", human_bytes(self.size));
        table.property("On disk", human_bytes(self.disk_usage));
        table.property("Created", ago(self.created_at, now));
        let config = &self.config;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        table.properties("User", given(&config.user));
        table.properties("Directory", given(&config.working_directory));
        table.properties("Entrypoint", given(&words(&config.entrypoint)));
        table.properties("Command", given(&words(&config.command)));
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

    async fn delete(client: &Client, name: &str) -> Result<(), ClientError> {
        client.delete_image(name).await
    }
}

/// Returns a command as a shell would take it, so that one word with a space is not two.
fn words(command: &[String]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    let quoted = |word: &String| {
        if word.bytes().all(plain) && !word.is_empty() {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let command = ["/bin/sh", "-c", "echo it's", ""].map(str::to_owned);
        assert_eq!(words(&command), r"/bin/sh -c 'echo it'\''s' ''");
    }
}
