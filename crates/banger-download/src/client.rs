//! The HTTP client that everything here shares, and how long it waits.

use std::time::Duration;

use banger_core::work::{Cancelled, Work};
use reqwest::header::RANGE;
use reqwest::{Certificate, Proxy, Response, StatusCode, redirect};

use crate::DownloadError;
use crate::transfer::Server;

/// How often a server is asked for a document that it fails to give.
const ATTEMPTS: u32 = 4;
/// How often a server may send somewhere else.
const MOST_REDIRECTS: usize = 10;

/// How long servers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long one may take until it is connected to.
    pub connect: Duration,
    /// How long it may say nothing.
    pub silence: Duration,
    /// Over how long its pace is looked at.
    pub window: Duration,
    /// How many bytes have to come in that time.
    pub least: u64,
    /// What is waited after the first failure; twice as long after each further one.
    pub pause: Duration,
    /// How long it is waited when a server says for how long it wants to hear nothing.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            window: Duration::from_mins(1),
            // 1 KiB a second: the slowest telephones of old had more.
            least: 60 << 10,
            pause: Duration::from_millis(250),
            longest_wait: Duration::from_mins(1),
        }
    }
}

/// An HTTP client.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) patience: Patience,
}

impl Client {
    /// Returns a client that trusts the certificates that this host trusts and, beside them, those in `authorities`: PEM
    /// files' contents. It uses the proxies that the environment names.
    pub fn new(authorities: &[Vec<u8>], patience: Patience) -> Result<Self, DownloadError> {
        let mut certificates = Vec::new();
        for pem in authorities {
            certificates.extend(Certificate::from_pem_bundle(pem).map_err(DownloadError::Client)?);
        }
        let http = patient(patience).tls_certs_merge(certificates).build().map_err(DownloadError::Client)?;
        Ok(Self { http, patience })
    }

    /// Returns a client that asks through these proxies, each for addresses of its scheme: `http` or `https`. Without any it
    /// uses those that the environment names.
    pub fn through(proxies: &[(String, String)], patience: Patience) -> Result<Self, DownloadError> {
        let mut builder = patient(patience);
        for (scheme, proxy) in proxies {
            let proxy = if scheme == "https" { Proxy::https(proxy) } else { Proxy::http(proxy) };
            builder = builder.proxy(proxy.map_err(DownloadError::Client)?);
        }
        Ok(Self { http: builder.build().map_err(DownloadError::Client)?, patience })
    }
}

fn patient(patience: Patience) -> reqwest::ClientBuilder {
    builder()
        .connect_timeout(patience.connect)
        .read_timeout(patience.silence)
        .redirect(redirect::Policy::custom(follow))
}

/// Returns what every client here begins with.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    // It asks for the process's own. An error means that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().user_agent(concat!("banger/", env!("CARGO_PKG_VERSION")))
}

/// Follows a redirect, but never from `https:` to what anybody on the way can read.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let secure = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
    if secure && attempt.url().scheme() != "https" {
        return attempt.error("it sends from https: to another address that is not");
    }
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("it sends from one address to the next for ever");
    }
    attempt.follow()
}

impl Client {
    /// Whether a registry on this host speaks HTTP without TLS: one that does not answers what is no HTTP, or nothing.
    pub async fn speaks_plain_http(&self, host: &str, work: &dyn Work) -> Result<bool, DownloadError> {
        let url = format!("http://{host}/v2/");
        let answer = cancellable(work, self.http.get(url).send()).await?;
        // OCI distribution-spec, "Determining Support".
        let is_registry = |status| matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED);
        Ok(answer.is_ok_and(|answer| is_registry(answer.status())))
    }
}

impl Server for Client {
    async fn ask(&self, url: &str, from: u64, _work: &dyn Work) -> Result<Response, DownloadError> {
        self.send(part(self.http.get(url), from), url).await
    }
}

impl Client {
    pub(crate) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
    ) -> Result<Response, DownloadError> {
        request.send().await.map_err(|error| broken(url, error))
    }
}

impl Client {
    /// Asks until it is there, or nothing more is to be hoped for.
    pub(crate) async fn persist<T, F: Future<Output = Result<T, DownloadError>> + Send>(
        &self,
        work: &dyn Work,
        ask: impl Fn() -> F,
    ) -> Result<T, DownloadError> {
        let mut failures = 0;
        loop {
            let error = match cancellable(work, ask()).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            if !error.may_pass() || failures >= ATTEMPTS {
                return Err(error);
            }
            work.log(&format!("{error}; once more"));
            let pause = tokio::time::sleep(self.patience.pause * 2_u32.pow(failures - 1));
            cancellable(work, pause).await?;
        }
    }

    /// Reads an answer that should be short.
    pub(crate) async fn body(
        &self,
        mut response: Response,
        limit: u64,
        url: &str,
    ) -> Result<Vec<u8>, DownloadError> {
        let mut bytes = Vec::new();
        let read = async {
            while let Some(chunk) = response.chunk().await.map_err(|error| broken(url, error))? {
                if (bytes.len() + chunk.len()) as u64 > limit {
                    return Err(DownloadError::TooLong { url: url.to_owned(), limit });
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok::<_, DownloadError>(())
        };
        // All of it has to come within the time in which some of a file has to: a byte now and then is not enough.
        let window = self.patience.window;
        let slow = |_| DownloadError::TooSlow { url: url.to_owned(), bytes: 0, seconds: window.as_secs() };
        tokio::time::timeout(window, read).await.map_err(slow)??;
        Ok(bytes)
    }

    /// Asks for a document that should be short.
    pub(crate) async fn document(
        &self,
        url: &str,
        limit: u64,
        work: &dyn Work,
    ) -> Result<Vec<u8>, DownloadError> {
        let ask = || async {
            let response = self.send(self.http.get(url), url).await?;
            match response.status() {
                StatusCode::OK => self.body(response, limit, url).await,
                status => Err(DownloadError::Refused { url: url.to_owned(), status }),
            }
        };
        self.persist(work, ask).await
    }
}

/// Asks for what comes from a place on.
pub(crate) fn part(request: reqwest::RequestBuilder, from: u64) -> reqwest::RequestBuilder {
    if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request }
}

/// Returns what went wrong on the way.
pub(crate) fn broken(url: &str, source: reqwest::Error) -> DownloadError {
    // The address stands in the error already.
    DownloadError::Transport { url: url.to_owned(), source: source.without_url() }
}

/// Waits for `future`, but not beyond a cancel.
pub(crate) async fn cancellable<T>(
    work: &dyn Work,
    future: impl Future<Output = T>,
) -> Result<T, DownloadError> {
    work.check()?;
    let (notify, cancelled) = tokio::sync::oneshot::channel();
    let _guard = work.on_cancel(Box::new(move || _ = notify.send(())));
    tokio::select! {
        biased;
        value = future => Ok(value),
        Ok(()) = cancelled => Err(DownloadError::Cancelled(Cancelled)),
    }
}
