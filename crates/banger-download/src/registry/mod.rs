//! What registries have: manifests and blobs (OCI distribution-spec, "Pull").

mod authentication;
pub mod credentials;
mod error;
mod places;

use std::path::Path;
use std::time::Duration;

use banger_core::work::Work;
use banger_types::digest::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use sha2::Digest as _;
use tokio::sync::Mutex;

use crate::client::part;
use crate::transfer::{Server, Transfer};
use crate::{Client, DownloadError, Source};
pub use authentication::Credentials;
use authentication::{Challenge, LARGEST_TOKEN};
pub use error::RegistryError;
pub use places::Places;

/// Most bytes of what a registry says of an error.
const LARGEST_ERROR: u64 = 64 << 10;
/// How often a registry may say to come again later.
const MOST_WAITS: u32 = 3;

/// A repository at one place: its registry, or a mirror of that.
#[derive(Debug)]
pub struct Repository {
    client: Client,
    /// The registry, as users know it.
    registry: String,
    /// `https://HOST`, without a slash at the end.
    base: String,
    name: String,
    credentials: Option<Credentials>,
    /// What requests carry: what was good last.
    authorization: Mutex<Option<HeaderValue>>,
}

/// A document, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The media type that it came with.
    pub media_type: Option<String>,
    /// Its digest.
    pub digest: Digest,
}

