//! What registries refuse.

use std::time::Duration;

use reqwest::StatusCode;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It does not have it, or does not show it.
    #[error("the registry {registry} has no '{name}'")]
    NotFound {
        /// The registry.
        registry: String,
        /// The repository and version.
        name: String,
    },
    /// It wants to know who asks, or does not let them.
    #[error("the registry {registry} does not let {who} pull '{repository}'{}", said(message))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// `anybody`, or `you` where there were credentials.
        who: &'static str,
        /// What it says itself.
        message: String,
    },
    /// It has had enough requests.
    #[error(
        "the registry {registry} takes no more requests for now{}",
        again.map_or_else(String::new, |again| format!("; it says to come again in {} seconds", again.as_secs()))
    )]
    RateLimited {
        /// The registry.
        registry: String,
        /// When it says to come again.
        again: Option<Duration>,
    },
    /// Something is wrong with it.
    #[error("the registry {registry} answers {status}{}", said(message))]
    Failed {
        /// The registry.
        registry: String,
        /// What it answers.
        status: StatusCode,
        /// What it says itself.
        message: String,
    },
    /// Its answer makes no sense.
    #[error("the registry {registry} {what}")]
    Nonsense {
        /// The registry.
        registry: String,
        /// What it does.
        what: &'static str,
    },
    /// A document is longer than it can be.
    #[error("the registry {registry} sends a {what} of more than {limit} bytes")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What it sends.
        what: &'static str,
        /// Most bytes.
        limit: u64,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// Whether the same request may do better a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Failed { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    /// Returns what the user can do.
    pub fn fix(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { registry, .. } => format!(
                "look whether the name and the tag are right; of a private one, `docker login {registry}` (or that of \
                 podman or skopeo) says who you are"
            ),
            Self::Unauthorized { registry, who: "you", .. } => {
                format!("look whether you may, and log in again with `docker login {registry}`")
            }
            Self::Unauthorized { registry, .. } => {
                format!(
                    "look whether the name is right, for a registry may say this of what it has not; of a private one, \
                     `docker login {registry}` (or that of podman or skopeo) says who you are"
                )
            }
            Self::RateLimited { registry, .. } => format!(
                "try again later: what has come is kept; whoever is logged in (`docker login {registry}`) may do more"
            ),
            Self::Failed { .. } => "try again later: what has come is kept".to_owned(),
            Self::Nonsense { .. } | Self::TooLarge { .. } => {
                "look whether this is a registry at all".to_owned()
            }
        })
    }
}
