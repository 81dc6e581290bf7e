//! Images in the store of a Docker daemon of this host (Docker Engine API, "Export an image").

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use banger_core::work::Work;
use banger_types::operation::Unit;
use banger_types::reference::DockerReference;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::client::cancellable;
use crate::{DownloadError, Patience};

/// Where Docker's daemon listens.
const SOCKET: &str = "/var/run/docker.sock";
/// Most bytes of what it says of an error.
const LARGEST_MESSAGE: usize = 64 << 10;

/// Why a Docker daemon did not give an image.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// There is none.
    #[error("no Docker daemon listens at {}", socket.display())]
    Absent {
        /// Where it was looked for.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is on another host, or behind something that we do not speak.
    #[error("DOCKER_HOST is '{0}', which is no unix socket")]
    Elsewhere(String),
    /// It does not have it.
    #[error("Docker has no image '{name}'")]
    NotFound {
        /// The image.
        name: String,
    },
    /// It refuses.
    #[error("the Docker daemon answers {status}: {message}")]
    Refused {
        /// What it answers.
        status: StatusCode,
        /// What it says itself.
        message: String,
    },
    /// The image is larger than one may be.
    #[error("the image has more than {limit} bytes")]
    TooLarge {
        /// Most bytes.
        limit: u64,
    },
}

impl DockerError {
    /// Returns what the user can do.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::Absent { .. } => "start Docker, and see that you may use it: `docker info`".to_owned(),
            Self::Elsewhere(_) => "`docker save NAME -o FILE` there, then docker-archive:FILE".to_owned(),
            Self::NotFound { name } => {
                format!("`docker images` shows those that it has; docker://{name} asks the registry")
            }
            Self::Refused { .. } => "`journalctl -u docker` may say more".to_owned(),
            Self::TooLarge { .. } => {
                "if that is what you want, raise `largest` of [image] in the configuration file".to_owned()
            }
        }
    }
}

/// Returns the socket of the daemon that is meant: `DOCKER_HOST`, else that of this host, else the user's own.
pub fn socket(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, DockerError> {
    if let Some(host) = variable("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(DockerError::Elsewhere(host)),
        };
    }
    let own = variable("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("docker.sock"));
    Ok(own.filter(|own| own.exists() && !Path::new(SOCKET).exists()).unwrap_or_else(|| SOCKET.into()))
}

/// Writes an image as `docker save` does to a new file at `destination`.
pub async fn save(
    socket: &Path,
    name: &DockerReference,
    destination: &Path,
    limit: u64,
    work: &dyn Work,
) -> Result<(), DownloadError> {
    // A dial says better than the client why there is nobody.
    tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|source| DockerError::Absent { socket: socket.to_owned(), source })?;
    let http = crate::client::builder()
        .unix_socket(socket)
        .read_timeout(Patience::default().window)
        .no_proxy()
        .build()
        .map_err(DownloadError::Client)?;
    let encoded = utf8_percent_encode(&name.to_string(), NON_ALPHANUMERIC).to_string();
    let url = format!("http://localhost/images/{encoded}/get");
    let broken = |error| crate::client::broken(&url, error);
    let mut response = cancellable(work, http.get(&url).send()).await?.map_err(broken)?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let mut document = Vec::new();
        while let Some(chunk) = cancellable(work, response.chunk()).await?.map_err(broken)? {
            document.extend_from_slice(&chunk);
            if document.len() > LARGEST_MESSAGE {
                break;
            }
        }
        return Err(refusal(status, name, &document).into());
    }
    let failed = |source| DownloadError::File { path: destination.to_owned(), source };
    let mut file = std::fs::File::options().write(true).create_new(true).open(destination).map_err(failed)?;
    let mut length = 0;
    while let Some(chunk) = cancellable(work, response.chunk()).await?.map_err(broken)? {
        length += chunk.len() as u64;
        if length > limit {
            return Err(DockerError::TooLarge { limit }.into());
        }
        file.write_all(&chunk).map_err(failed)?;
        work.progress(length, None, Unit::Bytes);
    }
    Ok(())
}

/// What it says of an error.
#[derive(Deserialize)]
struct Message {
    message: String,
}

fn refusal(status: StatusCode, name: &DockerReference, document: &[u8]) -> DockerError {
    if status == StatusCode::NOT_FOUND {
        return DockerError::NotFound { name: name.to_string() };
    }
    let message = serde_json::from_slice(document).map_or_else(|_| String::new(), |it: Message| it.message);
    let message = message.chars().filter(|character| !character.is_control()).take(200).collect();
    DockerError::Refused { status, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_it_is_said_to_be() {
        let of = |host: &'static str| socket(move |name| (name == "DOCKER_HOST").then(|| host.to_owned()));
        assert_eq!(of("unix:///run/x.sock").unwrap(), Path::new("/run/x.sock"));
        assert!(matches!(of("tcp://10.0.0.1:2375"), Err(DockerError::Elsewhere(_))));
        assert_eq!(of("").unwrap(), Path::new(SOCKET));
    }
}