impl Repository {
    /// Returns the repository `name` of a registry that is called `registry` and answers at `base`, as
    /// `https://registry.example`.
    pub fn new(
        client: Client,
        registry: &str,
        base: &str,
        name: &str,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            client,
            registry: registry.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
            name: name.to_owned(),
            credentials,
            authorization: Mutex::new(None),
        }
    }

    /// Asks for the manifest of a version: a tag or a digest, which it then has to have.
    pub async fn manifest(
        &self,
        version: &str,
        accept: &[&str],
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        let url = format!("{}/v2/{}/manifests/{version}", self.base, self.name);
        let accept = accept.join(", ");
        let fetched = self.document(&url, Some(&accept), "manifest", limit, work).await?;
        verified(fetched, &url, version.parse().ok())
    }

    /// Asks for a blob that is short, as a configuration is.
    pub async fn small_blob(
        &self,
        digest: Digest,
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        let url = self.blob_url(digest);
        let fetched = self.document(&url, None, "configuration", limit, work).await?;
        verified(fetched, &url, Some(digest))
    }

    /// Downloads a blob of `size` bytes to `destination`, as [`crate::Downloader::download`] does.
    pub async fn blob(
        &self,
        digest: Digest,
        size: u64,
        destination: &Path,
        work: &dyn Work,
    ) -> Result<(), DownloadError> {
        let source = Source { url: self.blob_url(digest), digest, limit: size };
        let patience = self.client.patience;
        Transfer { server: self, patience, source: &source, destination, work }.run().await
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.name)
    }

    /// Asks for a document until it is there.
    async fn document(
        &self,
        url: &str,
        accept: Option<&str>,
        what: &'static str,
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        self.client.persist(work, || self.document_once(url, accept, what, limit, work)).await
    }

    async fn document_once(
        &self,
        url: &str,
        accept: Option<&str>,
        what: &'static str,
        limit: u64,
        work: &dyn Work,
    ) -> Result<Fetched, DownloadError> {
        let request = || {
            let request = self.client.http.get(url);
            if let Some(accept) = accept { request.header(ACCEPT, accept) } else { request }
        };
        let response = self.send(&request, url, work).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response, url).await.into());
        }
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|it| it.split(';').next().unwrap_or_default().trim().to_owned());
        let bytes = self.body(response, what, limit, url).await?;
        let digest = Digest::from_bytes(sha2::Sha256::digest(&bytes).into());
        Ok(Fetched { bytes, media_type, digest })
    }

    /// Reads an answer that should be short.
    async fn body(
        &self,
        response: Response,
        what: &'static str,
        limit: u64,
        url: &str,
    ) -> Result<Vec<u8>, DownloadError> {
        let body = self.client.body(response, limit, url).await;
        body.map_err(|error| match error {
            DownloadError::TooLong { limit, .. } => {
                RegistryError::TooLarge { registry: self.registry.clone(), what, limit }.into()
            }
            other => other,
        })
    }

    /// Sends a request with what lets us in. A registry that wants something else gets that, once; one that wants to be
    /// left alone for a moment is.
    async fn send(
        &self,
        request: &(dyn Fn() -> RequestBuilder + Sync),
        url: &str,
        work: &dyn Work,
    ) -> Result<Response, DownloadError> {
        let (mut renewed, mut waits) = (false, 0);
        loop {
            let carried = self.authorization.lock().await.clone();
            let authorized = match &carried {
                Some(value) => request().header(AUTHORIZATION, value),
                None => request(),
            };
            let response = self.client.send(authorized, url).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !renewed => {
                    renewed = true;
                    if !self.renew(carried.as_ref(), response.headers(), work).await? {
                        return Ok(response);
                    }
                }
                StatusCode::TOO_MANY_REQUESTS => {
                    let again = retry_after(response.headers());
                    waits += 1;
                    let limited = RegistryError::RateLimited { registry: self.registry.clone(), again };
                    match again
                        .filter(|again| *again <= self.client.patience.longest_wait && waits <= MOST_WAITS)
                    {
                        Some(again) => {
                            work.log(&limited.to_string());
                            tokio::time::sleep(again).await;
                        }
                        None => return Err(limited.into()),
                    }
                }
                _ => return Ok(response),
            }
        }
    }

    /// Gets what lets us in anew. `carried` is what did not. Returns whether there is something else to try.
    async fn renew(
        &self,
        carried: Option<&HeaderValue>,
        headers: &HeaderMap,
        work: &dyn Work,
    ) -> Result<bool, DownloadError> {
        let mut authorization = self.authorization.lock().await;
        // Whoever was refused at the same time may have got it meanwhile: one token does for all layers.
        if authorization.as_ref() != carried {
            return Ok(true);
        }
        let Some(challenge) = Challenge::of(headers) else { return Ok(false) };
        let renewed = match challenge {
            Challenge::Basic => self.credentials.as_ref().and_then(Credentials::basic),
            Challenge::Bearer { realm, service, scope } => {
                Some(self.token(&realm, service.as_deref(), scope, work).await?)
            }
        };
        let changed = renewed.is_some() && renewed.as_ref() != carried;
        if changed {
            *authorization = renewed;
        }
        Ok(changed)
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<String>,
        work: &dyn Work,
    ) -> Result<HeaderValue, DownloadError> {
        let nonsense = |what| RegistryError::Nonsense { registry: self.registry.clone(), what };
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.name));
        let secure = self.base.starts_with("https:");
        let http = &self.client.http;
        let request =
            authentication::token_request(http, (realm, service, &scope), self.credentials.as_ref(), secure)
                .ok_or_else(|| nonsense("sends to an address for a token that nobody may be sent to"))?;
        work.log(&format!("ask {} for a token", printable_host(realm)));
        let response = self.client.send(request, realm).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response, realm).await.into());
        }
        let document = self.body(response, "token", LARGEST_TOKEN, realm).await?;
        Ok(authentication::bearer(&document)
            .ok_or_else(|| nonsense("has no token where it says there is one"))?)
    }

    /// Returns why a registry did not give what it was asked for.
    async fn refusal(&self, response: Response, url: &str) -> RegistryError {
        let (registry, status) = (self.registry.clone(), response.status());
        let again = retry_after(response.headers());
        let message = self.body(response, "message", LARGEST_ERROR, url).await.ok();
        let message = message.map_or_else(String::new, |document| message_of(&document));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Unauthorized {
                registry,
                repository: self.name.clone(),
                who: if self.credentials.is_some() { "you" } else { "anybody" },
                message,
            },
            StatusCode::NOT_FOUND => {
                let version = url.rsplit('/').next().unwrap_or_default();
                let joint = if version.contains(':') { '@' } else { ':' };
                RegistryError::NotFound { registry, name: format!("{}{joint}{version}", self.name) }
            }
            StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { registry, again },
            status => RegistryError::Failed { registry, status, message },
        }
    }
}

impl Server for Repository {
    async fn ask(&self, url: &str, from: u64, work: &dyn Work) -> Result<Response, DownloadError> {
        let request = || part(self.client.http.get(url), from);
        let response = self.send(&request, url, work).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            _ => Err(self.refusal(response, url).await.into()),
        }
    }
}

/// Fails if a document is not what was asked for.
fn verified(fetched: Fetched, url: &str, expected: Option<Digest>) -> Result<Fetched, DownloadError> {
    match expected {
        Some(expected) if expected != fetched.digest => {
            Err(DownloadError::Digest { url: url.to_owned(), expected, found: fetched.digest })
        }
        _ => Ok(fetched),
    }
}

/// When a server says to come again, if it says so in seconds (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// OCI distribution-spec, "Error Codes".
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns what a registry says of an error, on one line.
fn message_of(document: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice(document) else { return String::new() };
    let Some(Message { code, message }) = errors.into_iter().next() else { return String::new() };
    let message = if message.is_empty() { code } else { message };
    message.chars().filter(|character| !character.is_control()).take(200).collect()
}

fn printable_host(url: &str) -> String {
    reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
